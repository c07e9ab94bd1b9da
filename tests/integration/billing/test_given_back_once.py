"""Usage that is reversed after its invoice and credited by a note is given back once, in whatever parts and order."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import IntegrityError, transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from billing import credit_notes, crediting, invoicing, ledger
from billing.models import Account, CreditNoteLine, Invoice, Transaction, UsageRecord
from tests import ledger_cast as cast
from tests.integration.billing.test_invoicing import MARCH, final_of, post_paid
from tests.integration.billing.test_ledger_races import at_once, kinds
from tests.ledger_cast import NOON, UCR

pytestmark = pytest.mark.django_db
LATER = MARCH.end + timedelta(days=1)


@pytest.fixture(autouse=True)
def _books_are_right_after_every_test(db: None) -> Any:
    yield
    cast.assert_books_are_right()


def invoiced(*quantities: object, credits: int = 1000, **changes: Any) -> tuple[Account, list[UsageRecord], Invoice]:
    """MCP calls, one credit (and one cent) each, all paid by credits unless said otherwise."""
    account = cast.make_account(credits, **changes)
    records = [cast.use(account, "mcp_call", each) for each in quantities]
    return account, records, final_of(account)


def reverse(record: UsageRecord, key: str = "r") -> Transaction:
    assert record.transaction_id is not None
    return ledger.reverse(transaction_id=record.transaction_id, key=f"{key} {record.pk}", reason="", now=LATER)


def credit(invoice: Invoice, amount: int | None = None, key: str = "n") -> int:
    said = {"invoice_id": invoice.pk, "reason": "r", "key": key, "now": LATER}
    return credit_notes.issue(amount=amount, **said)[0].total


def available(account: Account) -> float:
    return cast.available(account, LATER)


def test_a_note_for_all_takes_off_what_was_not_reversed() -> None:
    account, (one, _), invoice = invoiced(30, 70)
    reverse(one)

    assert credit(invoice) == 70
    assert available(account) == 1000


def test_captured_holds_are_given_back_once_too() -> None:
    account = cast.make_account()
    one, two = (cast.capture(cast.hold(account, 50), credits).transaction_id for credits in (30, 50))
    invoice = final_of(account)
    said = {"key": "r", "reason": "", "now": LATER}
    ledger.reverse(transaction_id=one, **said)

    assert credit(invoice) == 50
    with pytest.raises(ledger.NotReversible, match="Credit notes"):
        ledger.reverse(transaction_id=two, **said | {"key": "r2"})
    assert available(account) == 1000


@pytest.mark.parametrize("before", [timedelta(), timedelta(seconds=1)])
def test_a_reversal_that_waited_for_its_invoice_comes_after_it_whatever_its_clock_says(before: timedelta) -> None:
    """Times are taken before the lock, so they may tie or cross."""
    account, (one, _), invoice = invoiced(30, 70)
    assert invoice.finalized_at is not None
    ledger.reverse(transaction_id=one.transaction_id, key="r", reason="", now=invoice.finalized_at - before)

    cast.assert_books_are_right()
    assert credit(invoice) == 70
    assert available(account) == 1000


def test_an_invoice_that_waited_for_a_reversal_comes_after_it_whatever_its_clock_says() -> None:
    account = cast.make_account(1000)
    one, _ = (cast.use(account, "mcp_call", each) for each in (30, 70))
    reverse(one)  # a day after the clock that the invoice goes by
    invoice = final_of(account)

    cast.assert_books_are_right()
    assert (invoice.total, credit(invoice)) == (70, 70)
    assert available(account) == 1000


def test_nothing_is_left_to_credit_when_all_was_reversed() -> None:
    account, records, invoice = invoiced(30, 70)
    for each in records:
        reverse(each)

    with pytest.raises(credit_notes.NotCreditable, match="Nothing is left"):
        credit(invoice)
    with pytest.raises(credit_notes.NotCreditable):
        credit(invoice, 1)
    assert available(account) == 1000


def test_a_reversal_of_what_was_credited_is_refused_and_writes_nothing() -> None:
    account, (one, two), invoice = invoiced(30, 70)
    credit(invoice, 50)

    with pytest.raises(ledger.NotReversible, match="Credit notes"):
        reverse(two)
    assert available(account) == 950
    reverse(one)
    with pytest.raises(credit_notes.CreditExceedsInvoice):
        credit(invoice, 21, key="o")
    assert credit(invoice, key="p") == 20
    assert available(account) == 1000


def test_the_tax_of_what_was_reversed_is_not_credited_either() -> None:
    _, (one, _), invoice = invoiced(30, 70, tax_rate=Decimal("0.1900"))
    assert invoice.total == 119
    reverse(one)

    assert credit(invoice) == 70 + 13


def test_other_meters_of_the_invoice_are_credited_as_before() -> None:
    account = cast.make_account(1000)
    calls = cast.use(account, "mcp_call", 30)
    cast.use(account, "inference", 2)
    invoice = final_of(account)
    reverse(calls)

    assert credit(invoice) == 20
    assert available(account) == 1000


def test_what_was_reversed_before_the_invoice_is_not_on_it() -> None:
    account = cast.make_account(1000)
    one = cast.use(account, "mcp_call", 30)
    cast.use(account, "mcp_call", 70)
    ledger.reverse(transaction_id=one.transaction_id, key="r", reason="", now=NOON)
    invoice = final_of(account)

    assert (invoice.total, credit(invoice), available(account)) == (70, 70, 1000)


def test_a_void_invoice_bars_no_reversal() -> None:
    account = post_paid(credits=0)
    record = cast.use(account, "mcp_call", 30)
    invoice = final_of(account)
    invoicing.void(invoice_id=invoice.pk, reason="wrong", now=LATER)

    reverse(record)

    assert available(account) == 1000


def test_what_was_owed_is_not_given_back_twice_either() -> None:
    account = post_paid(credits=0)
    one = cast.use(account, "mcp_call", 30)
    cast.use(account, "mcp_call", 70)
    invoice = final_of(account)
    reverse(one)

    assert credit(invoice) == 70
    # The 30 that are still due buy the 30 credits that the reversal gave.
    invoice.refresh_from_db()
    assert (invoice.state, invoice.open_amount, available(account)) == ("open", 30, 1000)


def test_the_database_holds_it_whoever_writes() -> None:
    _, (one, _), invoice = invoiced(30, 70)
    credit(invoice, 80)
    note = invoice.credit_notes.get()
    said = {"account": invoice.account, "kind": "reversal", "source": "x", "key": "x", "created_at": LATER}
    with pytest.raises(IntegrityError, match="twice"), transaction.atomic():
        Transaction.objects.create(reverses=one.transaction, **said)
    (other,) = [invoiced(30, 70)]
    reverse(other[1][0])
    with pytest.raises(credit_notes.CreditExceedsInvoice):
        credit(other[2], 71, key="q")
    assert crediting.reversed_share(100, cost_ucr=0, reversed_ucr=0) == 0
    assert CreditNoteLine.objects.filter(note=note).count() == 1


@pytest.mark.django_db(transaction=True)
def test_a_note_and_a_reversal_at_once_give_it_back_once() -> None:
    account, (one,), invoice = invoiced(100)

    outcomes = at_once([lambda: reverse(one), lambda: credit(invoice)])

    assert sum(kinds(outcomes)[name] for name in ("NotReversible", "NotCreditable")) == 1
    assert available(account) == 1000


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(st.integers(1, 200), min_size=1, max_size=4),
    st.lists(st.tuples(st.booleans(), st.integers(0, 300)), max_size=6),
    st.sampled_from(["0", "0.0700", "0.1900"]),
)
def test_in_any_parts_and_order_no_more_comes_back_than_was_spent(
    quantities: list[int], acts: list[tuple[bool, int]], tax_rate: str
) -> None:
    with transaction.atomic():
        account, records, invoice = invoiced(*(Decimal(each) / 8 for each in quantities), tax_rate=Decimal(tax_rate))
        for number, (is_reversal, size) in enumerate(acts):
            try:
                if is_reversal:
                    reverse(records[size % len(records)])
                else:
                    credit(invoice, size or None, key=f"n{number}")
            except (ledger.NotReversible, credit_notes.NotCreditable, credit_notes.CreditExceedsInvoice):
                pass
            assert ledger.balance(account_id=account.pk, now=LATER).available_ucr <= 1000 * UCR
        cast.assert_books_are_right()
        transaction.set_rollback(True)
