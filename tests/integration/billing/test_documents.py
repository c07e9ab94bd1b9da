"""What invoices and credit notes say on paper: the same as on the page, whoever the customer is."""

import re
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from billing import credit_notes, documents, invoicing, ledger, paper, periods
from tests import ledger_cast as cast
from tests.ledger_cast import UCR

pytestmark = pytest.mark.django_db
MARCH = periods.Period(datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 4, 1, tzinfo=UTC))


@pytest.fixture
def invoice():
    account = cast.make_account(
        40, legal_name="Acme Ltd", address="1 Old Street\n\nLondon", tax_id="GB1", tax_rate=Decimal("0.19")
    )
    ledger.set_overdraft(account_id=account.pk, overdraft_ucr=100 * UCR)
    cast.use(account, "mcp_call", 100)
    draft, _ = invoicing.generate(account=account, period=MARCH, now=MARCH.end)
    return invoicing.finalize(invoice_id=draft.pk, now=MARCH.end)


def test_an_invoice_says_who_when_what_and_how_much(invoice):
    said = documents.of_invoice(invoice)

    assert (said.title, said.number, said.stamp) == ("Invoice", "2026-0001", "")
    assert (said.customer.name, said.customer.address) == ("Acme Ltd", ("1 Old Street", "London"))
    assert dict(said.facts) == {"Issued": "1 Apr 2026", "Due": "15 Apr 2026", "Period": "1 Mar 2026 – 31 Mar 2026"}
    assert [(line.description, line.quantity, line.amount) for line in said.lines] == [
        ("MCP calls", "100", "1.00\xa0EUR")
    ]
    assert [(total.label, total.amount) for total in said.totals] == [
        ("Subtotal", "1.00\xa0EUR"),
        ("Tax 19\xa0%", "0.19\xa0EUR"),
        ("Total", "1.19\xa0EUR"),
        ("Credits applied", "−0.48\xa0EUR"),
        ("Amount due", "0.71\xa0EUR"),
    ]
    assert said.notes == ("Please pay 0.71\xa0EUR by 15 Apr 2026.",)
    assert said.headline == "0.71\xa0EUR due 15 Apr 2026"


def test_a_credit_note_names_its_invoice_and_the_invoice_its_credit_note(invoice):
    note, _ = credit_notes.issue(invoice_id=invoice.pk, reason="twice", key="k", now=MARCH.end, amount=20)
    invoice.refresh_from_db()

    said = documents.of_credit_note(note)

    assert (said.title, dict(said.facts)["For invoice"], said.totals[-1].amount) == (
        "Credit note",
        "2026-0001",
        "0.20\xa0EUR",
    )
    assert said.notes == ("Reason: twice", "0.20\xa0EUR of it is owed no more.")
    assert f"Credit note {note.number} of 1 Apr 2026 takes 0.20\xa0EUR off." in documents.of_invoice(invoice).notes
    assert paper.pdf(said).startswith(b"%PDF-")


@pytest.mark.parametrize(
    ("value", "text"),
    [("2.5", "2.5"), ("1234567.125", "1,234,567.125"), ("1000", "1,000"), ("0.0000001", "0.0000001"), ("0", "0")],
)
def test_quantities_are_short_but_never_nothing(value, text):
    assert documents.quantity(Decimal(value)) == text


MARKUP = '#set page(fill: red) *b* $x$ @ref <b> \\ #include "/etc/passwd" `c` // no'
NAMES = [
    MARKUP,
    "W" * 200,
    "Ελληνική Ромашка 株式会社 한국 简体 שלום عربي ไทย हिन्दी 😀",
    "a\u202eb\x07c\x1b[0m\u2028d",
    "",
]


@pytest.mark.parametrize("name", NAMES)
def test_whatever_a_customer_is_called_is_text_in_its_place(invoice, name):
    said = documents.of_invoice(invoice)
    said = replace(said, customer=documents.Party(name, (name, name), name), language="not a language")

    made = paper.pdf(said)

    pages = int(re.search(rb"/Type/Pages/Count (\d+)", made)[1])
    assert pages == 1 or len(name) > 100


def test_the_same_document_is_the_same_file(invoice):
    assert paper.pdf(documents.of_invoice(invoice)) == paper.pdf(documents.of_invoice(invoice))


def test_the_page_reads_as_the_paper_does(invoice, client):
    client.force_login(invoice.account.memberships.get().user)

    page = client.get(f"/o/{invoice.account.slug}/billing/invoices/{invoice.pk}/").content.decode()

    said = documents.of_invoice(invoice)
    for text in (
        said.customer.name,
        *said.notes,
        *(value for _, value in said.facts),
        *(each.amount for each in said.totals),
    ):
        assert text in page


@pytest.mark.parametrize(("name", "kind"), [("pdf", "application/pdf"), ("csv", "text/csv; charset=utf-8")])
def test_it_is_downloaded_from_its_page(invoice, client, name, kind):
    client.force_login(invoice.account.memberships.get().user)

    answer = client.get(f"/o/{invoice.account.slug}/billing/invoices/{invoice.pk}/{name}/")

    assert (answer.status_code, answer["Content-Type"]) == (200, kind)
