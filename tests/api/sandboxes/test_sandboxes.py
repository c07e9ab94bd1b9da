"""Long-lived sandboxes over HTTP: shapes, refusals, 410 after the end, and executions in them."""

from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from django.utils.dateparse import parse_datetime

from billing import ledger
from sandboxes import claims, executor, keeping, lifetimes
from sandboxes.models import Execution, Sandbox
from tests import factories
from tests.api.sandboxes.test_executions import client_of, problem

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("runtime")]

URL = "/api/v1/sandboxes"
EXECUTIONS = "/api/v1/executions"


@pytest.fixture
def account():
    return factories.make_account()


@pytest.fixture
def api(account):
    return client_of(account)


@pytest.fixture
def sandbox(account):
    return factories.make_sandbox(account)


def open_sandbox(api, query="", **changes):
    return api.post(URL + query, {"template": "python"} | changes, format="json")


def submit(api, in_sandbox, /, **changes):
    return api.post(EXECUTIONS, {"sandbox": str(in_sandbox.pk), "code": "print(1)"} | changes, format="json")


def run_next():
    executor.run(execution=claims.claim_in_sandbox(now=timezone.now()), clock=timezone.now)


def test_opening_answers_201_with_everything_of_the_contract(api):
    asked = {"ttl_seconds": 600, "limits": {"memory_mb": 256}, "env": {"KEY": "secret"}, "metadata": {"name": "bench"}}

    answer = open_sandbox(api, **asked)

    body = answer.json()
    assert answer.status_code == 201
    assert (body["state"], body["template"], body["language"]) == ("creating", "python", "python")
    assert (body["ttl_seconds"], body["network"], body["metadata"]) == (600, False, {"name": "bench"})
    assert body["limits"] == {"cpu": 1.0, "memory_mb": 256, "disk_mb": 240, "processes": 64, "output_kb": 1024}
    assert parse_datetime(body["expires_at"]) - parse_datetime(body["created_at"]) == timedelta(seconds=600)
    assert (body["cost_credits"], body["charged_until"], body["error"]) == ("0.000000", None, None)
    for name in ("node", "runtime", "opened_at", "ended_at", "last_execution"):
        assert body[name] is None, name
    assert "secret" not in answer.content.decode()


def test_the_answer_is_ready_when_it_was_opened_meanwhile(api, monkeypatch):
    def open_now(sandbox, *, seconds):
        lifetimes.open_here(sandbox_id=sandbox.pk, clock=timezone.now)

    monkeypatch.setattr(keeping, "wait_until_open", open_now)

    body = open_sandbox(api).json()

    assert (body["state"], body["runtime"], bool(body["node"])) == ("ready", "local", True)
    assert body["expires_at"].endswith("Z")


def test_a_template_is_named_by_id_too(api):
    template = api.get("/api/v1/templates").json()["results"][0]

    assert open_sandbox(api, template=template["id"]).json()["template"] == template["name"]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"template": "cobol"}, "template"),
        ({"template": None}, "template"),
        ({"ttl_seconds": 0}, "ttl_seconds"),
        ({"ttl_seconds": 86_401}, "ttl_seconds"),
        ({"ttl_seconds": "300"}, "ttl_seconds"),
        ({"limits": {"memory_mb": 8}}, "limits.memory_mb"),
        ({"limits": {"memory_mb": 64, "disk_mb": 64}}, "limits.disk_mb"),
        ({"env": {"1": "x"}}, "env"),
        ({"metadata": {"a": 1}}, "metadata.a"),
        ({"network": "yes"}, "network"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_a_bad_body_is_400_and_names_the_field(api, changes, field):
    answer = open_sandbox(api, **changes)

    assert problem(answer) == (400, "validation_error")
    assert field in answer.json()["errors"]
    assert not Sandbox.objects.exists()


def test_refusals_have_their_codes(api, account, runtime):
    assert problem(open_sandbox(api, network=True)) == (403, "network_not_allowed")
    assert problem(open_sandbox(api, env={"A": "x" * 200_000})) == (413, "payload_too_large")
    runtime.reasons = ["away"]
    assert problem(open_sandbox(api)) == (503, "sandbox_error")


def test_without_credits_it_is_402(api, account):
    spare = ledger.balance(account_id=account.pk, now=timezone.now()).available_ucr
    ledger.charge(account_id=account.pk, amount_ucr=spare, key="all", source="test", now=timezone.now())

    answer = open_sandbox(api)

    assert problem(answer) == (402, "insufficient_credits")
    assert answer.json()["detail"] == "Insufficient credits: need 1.666667, have 0"


def test_the_same_idempotency_key_opens_one(api):
    bodies = [
        api.post(URL, {"template": "python"}, format="json", HTTP_IDEMPOTENCY_KEY="once").json() for _ in range(2)
    ]

    assert bodies[0]["id"] == bodies[1]["id"]
    assert Sandbox.objects.count() == 1


def test_it_is_read_and_given_more_time(api, sandbox):
    before = api.get(f"{URL}/{sandbox.pk}").json()
    longer = api.patch(f"{URL}/{sandbox.pk}", {"ttl_seconds": 3000}, format="json")

    assert (before["state"], before["id"]) == ("ready", str(sandbox.pk))
    assert longer.status_code == 200
    assert longer.json()["ttl_seconds"] == 3000
    left = parse_datetime(longer.json()["expires_at"]) - timezone.now()
    assert timedelta(seconds=2990) < left <= timedelta(seconds=3000)


@pytest.mark.parametrize(
    "body", [{}, {"ttl_seconds": 0}, {"ttl_seconds": 90_000}, {"ttl_seconds": None}, {"metadata": {}}]
)
def test_a_bad_change_is_400(api, sandbox, body):
    assert problem(api.patch(f"{URL}/{sandbox.pk}", body, format="json")) == (400, "validation_error")


def test_after_its_end_every_access_is_410_but_the_list_shows_it(api, sandbox):
    first, again = api.delete(f"{URL}/{sandbox.pk}"), api.delete(f"{URL}/{sandbox.pk}")

    assert (first.status_code, again.status_code) == (204, 204)
    for answer in (
        api.get(f"{URL}/{sandbox.pk}"),
        api.patch(f"{URL}/{sandbox.pk}", {"ttl_seconds": 60}, format="json"),
        submit(api, sandbox),
    ):
        assert problem(answer) == (410, "gone")
        assert answer.json()["state"] == "gone"
        assert answer.json()["detail"] == (
            "This sandbox has ended. It was closed. Its files are gone: open another one."
        )
    [row] = api.get(URL).json()["results"]
    assert (row["id"], row["state"], bool(row["ended_at"])) == (str(sandbox.pk), "gone", True)


def test_one_that_could_not_be_opened_is_gone_with_the_reason(api, account):
    sandbox = factories.make_sandbox(account, is_open=False)
    lifetimes.sweep(now=timezone.now() + timedelta(minutes=11))

    answer = api.get(f"{URL}/{sandbox.pk}")

    assert problem(answer) == (410, "gone")
    assert answer.json()["state"] == "failed"
    assert "No node took it in time" in answer.json()["detail"]


def test_the_list_is_narrowed_by_the_state_people_see(api, account, sandbox):
    busy = factories.make_sandbox(account)
    submit(api, busy)
    claims.claim_in_sandbox(now=timezone.now())
    waiting = factories.make_sandbox(account, is_open=False)

    def listed(state):
        return [(row["id"], row["state"]) for row in api.get(f"{URL}?state={state}").json()["results"]]

    assert listed("ready") == [(str(sandbox.pk), "ready")]
    assert listed("running") == [(str(busy.pk), "running")]
    assert listed("creating") == [(str(waiting.pk), "creating")]
    assert listed("gone") == []
    assert problem(api.get(f"{URL}?state=reserved")) == (400, "validation_error")
    assert problem(api.get(f"{URL}?created_after=yesterday")) == (400, "validation_error")


def test_the_list_takes_the_same_few_queries_for_one_or_many(api, account, sandbox):
    api.get(URL)
    with CaptureQueriesContext(connection) as one:
        api.get(URL)
    for _ in range(4):
        submit(api, factories.make_sandbox(account))
    with CaptureQueriesContext(connection) as many:
        rows = api.get(URL).json()["results"]

    assert len(rows) == 5
    assert len(many) == len(one)


def test_another_ones_is_404_and_its_list_is_empty(sandbox):
    charlie = client_of(factories.make_account(factories.make_user("Charlie")))

    for answer in (
        charlie.get(f"{URL}/{sandbox.pk}"),
        charlie.patch(f"{URL}/{sandbox.pk}", {"ttl_seconds": 60}, format="json"),
        charlie.delete(f"{URL}/{sandbox.pk}"),
    ):
        assert problem(answer) == (404, "not_found")
    assert charlie.get(URL).json()["results"] == []
    answer = submit(charlie, sandbox)
    assert answer.json()["errors"] == {"sandbox": ["There is no such sandbox."]}


def test_a_key_that_may_only_read_opens_nothing(account, sandbox):
    reader = client_of(account, scopes=("sandboxes:read",))

    assert reader.get(f"{URL}/{sandbox.pk}").status_code == 200
    assert problem(open_sandbox(reader)) == (403, "missing_scope")
    assert problem(reader.delete(f"{URL}/{sandbox.pk}")) == (403, "missing_scope")


# --- executions in it


def test_an_execution_names_its_sandbox_and_costs_nothing(api, sandbox):
    body = submit(api, sandbox).json()
    run_next()
    after = api.get(f"{EXECUTIONS}/{body['id']}").json()

    assert (body["state"], body["sandbox"], body["pool"], body["language"]) == (
        "queued",
        str(sandbox.pk),
        None,
        "python",
    )
    assert (after["state"], after["sandbox"], after["cost_credits"]) == ("succeeded", str(sandbox.pk), "0.000000")
    assert api.get(f"{URL}/{sandbox.pk}").json()["last_execution"] == body["id"]


def test_while_busy_it_is_409_unless_one_asks_to_wait(api, sandbox):
    submit(api, sandbox)

    refused, waiting = submit(api, sandbox), submit(api, sandbox, queue=True)

    assert problem(refused) == (409, "conflict")
    assert refused.json()["state"] == "running"
    assert waiting.status_code == 201
    assert waiting.json()["state"] == "queued"


def test_executions_are_listed_by_sandbox(api, sandbox):
    mine = submit(api, sandbox).json()["id"]
    api.post(EXECUTIONS, {"language": "python", "code": "1"}, format="json")

    assert [row["id"] for row in api.get(f"{EXECUTIONS}?sandbox={sandbox.pk}").json()["results"]] == [mine]
    assert problem(api.get(f"{EXECUTIONS}?sandbox=x")) == (400, "validation_error")


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"limits": {"cpu": 1}}, "limits"),
        ({"network": True}, "network"),
        ({"language": "python"}, "sandbox"),
        ({"queue": "yes"}, "queue"),
        ({"sandbox": "nonsense"}, "sandbox"),
    ],
)
def test_what_cannot_be_asked_of_it_is_400(api, sandbox, changes, field):
    answer = submit(api, sandbox, **changes)

    assert problem(answer) == (400, "validation_error")
    assert field in answer.json()["errors"]
    assert not Execution.objects.exists()


def test_a_batch_in_it_keeps_its_order_and_refuses_each_by_itself(api, sandbox):
    item = {"sandbox": str(sandbox.pk), "code": "print(1)"}
    items = [item, item, {**item, "queue": True}, {**item, "queue": True}]

    results = api.post(f"{EXECUTIONS}/batch", {"executions": items}, format="json").json()["results"]

    assert [each.get("state") for each in results] == ["queued", "running", "queued", "queued"]
    assert results[1]["code"] == "conflict"
    ran = []
    while (execution := claims.claim_in_sandbox(now=timezone.now())) is not None:
        executor.run(execution=execution, clock=timezone.now)
        ran.append(str(execution.pk))
    assert ran == [results[number]["id"] for number in (0, 2, 3)]
