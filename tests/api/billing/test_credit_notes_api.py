import csv
import io

import pytest

from billing import ledger
from tests import ledger_cast
from tests.ledger_cast import UCR

MARCH = {"period_start": "2026-03-01T00:00:00Z", "period_end": "2026-04-01T00:00:00Z"}
EUR = {"currency": "EUR"}


@pytest.fixture
def invoice(alice, stella):
    """Final, with 1.00 and 5.00 on its two lines, all of it due."""
    ledger_cast.use(alice.account, "mcp_call", 1000)
    ledger.set_overdraft(account_id=alice.account.pk, overdraft_ucr=1000 * UCR)
    draft = stella.post("invoices/generate", {"account": str(alice.account.pk), **MARCH}).json()
    stella.post(f"invoices/{draft['id']}/void")
    ledger_cast.use(alice.account, "inference", 50)
    draft = stella.post("invoices/generate", {"account": str(alice.account.pk), **MARCH}).json()
    return stella.post(f"invoices/{draft['id']}/finalize").json()


def money(amount):
    return {"amount": amount, **EUR}


def test_a_credit_note_takes_part_of_an_invoice_off(alice, stella, invoice):
    answer = stella.post("credit-notes", {"invoice": invoice["id"], "amount": money("2.00"), "reason": "wrong"})

    found = answer.json()
    assert (answer.status_code, found["number"][:2], found["total"]) == (201, "CN", money("2.00"))
    assert sum(float(line["amount"]["amount"]) for line in found["lines"]) == 2
    after = alice.get(f"invoices/{invoice['id']}").json()
    assert (after["total"], after["credited"], after["amount_due"]) == (invoice["total"], money("2.00"), money("3.00"))
    assert alice.get("credit-notes").json()["results"] == [found]
    assert alice.get(f"credit-notes/{found['id']}").json() == found


def test_lines_are_named_by_their_place(stella, invoice):
    lines = [{"line": 2, "amount": money("1.25")}]

    found = stella.post("credit-notes", {"invoice": invoice["id"], "lines": lines, "reason": "wrong"}).json()

    assert [(line["line"], line["meter"], line["amount"]) for line in found["lines"]] == [
        (2, "inference", money("1.25"))
    ]


@pytest.mark.parametrize(
    ("wanted", "status", "code"),
    [
        ({"amount": money("15.01")}, 422, "credit_exceeds_invoice"),
        ({"lines": [{"line": 2, "amount": money("5.01")}]}, 422, "credit_exceeds_invoice"),
        ({"lines": [{"line": 9, "amount": money("1.00")}]}, 400, "validation_error"),
        ({"amount": money("0")}, 400, "validation_error"),
        ({"amount": money("-1.00")}, 400, "validation_error"),
        ({"amount": money("1.001")}, 400, "validation_error"),
        ({"amount": money("NaN")}, 400, "validation_error"),
        ({"amount": money("1e3")}, 400, "validation_error"),
        ({"amount": money("9" * 40)}, 400, "validation_error"),
        ({"amount": {"amount": "1.00", "currency": "USD"}}, 400, "validation_error"),
        ({"amount": 1}, 400, "validation_error"),
        ({"amount": money("1.00"), "lines": [{"line": 1, "amount": money("1.00")}]}, 400, "validation_error"),
        ({"lines": []}, 400, "validation_error"),
        ({"lines": [{"line": 1, "amount": money("0.01")}] * 2}, 400, "validation_error"),
        ({"reason": ""}, 400, "validation_error"),
        ({"invoice": "0198c0de-0000-7000-8000-000000000000"}, 400, "validation_error"),
        ({"why": "x"}, 400, "validation_error"),
    ],
)
def test_what_cannot_be_credited_is_refused_and_nothing_is_written(alice, stella, invoice, wanted, status, code):
    answer = stella.post("credit-notes", {"invoice": invoice["id"], "reason": "wrong", **wanted})

    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert alice.get("credit-notes").json()["results"] == []
    assert alice.get(f"invoices/{invoice['id']}").json() == invoice


def test_customers_see_their_own_and_issue_none(alice, charlie, stella, invoice):
    note = stella.post("credit-notes", {"invoice": invoice["id"], "reason": "wrong"}).json()

    assert alice.post("credit-notes", {"invoice": invoice["id"], "reason": "mine"}).json()["code"] == "staff_required"
    for path in ("", "/pdf", "/csv"):
        assert charlie.get(f"credit-notes/{note['id']}{path}").status_code == 404
        assert alice.get(f"credit-notes/{note['id']}{path}").status_code == 200


def test_an_invoice_comes_as_pdf_and_as_csv(alice, invoice):
    pdf = alice.get(f"invoices/{invoice['id']}/pdf")
    rows = list(csv.DictReader(io.StringIO(alice.get(f"invoices/{invoice['id']}/csv").content.decode())))

    assert (pdf["Content-Type"], pdf.content[:5]) == ("application/pdf", b"%PDF-")
    assert f'filename="invoice-{invoice["number"]}.pdf"' in pdf["Content-Disposition"]
    assert [(row["meter"], row["amount"]) for row in rows if row["line"]] == [
        ("mcp_call", "10.00"),
        ("inference", "5.00"),
    ]
    assert {row["description"]: row["amount"] for row in rows if not row["line"]}["total"] == "15.00"


def test_a_draft_without_a_period_is_of_the_last_one_that_is_over(alice, stella):
    answer = stella.post("invoices/generate", {"account": str(alice.account.pk)}).json()
    half = stella.post("invoices/generate", {"account": str(alice.account.pk), "period_end": MARCH["period_end"]})

    assert answer["period_end"] <= answer["created_at"]
    assert half.status_code == 400


def test_reverse_charge_needs_a_tax_id_and_no_rate(alice, stella):
    path = f"account?account={alice.account.slug}"
    assert stella.patch(path, {"reverse_charge": True}).json()["errors"] == {
        "tax_id": ["Reverse charge needs the customer's tax id."]
    }
    assert stella.patch(path, {"reverse_charge": True, "tax_id": "X1", "tax_rate": "0.19"}).status_code == 400
    assert stella.patch(path, {"reverse_charge": True, "tax_id": "X1", "tax_rate": "0"}).status_code == 200
    assert alice.patch("account", {"tax_id": ""}).status_code == 400
    assert alice.patch("account", {"reverse_charge": False}).json()["code"] == "staff_required"
    ledger_cast.use(alice.account, "mcp_call", 100)
    draft = stella.post("invoices/generate", {"account": str(alice.account.pk), **MARCH}).json()
    assert (draft["tax"], draft["tax_note"][:14]) == (money("0.00"), "Reverse charge")
