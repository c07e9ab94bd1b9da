from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from billing import invoicing, ledger, periods
from billing.models import Invoice, InvoiceSeries
from tests import ledger_cast as cast
from tests.ledger_cast import NOON, UCR

pytestmark = pytest.mark.django_db
MARCH = periods.Period(datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 4, 1, tzinfo=UTC))
APRIL = periods.Period(MARCH.end, datetime(2026, 5, 1, tzinfo=UTC))


@pytest.fixture(autouse=True)
def _books_are_right_after_every_test(db):
    yield
    cast.assert_books_are_right()


def draft_of(account, period=MARCH, now=NOON):
    return invoicing.generate(account=account, period=period, now=now)[0]


def final_of(account, period=MARCH):
    return invoicing.finalize(invoice_id=draft_of(account, period, period.end).pk, now=period.end)


def post_paid(credits=0, overdraft=1000):
    account = cast.make_account(credits)
    ledger.set_overdraft(account_id=account.pk, overdraft_ucr=overdraft * UCR)
    return account


def test_an_invoice_covers_its_half_open_period_only():
    account = cast.make_account(100)
    for moment in (MARCH.start - timedelta(seconds=1), MARCH.start, MARCH.end - timedelta(seconds=1), MARCH.end):
        cast.use(account, "mcp_call", 1, now=moment)

    assert draft_of(account).total == 2


def test_what_was_captured_of_holds_is_a_line_and_due_where_it_was_drawn_on_the_overdraft():
    account = post_paid(credits=10)
    cast.use(account, "mcp_call", 5)
    cast.capture(cast.hold(account, 40), 30)

    invoice = final_of(account)

    assert [(line.meter, line.cost_ucr, line.amount) for line in invoice.lines.order_by("position")] == [
        ("mcp_call", 5 * UCR, 5),
        ("other", 30 * UCR, 30),
    ]
    assert (invoice.total, invoice.credits_applied, invoice.amount_due, invoice.due_ucr) == (35, 10, 25, 25 * UCR)
    cast.assert_books_are_right()


def test_owners_are_written_to_of_what_is_due_and_of_nothing_else(mailoutbox, django_capture_on_commit_callbacks):
    account = post_paid()
    with django_capture_on_commit_callbacks(execute=True):
        cast.use(account, "mcp_call", 100)
        invoice = final_of(account)
        cast.give(account, 200, now=MARCH.end)
        cast.use(account, "mcp_call", 5, now=MARCH.end)
        final_of(account, periods.Period(MARCH.end, MARCH.end + timedelta(days=1)))

    (mail,) = mailoutbox
    assert mail.subject == f"Invoice {invoice.number}: Acme Capital"
    assert f"Invoice {invoice.number} over 1.00 EUR is due on 15 April 2026." in mail.body


def test_what_was_drawn_later_and_reversed_leaves_the_older_debt_due():
    account = post_paid()
    cast.use(account, "mcp_call", 100)
    wrong = cast.use(account, "mcp_call", 10, now=MARCH.end)
    ledger.reverse(transaction_id=wrong.transaction_id, key="r", reason="", now=MARCH.end)

    assert final_of(account).amount_due == 100


def test_a_reversed_charge_is_not_invoiced():
    account = cast.make_account(100)
    record = cast.use(account, "mcp_call", 10)
    cast.use(account, "mcp_call", 5)
    ledger.reverse(transaction_id=record.transaction_id, key="r", reason="", now=NOON)

    assert final_of(account).total == 5


def test_finalizing_takes_in_what_was_used_after_the_draft():
    account = cast.make_account(100)
    draft = draft_of(account)
    cast.use(account, "mcp_call", 10)

    assert invoicing.finalize(invoice_id=draft.pk, now=MARCH.end).total == 10


def test_names_and_addresses_stay_as_they_were_when_it_became_final():
    account = cast.make_account(100, legal_name="Acme Ltd", address="1 Old Street")
    invoice = final_of(account)
    account.legal_name = "New Name"
    account.save(update_fields=["legal_name"])

    invoice.refresh_from_db()

    assert invoice.customer == {"name": "Acme Ltd", "address": "1 Old Street", "tax_id": ""}


def test_numbers_follow_each_other_and_start_again_each_year():
    account = cast.make_account(10)
    numbers = [final_of(account, period).number for period in (MARCH, APRIL)]
    january = periods.Period(datetime(2026, 12, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC))
    numbers.append(final_of(account, january).number)

    assert numbers == ["2026-0001", "2026-0002", "2027-0001"]


def test_a_finalize_that_fails_leaves_no_gap():
    account = cast.make_account(10)
    draft = draft_of(account)

    with pytest.raises(invoicing.IllegalMove):
        invoicing.finalize(invoice_id=draft.pk, now=NOON)

    assert not InvoiceSeries.objects.exists()


def test_a_void_invoice_keeps_its_number_and_frees_its_period():
    account = post_paid()
    cast.use(account, "mcp_call", 10)
    first = final_of(account)

    invoicing.void(invoice_id=first.pk, reason="wrong address", now=MARCH.end)
    second = final_of(account)

    assert (first.number, second.number, second.total) == ("2026-0001", "2026-0002", 10)


def test_voiding_twice_is_refused():
    draft = draft_of(cast.make_account(10))
    invoicing.void(invoice_id=draft.pk, reason="", now=NOON)

    with pytest.raises(invoicing.IllegalMove):
        invoicing.void(invoice_id=draft.pk, reason="", now=NOON)


def test_what_was_drawn_on_the_overdraft_is_due_and_paying_it_repays():
    account = post_paid(credits=100)
    cast.use(account, "mcp_call", 300)

    invoice = final_of(account)
    assert (invoice.state, invoice.total, invoice.credits_applied, invoice.amount_due) == ("open", 300, 100, 200)
    invoicing.mark_paid(invoice_id=invoice.pk, reason="bank", now=APRIL.start)

    assert ledger.balance(account_id=account.pk, now=APRIL.start).debt_ucr == 0
    with pytest.raises(invoicing.IllegalMove):
        invoicing.mark_paid(invoice_id=invoice.pk, reason="again", now=APRIL.start)


def test_credits_that_came_later_cover_the_oldest_debt():
    account = post_paid()
    cast.use(account, "mcp_call", 300)
    cast.use(account, "mcp_call", 50, now=APRIL.start)
    cast.give(account, 120, now=APRIL.start)

    march, april = final_of(account), draft_of(account, APRIL, APRIL.start)

    assert (march.amount_due, april.amount_due) == (180, 50)


def test_tax_is_taken_once_of_the_sum():
    account = post_paid()
    account.tax_rate = Decimal("0.19")
    account.save(update_fields=["tax_rate"])
    cast.use(account, "mcp_call", 100)

    invoice = final_of(account)

    assert (invoice.subtotal, invoice.tax, invoice.total, invoice.amount_due) == (100, 19, 119, 119)


def test_an_open_invoice_is_overdue_after_its_terms(settings):
    account = post_paid()
    cast.use(account, "mcp_call", 100)
    invoice = final_of(account)
    due = MARCH.end + timedelta(days=settings.PAYMENT_TERMS_DAYS)

    assert [invoice.is_overdue(now) for now in (due - timedelta(seconds=1), due)] == [False, True]


def test_late_usage_is_on_the_next_invoice():
    account = cast.make_account(100)
    final_of(account)
    cast.use(account, "mcp_call", 4, now=APRIL.start, occurred_at=NOON)

    assert draft_of(account, APRIL, APRIL.start).total == 4


def test_the_running_period_begins_where_the_last_final_invoice_ends():
    account = cast.make_account(100)
    half = periods.Period(MARCH.start, datetime(2026, 3, 10, tzinfo=UTC))
    final_of(account, half)

    assert invoicing.running_period(account=account, now=NOON) == periods.Period(half.end, MARCH.end)


def test_periods_follow_the_accounts_zone_and_cadence():
    account = cast.make_account(100, time_zone="Europe/Berlin", billing_period="weekly")

    found = invoicing.running_period(account=account, now=datetime(2026, 3, 29, 12, tzinfo=UTC))

    assert found == periods.Period(datetime(2026, 3, 22, 23, tzinfo=UTC), datetime(2026, 3, 29, 22, tzinfo=UTC))


@pytest.mark.parametrize("change", [timedelta(0), timedelta(days=-1), timedelta(days=401)])
def test_periods_that_cannot_be_are_refused(change):
    with pytest.raises(invoicing.BadPeriod):
        draft_of(cast.make_account(10), periods.Period(NOON, NOON + change))


def test_an_invoice_is_looked_at_and_nothing_is_written():
    account = cast.make_account(100)
    cast.use(account, "mcp_call", 3)

    assert invoicing.preview(account=account, now=NOON).statement.total == 3
    assert not Invoice.objects.exists()
