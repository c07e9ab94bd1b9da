from datetime import UTC, datetime

import pytest
from django.utils import timezone

from billing import ledger
from tests import ledger_cast
from tests.ledger_cast import UCR

MARCH = {"period_start": "2026-03-01T00:00:00Z", "period_end": "2026-04-01T00:00:00Z"}


def generate(stella, account, **changes):
    return stella.post("invoices/generate", {"account": str(account.pk), **MARCH, **changes})


@pytest.fixture
def draft(alice, stella):
    ledger_cast.use(alice.account, "mcp_call", 100)
    ledger_cast.use(alice.account, "inference", 50)
    return generate(stella, alice.account).json()


def test_a_draft_states_what_the_period_cost_in_money(alice, draft):
    assert (draft["state"], draft["number"], draft["overdue"]) == ("draft", None, False)
    assert [(line["meter"], line["quantity"], line["unit"], line["amount"]) for line in draft["lines"]] == [
        ("mcp_call", "100", "call", {"amount": "1.00", "currency": "EUR"}),
        ("inference", "50", "inference", {"amount": "5.00", "currency": "EUR"}),
    ]
    assert draft["lines"][1]["unit_price"] == {"amount": "0.10", "currency": "EUR"}
    assert (draft["total"]["amount"], draft["credits_applied"]["amount"], draft["amount_due"]["amount"]) == (
        "6.00",
        "6.00",
        "0.00",
    )
    assert alice.get(f"invoices/{draft['id']}").json() == draft


def test_generating_again_gives_the_same_draft_with_what_was_used_since(alice, stella, draft):
    ledger_cast.use(alice.account, "mcp_call", 100)

    again = generate(stella, alice.account)

    assert (again.status_code, again.json()["id"]) == (200, draft["id"])
    assert again.json()["total"]["amount"] == "7.00"


def test_finalize_numbers_the_invoice_and_pays_it_when_nothing_is_due(alice, stella, draft):
    answer = stella.post(f"invoices/{draft['id']}/finalize")

    found = answer.json()
    assert (answer.status_code, found["state"]) == (200, "paid")
    assert found["number"] == f"{timezone.now().year}-0001"
    assert found["customer"]["name"] == "Acme Capital"
    again = stella.post(f"invoices/{draft['id']}/finalize")
    assert (again.status_code, again.json()["state"]) == (409, "paid")


def test_an_invoice_of_usage_on_overdraft_is_open_until_marked_paid(alice, stella):
    ledger.set_overdraft(account_id=alice.account.pk, overdraft_ucr=500 * UCR)
    ledger_cast.use(alice.account, "mcp_call", 1200)
    draft = generate(stella, alice.account).json()

    opened = stella.post(f"invoices/{draft['id']}/finalize").json()
    paid = stella.post(f"invoices/{draft['id']}/mark-paid", {"reason": "bank transfer"})

    assert (opened["state"], opened["total"]["amount"], opened["amount_due"]["amount"]) == ("open", "12.00", "2.00")
    assert (paid.status_code, paid.json()["state"]) == (200, "paid")
    assert alice.get("account/balance").json()["posted"] == "0.000000"


def test_voiding_a_draft_and_a_paid_one(alice, stella, draft):
    other = generate(
        stella, alice.account, period_start="2026-04-01T00:00:00Z", period_end="2026-05-01T00:00:00Z"
    ).json()
    stella.post(f"invoices/{other['id']}/finalize")

    assert stella.post(f"invoices/{draft['id']}/void", {"reason": "mistake"}).json()["state"] == "void"
    refused = stella.post(f"invoices/{other['id']}/void")
    assert (refused.status_code, refused.json()["state"]) == (409, "paid")


def test_an_unfinished_period_cannot_be_final(alice, stella):
    draft = generate(
        stella, alice.account, period_start="2026-03-01T00:00:00Z", period_end="2026-12-31T00:00:00Z"
    ).json()
    if datetime(2026, 12, 31, tzinfo=UTC) > timezone.now():
        assert stella.post(f"invoices/{draft['id']}/finalize").status_code == 409


def test_overlap_with_a_final_period_is_409(alice, stella, draft):
    stella.post(f"invoices/{draft['id']}/finalize")

    answer = generate(stella, alice.account, period_start="2026-03-31T00:00:00Z", period_end="2026-04-30T00:00:00Z")

    assert (answer.status_code, answer.json()["code"]) == (409, "conflict")
    touching = generate(stella, alice.account, period_start="2026-04-01T00:00:00Z", period_end="2026-05-01T00:00:00Z")
    assert touching.status_code == 201


@pytest.mark.parametrize(
    "change", [{"period_end": "2026-03-01T00:00:00Z"}, {"period_end": "2028-03-01T00:00:00Z"}, {"period_start": "x"}]
)
def test_periods_that_cannot_be_are_400(alice, stella, change):
    assert generate(stella, alice.account, **change).status_code == 400


@pytest.mark.parametrize("act", ["finalize", "void", "mark-paid"])
def test_customers_cannot_decide_about_invoices(alice, draft, act):
    answer = alice.post(f"invoices/{draft['id']}/{act}")

    assert (answer.status_code, answer.json()["code"]) == (403, "staff_required")


def test_another_accounts_invoice_is_404(charlie, draft):
    assert charlie.get(f"invoices/{draft['id']}").status_code == 404
    assert charlie.get("invoices").json()["results"] == []


def test_the_running_period_is_previewed_and_not_stored(alice):
    ledger_cast.use(alice.account, "mcp_call", 3, now=timezone.now())

    found = alice.get("invoices/preview").json()

    assert (found["state"], found["total"]["amount"], [line["meter"] for line in found["lines"]]) == (
        "draft",
        "0.03",
        ["mcp_call"],
    )
    assert alice.get("invoices").json()["results"] == []


def test_invoices_are_listed_by_state_in_few_queries(alice, stella, draft, django_assert_max_num_queries):
    generate(stella, alice.account, period_start="2026-04-01T00:00:00Z", period_end="2026-05-01T00:00:00Z")
    alice.get("invoices")

    with django_assert_max_num_queries(5):
        rows = alice.get("invoices", state="draft").json()["results"]

    assert len(rows) == 2
    assert alice.get("invoices", state="open").json()["results"] == []
