"""The HTTP promises about budgets, alerts, and what a budget refuses."""

from __future__ import annotations

import pytest

from billing import alerts
from billing.models import Alert
from tests import factories
from tests.ledger_cast import NOON
from tests.scripted import runtime  # noqa: F401 - executions of these tests run nowhere

pytestmark = pytest.mark.django_db
DAY = {"scope": "account", "window": "day", "limit": "10", "action": "block"}


def test_a_budget_is_made_shown_changed_and_removed(alice):
    made = alice.post("budgets", {**DAY, "thresholds": [80]})
    found = made.json()
    path = f"budgets/{found['id']}"

    assert made.status_code == 201
    assert (found["limit"], found["target"], found["thresholds"]) == ("10.000000", None, [80])
    assert alice.get("budgets", scope="account").json()["results"] == [found]
    changed = alice.patch(path, {"limit": "20", "action": "notify", "thresholds": []}).json()
    assert (changed["limit"], changed["action"], changed["thresholds"]) == ("20.000000", "notify", [])
    assert alice._client.delete(f"/api/v1/{path}").status_code == 204
    assert alice.get(path).status_code == 404


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"scope": "planet"}, "scope"),
        ({"scope": "agent"}, "target"),
        ({"scope": "meter", "target": "coffee"}, "target"),
        ({"target": "eu-7"}, "target"),
        ({"window": "year"}, "window"),
        ({"limit": "0"}, "limit"),
        ({"limit": 10}, "limit"),
        ({"action": "shout"}, "action"),
        ({"thresholds": [0]}, "thresholds.0"),
        ({"thresholds": ["50"] * 11}, "thresholds"),
    ],
)
def test_a_budget_that_cannot_be_is_refused_by_field(alice, changes, field):
    answer = alice.post("budgets", DAY | changes)

    assert (answer.status_code, answer.json()["code"]) == (400, "validation_error")
    assert field in answer.json()["errors"]


def test_a_second_one_for_the_same_is_a_conflict(alice):
    alice.post("budgets", DAY)

    answer = alice.post("budgets", DAY)

    assert (answer.status_code, answer.json()["code"]) == (409, "conflict")


def test_what_exceeds_it_is_402_and_said_in_a_batch_too(alice):
    budget = alice.post("budgets", DAY).json()
    event = {"id": "1", "source": "test", "meter": "mcp_call", "quantity": "11"}
    spends = [
        alice.post("usage/events", event),
        alice.post("holds", {"amount": "11", "expires_in_seconds": 60}),
    ]
    batch = alice.post("usage/events", {"events": [{**event, "quantity": "10"}, {**event, "id": "2"}]}).json()

    for answer in spends:
        assert (answer.status_code, answer.json()["code"]) == (402, "budget_exceeded")
        assert (answer.json()["budget"], answer.json()["needed"]) == (budget["id"], "11.000000")
    assert [row["status"] for row in batch["results"]] == ["accepted", "budget_exceeded"]
    assert alice.get(f"budgets/{budget['id']}").json()["spent"] == "10.000000"


def test_a_budget_of_a_key_counts_what_that_key_does(alice):
    other = type(alice)(alice.account)
    key, _ = factories.make_key(alice.account, name="other")
    mine = alice.get("api-keys").json()["results"][-1]["id"]
    alice.post("budgets", {**DAY, "scope": "api_key", "target": str(mine)})
    event = {"id": "1", "source": "test", "meter": "mcp_call", "quantity": "11"}

    assert alice.post("usage/events", event).status_code == 402
    assert other.post("usage/events", event).status_code == 201


def test_an_execution_beyond_a_budget_is_refused_and_nothing_is_held(alice, runtime):  # noqa: F811
    alice.post("budgets", {**DAY, "scope": "meter", "target": "sandbox_second", "limit": "0.000001"})

    answer = alice.post("executions", {"language": "python", "code": "print(1)", "timeout_seconds": 60})

    assert (answer.status_code, answer.json()["code"]) == (402, "budget_exceeded")
    assert alice.get("account/balance").json()["held"] == "0.000000"


def test_alerts_are_listed(alice):
    alice.post("budgets", {**DAY, "action": "notify"})
    alice.post("usage/events", {"id": "1", "source": "test", "meter": "mcp_call", "quantity": "8"})
    alerts.sweep(now=NOON)

    found = alice.get("alerts", kind="threshold").json()["results"]

    assert [row["threshold"] for row in sorted(found, key=lambda row: row["threshold"])] == [50, 80]
    assert {row["amount"] for row in found} == {"8.000000"}
    assert all(row["told_at"] for row in found)
    assert Alert.objects.count() == 2


def test_the_warning_of_low_credits_is_set_with_the_account(alice):
    assert alice.get("account").json()["low_balance_credits"] == "100.000000"
    assert alice.patch("account", {"low_balance_credits": "50"}).json()["low_balance_credits"] == "50.000000"
    assert alice.patch("account", {"low_balance_credits": None}).json()["low_balance_credits"] is None


def test_others_find_nothing(alice, charlie):
    path = f"budgets/{alice.post('budgets', DAY).json()['id']}"

    assert [charlie.get(path).status_code, charlie.patch(path, {"limit": "1"}).status_code] == [404, 404]
    assert charlie.get("budgets").json()["results"] == []
