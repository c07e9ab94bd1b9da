import pytest
from rest_framework.test import APIClient

from sandboxes import engine
from sandboxes.models import Pool
from tests import factories
from tests.api.sandboxes.test_executions import client_of, problem

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("runtime")]

URL = "/api/v1/pools"


@pytest.fixture
def account():
    return factories.make_account()


@pytest.fixture
def api(account):
    return client_of(account)


def open_pool(api, **changes):
    return api.post(URL, {"name": "fast", "template": "python"} | changes, format="json")


def test_python_and_node_are_there_from_the_start(api):
    templates = api.get("/api/v1/templates").json()["results"]
    pools = api.get(URL).json()["results"]

    assert {(row["name"], row["language"], row["state"]) for row in templates} == {
        ("python", "python", "ready"),
        ("node", "node", "ready"),
    }
    assert {row["name"] for row in pools} == {"python", "node"}
    assert pools[0]["counts"] == {"starting": 0, "ready": 2, "running": 0, "draining": 0, "failed": 0}
    assert api.get(f"/api/v1/templates/{templates[0]['id']}").json() == templates[0]


def test_a_pool_is_opened_with_the_contracts_defaults(api):
    body = open_pool(api).json()

    assert {name: body[name] for name in ("min_size", "max_size", "idle_timeout_seconds", "max_age_seconds")} == {
        "min_size": 2,
        "max_size": 10,
        "idle_timeout_seconds": 300,
        "max_age_seconds": 3600,
    }
    assert body["counts"] == {"starting": 0, "ready": 0, "running": 0, "draining": 0, "failed": 0}
    assert body["totals"] == {"executions": 0, "cpu_ms": 0, "memory_bytes": 0}
    assert body["version"] == 1


def test_executions_run_in_it_by_name(api):
    pk = open_pool(api).json()["id"]

    execution = api.post("/api/v1/executions", {"pool": "fast", "code": "1"}, format="json").json()

    assert execution["pool"] == pk
    assert api.get(f"{URL}/{pk}").json()["queued"] == 1


def test_a_name_is_taken_once_in_an_account(api):
    open_pool(api)

    assert problem(open_pool(api)) == (409, "conflict")
    other = client_of(factories.make_account(factories.make_user("Charlie")))
    assert open_pool(other).status_code == 201


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"name": ""}, "name"),
        ({"name": "x" * 81}, "name"),
        ({"template": "nope"}, "template"),
        ({"min_size": 5, "max_size": 4}, "min_size"),
        ({"max_size": 0}, "max_size"),
        ({"max_size": "3"}, "max_size"),
        ({"limits": {"cpu": 99}}, "limits.cpu"),
        ({"idle_timeout_seconds": 0}, "idle_timeout_seconds"),
        ({"colour": "red"}, "colour"),
        ({"runtimes": "local"}, "runtimes"),
        ({"runtimes": [3]}, "runtimes.0"),
        ({"runtimes": ["mars"]}, "runtimes"),
        ({"runtimes": ["local", "local"]}, "runtimes"),
        ({"runtimes": ["e2b"]}, "runtimes"),
    ],
)
def test_a_bad_pool_is_400_and_names_the_field(api, changes, field):
    answer = open_pool(api, **changes)

    assert problem(answer) == (400, "validation_error")
    assert field in answer.json()["errors"]


def test_a_change_counts_the_version_and_a_stale_one_is_409(api):
    pk = open_pool(api).json()["id"]

    changed = api.patch(f"{URL}/{pk}", {"max_size": 4}, format="json", HTTP_IF_MATCH='"1"')
    stale = api.patch(f"{URL}/{pk}", {"max_size": 5, "version": 1}, format="json")

    assert (changed.json()["max_size"], changed.json()["version"]) == (4, 2)
    assert problem(stale) == (409, "conflict")
    assert Pool.objects.get(pk=pk).max_size == 4


def test_a_pool_in_use_is_not_closed(account, api):
    pk = open_pool(api).json()["id"]
    execution = api.post("/api/v1/executions", {"pool": "fast", "code": "1"}, format="json").json()

    assert problem(api.delete(f"{URL}/{pk}")) == (409, "conflict")
    api.post(f"/api/v1/executions/{execution['id']}/cancel")
    assert api.delete(f"{URL}/{pk}").status_code == 204
    assert api.get(f"/api/v1/executions/{execution['id']}").json()["pool"] is None


def test_what_everybody_uses_is_changed_by_staff_only(api):
    pk = str(Pool.objects.get(account=None, name="python").pk)
    stella = APIClient()
    stella.force_login(factories.make_staff())

    assert problem(api.patch(f"{URL}/{pk}", {"max_size": 1}, format="json")) == (403, "staff_required")
    assert problem(api.delete(f"{URL}/{pk}")) == (403, "staff_required")


def test_anothers_pool_is_404(api):
    foreign = factories.make_pool(factories.make_account(factories.make_user("Charlie")))

    for answer in (
        api.get(f"{URL}/{foreign.pk}"),
        api.patch(f"{URL}/{foreign.pk}", {"max_size": 1}, format="json"),
        api.delete(f"{URL}/{foreign.pk}"),
    ):
        assert problem(answer) == (404, "not_found")
    assert str(foreign.pk) not in str(api.get(URL).json())


def test_a_pool_says_where_it_runs_and_may_be_told(api, e2b):
    usual = open_pool(api).json()
    own = open_pool(api, name="cloud", runtimes=["local", "e2b"]).json()

    assert (usual["runtimes"], own["runtimes"]) == (["local"], ["local", "e2b"])
    changed = api.patch(f"{URL}/{own['id']}", {"runtimes": ["e2b"]}, format="json")
    assert (changed.json()["runtimes"], changed.json()["version"]) == (["e2b"], 2)
    assert api.patch(f"{URL}/{own['id']}", {"runtimes": []}, format="json").json()["runtimes"] == ["local"]


def test_a_change_that_would_strand_what_waits_is_409(api, e2b):
    pk = open_pool(api, runtimes=["local", "e2b"]).json()["id"]
    e2b.refuses = {"limits.cpu": "A sandbox at E2B has 2 CPUs."}
    api.post("/api/v1/executions", {"pool": "fast", "code": "1"}, format="json")

    assert problem(api.patch(f"{URL}/{pk}", {"runtimes": ["e2b"]}, format="json")) == (409, "conflict")


def test_what_the_only_runtime_could_not_keep_is_400_and_names_the_field(api, e2b):
    open_pool(api, runtimes=["e2b"])
    e2b.refuses = {"limits.memory_mb": "A sandbox at E2B has 512 MB."}

    answer = api.post("/api/v1/executions", {"pool": "fast", "code": "1"}, format="json")

    assert problem(answer) == (400, "validation_error")
    assert answer.json()["errors"] == {"limits.memory_mb": ["A sandbox at E2B has 512 MB."]}


def test_while_the_only_runtime_is_away_it_is_503_with_its_reasons(api, e2b):
    open_pool(api, runtimes=["e2b"])
    e2b.reasons = ["E2B does not let us in: correct E2B_API_KEY."]
    engine.forget("e2b")

    answer = api.post("/api/v1/executions", {"pool": "fast", "code": "1"}, format="json")

    assert problem(answer) == (503, "sandbox_error")
    assert answer.json()["reasons"] == ["E2B does not let us in: correct E2B_API_KEY."]


def test_a_viewer_who_owns_another_account_changes_and_closes_no_pool_that_she_only_sees(account, api):
    address = f"{URL}/{open_pool(api).json()['id']}"
    vera = factories.make_viewer(account)
    own = factories.make_account(vera, name="Vera's own")
    browser = APIClient()
    browser.force_login(vera)

    changed = browser.patch(f"{address}?account={own.pk}", {"max_size": 3}, format="json")
    closed = browser.delete(f"{address}?account={own.pk}")

    assert browser.get(f"{address}?account={own.pk}").status_code == 200
    assert (changed.status_code, closed.status_code) == (404, 404)
    assert Pool.objects.get(name="fast").max_size == 10
