"""The HTTP promises about disputes."""

from __future__ import annotations

import pytest

from tests import payment_cast

pytestmark = pytest.mark.django_db


def test_disputes_are_listed_and_shown_to_their_account_alone(alice, charlie):
    payment_cast.buy(alice.account, 100, "sim_disputed")
    payment_cast.send_webhooks()

    (found,) = alice.get("disputes", state="opened").json()["results"]

    assert (found["state"], found["amount"]) == ("opened", {"amount": "1.00", "currency": "EUR"})
    assert (found["credits"], found["taken"]) == ("100.000000", "100.000000")
    assert alice.get(f"disputes/{found['id']}").json() == found
    assert alice.get("disputes", state="won").json()["results"] == []
    assert charlie.get(f"disputes/{found['id']}").status_code == 404
    assert charlie.get("disputes").json()["results"] == []


def test_staff_hand_in_evidence_and_customers_do_not(alice, stella):
    payment_cast.buy(alice.account, 100, "sim_disputed")
    payment_cast.send_webhooks()
    (found,) = alice.get("disputes").json()["results"]
    address, body = f"disputes/{found['id']}/evidence", {"evidence": {"access_activity_log": "It ran\nfor 3 h."}}
    assert found["evidence_due_at"].endswith("Z")
    assert alice.post(address, body).json()["code"] == "staff_required"

    made = stella.post(address, body, key="once")

    assert (made.status_code, made.json()["state"], made.json()["evidence"]) == (201, "accepted", body["evidence"])
    assert stella.post(address, body, key="once").headers["Idempotent-Replayed"] == "true"
    assert [each["id"] for each in stella.get(address).json()["results"]] == [made.json()["id"]]
    assert alice.get(address).status_code == 403
    assert alice.get(f"disputes/{found['id']}").json()["state"] == "under_review"
    payment_cast.send_webhooks()
    late = stella.post(address, {"evidence": {"uncategorized_text": "More."}})
    assert (late.status_code, late.json()["state"]) == (409, "won")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "evidence"),
        ({"evidence": {}}, "evidence"),
        ({"evidence": "text"}, "evidence"),
        ({"evidence": {"no_such": "text"}}, "evidence.no_such"),
        ({"evidence": {"uncategorized_text": " "}}, "evidence.uncategorized_text"),
        ({"evidence": {"customer_name": "a\nb"}}, "evidence.customer_name"),
        ({"evidence": {"uncategorized_text": "x" * 20_001}}, "evidence.uncategorized_text"),
        ({"evidence": {"uncategorized_text": "text"}, "more": 1}, "more"),
    ],
)
def test_bad_evidence_is_named_and_nothing_is_handed_in(alice, stella, body, field):
    payment_cast.buy(alice.account, 100, "sim_disputed")
    payment_cast.send_webhooks()
    (found,) = alice.get("disputes").json()["results"]

    answer = stella.post(f"disputes/{found['id']}/evidence", body)

    assert (answer.status_code, answer.json()["code"]) == (400, "validation_error")
    assert field in answer.json()["errors"]
    assert stella.get(f"disputes/{found['id']}/evidence").json()["results"] == []
