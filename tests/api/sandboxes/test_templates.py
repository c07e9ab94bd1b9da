import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from rest_framework.test import APIClient

from sandboxes import builder
from sandboxes.models import Template
from sandboxes.runtimes import Built
from tests import factories
from tests.api.sandboxes.test_executions import client_of, problem

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("runtime")]

URL = "/api/v1/templates"


@pytest.fixture
def account():
    return factories.make_account()


@pytest.fixture
def api(account):
    return client_of(account)


def make(api, **changes):
    body = {"name": "mine", "language": "python", "packages": ["six==1.17.0", "Attrs==25.1.0"]}
    return api.post(URL, body | changes, format="json")


def build():
    builder.run(build=builder.claim(now=timezone.now()), clock=timezone.now)


def test_a_template_is_made_and_answers_with_everything(api):
    answer = make(api)

    body = answer.json()
    assert answer.status_code == 201
    assert {name: body[name] for name in ("name", "language", "packages", "state", "log", "error", "built_in")} == {
        "name": "mine",
        "language": "python",
        "packages": ["attrs==25.1.0", "six==1.17.0"],
        "state": "building",
        "log": "",
        "error": None,
        "built_in": False,
    }
    assert api.get(f"{URL}/{body['id']}").json() == body


def test_when_it_is_built_it_is_ready_and_executions_start_from_it_by_name_or_id(api, runtime):
    pk = make(api).json()["id"]
    early = api.post("/api/v1/executions", {"template": "mine", "code": "1"}, format="json")
    runtime.build_script = lambda request, on_output: on_output("stdout", 0, b"installed\n") or Built("lock", 4096)
    build()

    body = api.get(f"{URL}/{pk}").json()
    by_name = api.post("/api/v1/executions", {"template": "mine", "code": "1"}, format="json")
    by_id = api.post("/api/v1/executions", {"template": pk, "code": "1"}, format="json")

    assert problem(early) == (400, "validation_error")
    assert (body["state"], body["log"], body["size_bytes"]) == ("ready", "installed\n", 4096)
    assert [by_name.json()["template"], by_id.json()["template"]] == [pk, pk]


def test_a_failed_one_says_why_and_is_built_again_on_request(api, runtime):
    pk = make(api).json()["id"]
    runtime.build_script = lambda request, on_output: Built(reason="There is no such package.")
    build()
    failed = api.get(f"{URL}/{pk}").json()

    again = api.post(f"{URL}/{pk}/rebuild")

    assert (failed["state"], failed["error"]) == ("failed", "There is no such package.")
    assert (again.status_code, again.json()["state"], again.json()["error"]) == (200, "building", None)
    assert problem(api.post(f"{URL}/{pk}/rebuild")) == (409, "conflict")


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"name": ""}, "name"),
        ({"name": " "}, "name"),
        ({"name": "x" * 81}, "name"),
        ({"name": 7}, "name"),
        ({"name": "a\0"}, "name"),
        ({"language": "cobol"}, "language"),
        ({"language": None}, "language"),
        ({"packages": "six==1.17.0"}, "packages"),
        ({"packages": None}, "packages"),
        ({"packages": [f"p{n}==1" for n in range(51)]}, "packages"),
        ({"packages": ["six==1.17.0", "attrs"]}, "packages.1"),
        ({"packages": ["six==1.17.0", ""]}, "packages.1"),
        ({"packages": ["six==1.17.0", 7]}, "packages.1"),
        ({"packages": ["six==1.17.0", "x" * 201]}, "packages.1"),
        ({"packages": ["--index-url=https://example.com"]}, "packages.0"),
        ({"packages": ["six @ https://example.com/six.whl"]}, "packages.0"),
        ({"packages": ["../six==1.0"]}, "packages.0"),
        ({"packages": ["six>=1.0"]}, "packages.0"),
        ({"packages": ["six==1.17.0", "SIX==1.16.0"]}, "packages.1"),
        ({"packages": ["left-pad@1.3.0"]}, "packages.0"),
        ({"language": "node", "packages": ["left-pad@latest"]}, "packages.0"),
        ({"language": "node", "packages": ["x@git+ssh://example.com/x"]}, "packages.0"),
        ({"log": "x"}, "log"),
    ],
)
def test_a_bad_template_is_400_and_names_the_field_or_item(api, changes, field):
    answer = make(api, **changes)

    assert problem(answer) == (400, "validation_error")
    assert field in answer.json()["errors"]
    assert not Template.objects.exclude(account=None).exists()


@pytest.mark.parametrize("missing", ["name", "language", "packages"])
def test_every_field_is_needed(api, missing):
    body = {"name": "mine", "language": "python", "packages": []}
    del body[missing]

    answer = api.post(URL, body, format="json")

    assert problem(answer) == (400, "validation_error")
    assert missing in answer.json()["errors"]


def test_node_packages_with_scopes_are_fine(api):
    body = make(api, language="node", packages=["@scope/name@1.2.3", "left-pad@1.3.0"]).json()

    assert (body["language"], body["packages"]) == ("node", ["@scope/name@1.2.3", "left-pad@1.3.0"])


def test_a_name_is_taken_once_in_an_account(api):
    make(api)

    assert problem(make(api)) == (409, "conflict")
    assert make(client_of(factories.make_account(factories.make_user("Charlie")))).status_code == 201


def test_the_same_key_makes_one(api):
    body = {"name": "mine", "language": "python", "packages": ["six==1.17.0"]}

    first = api.post(URL, body, format="json", HTTP_IDEMPOTENCY_KEY="once")
    again = api.post(URL, body, format="json", HTTP_IDEMPOTENCY_KEY="once")

    assert first.json() == again.json()
    assert again.headers["Idempotent-Replayed"] == "true"


def test_one_nobody_uses_is_deleted_and_one_in_use_is_409(api):
    pk = make(api).json()["id"]
    api.post("/api/v1/pools", {"name": "fast", "template": "mine"}, format="json")

    in_use = api.delete(f"{URL}/{pk}")
    api.delete(f"/api/v1/pools/{api.get('/api/v1/pools').json()['results'][0]['id']}")

    assert problem(in_use) == (409, "conflict")
    assert in_use.json()["state"] == "in_use"
    assert api.delete(f"{URL}/{pk}").status_code == 204
    assert problem(api.get(f"{URL}/{pk}")) == (404, "not_found")


def test_what_came_with_the_product_is_staffs(api):
    pk = Template.objects.get(account=None, name="python").pk
    stella = APIClient()
    stella.force_login(factories.make_staff())

    assert problem(api.delete(f"{URL}/{pk}")) == (403, "staff_required")
    assert problem(stella.delete(f"{URL}/{pk}")) == (409, "conflict")


def test_another_accounts_template_is_not_there(api):
    other = client_of(factories.make_account(factories.make_user("Charlie")))
    pk = make(other).json()["id"]

    for answer in (api.get(f"{URL}/{pk}"), api.delete(f"{URL}/{pk}"), api.post(f"{URL}/{pk}/rebuild")):
        assert problem(answer) == (404, "not_found")
    assert [row["name"] for row in api.get(URL).json()["results"]] == ["node", "python"]


def test_a_viewer_elsewhere_cannot_delete_what_he_only_sees(account, api):
    pk = make(api).json()["id"]
    vera = factories.make_viewer(account)
    factories.make_account(vera, name="Vera's own")
    browser = APIClient()
    browser.force_login(vera)

    own = browser.get("/api/v1/account").json()
    assert browser.delete(f"{URL}/{pk}").status_code in (403, 404), own
    assert Template.objects.filter(pk=pk).exists()


def test_a_key_that_only_reads_makes_none(account):
    assert problem(make(client_of(account, scopes=("sandboxes:read",)))) == (403, "missing_scope")


def test_without_an_engine_it_is_503_with_the_reasons(api, runtime):
    runtime.reasons = ["bubblewrap: no user namespaces"]

    answer = make(api)

    assert problem(answer) == (503, "sandbox_error")
    assert answer.json()["reasons"] == ["bubblewrap: no user namespaces"]


def test_the_list_takes_the_same_few_queries_for_one_or_many(api):
    make(api)
    api.get(URL)
    with CaptureQueriesContext(connection) as one:
        api.get(URL)
    for number in range(4):
        make(api, name=f"t{number}", packages=[f"six==1.{number}"])
    with CaptureQueriesContext(connection) as many:
        rows = api.get(URL).json()["results"]

    assert len(rows) == 7
    assert len(many) == len(one)
