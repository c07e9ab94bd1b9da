"""Closing periods: once for each, however often and by how many it is done."""

from datetime import UTC, datetime, timedelta

import pytest

from billing import closing, invoicing, tasks
from billing.models import Invoice
from tests import ledger_cast as cast
from tests.integration.billing.test_ledger_races import at_once
from tests.ledger_cast import NOON

pytestmark = pytest.mark.django_db
APRIL = datetime(2026, 4, 1, tzinfo=UTC)


def test_the_last_period_that_is_over_becomes_a_final_invoice_once():
    account = cast.make_account(100)
    cast.use(account, "mcp_call", 10)

    first, second = (closing.close(account_id=account.pk, now=APRIL + timedelta(hours=1)) for _ in range(2))

    assert (first.state, first.total, first.number, second) == ("paid", 10, "2026-0001", None)


def test_a_running_or_unused_period_takes_no_number():
    account = cast.make_account(100)
    assert closing.close(account_id=account.pk, now=APRIL) is None
    cast.use(account, "mcp_call", 10)
    assert closing.close(account_id=account.pk, now=NOON) is None
    assert not Invoice.objects.exists()


def test_what_is_left_of_a_period_that_was_invoiced_in_part():
    account = cast.make_account(100)
    cast.use(account, "mcp_call", 10)
    half = invoicing.periods.Period(datetime(2026, 3, 1, tzinfo=UTC), NOON + timedelta(seconds=1))
    draft, _ = invoicing.generate(account=account, period=half, now=NOON)
    invoicing.finalize(invoice_id=draft.pk, now=half.end)
    cast.use(account, "mcp_call", 5, now=NOON + timedelta(days=1))

    rest = closing.close(account_id=account.pk, now=APRIL)

    assert (rest.period_start, rest.period_end, rest.total) == (half.end, APRIL, 5)


def test_what_is_left_of_a_period_around_an_invoice_and_nobody_else_waits_for_it():
    odd, other = cast.make_account(100), cast.make_account(100)
    for day in (2, 11, 25):
        cast.use(odd, "mcp_call", day, now=datetime(2026, 3, day, tzinfo=UTC))
    cast.use(other, "mcp_call", 1)
    middle = invoicing.periods.Period(datetime(2026, 3, 10, tzinfo=UTC), datetime(2026, 3, 20, tzinfo=UTC))
    draft, _ = invoicing.generate(account=odd, period=middle, now=NOON)
    invoicing.finalize(invoice_id=draft.pk, now=middle.end)
    assert invoicing.running_period(account=odd, now=middle.end).start == middle.end

    made = closing.close_all(now=APRIL)

    assert [(each.account_id, each.total) for each in made] == [(odd.pk, 2), (odd.pk, 25), (other.pk, 1)]
    assert closing.close_all(now=APRIL) == []
    cast.assert_books_are_right()


def test_late_usage_of_a_month_that_needed_no_invoice_is_invoiced_with_the_next():
    account = cast.make_account(100)
    cast.use(account, "mcp_call", 3, now=datetime(2026, 3, 3, tzinfo=UTC), occurred_at=datetime(2026, 2, 1, tzinfo=UTC))
    cast.use(account, "mcp_call", 4)

    made = closing.close_all(now=APRIL)

    starts = [datetime(2026, month, 1, tzinfo=UTC) for month in (2, 3)]
    assert [(each.period_start, each.total) for each in made] == list(zip(starts, (3, 4), strict=True))


@pytest.mark.parametrize("cadence", ["daily", "weekly", "monthly", "yearly"])
@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/Sao_Paulo", "Pacific/Apia"])
def test_every_period_is_closed_where_the_next_begins_in_the_accounts_zone(zone, cadence):
    account = cast.make_account(100, time_zone=zone, billing_period=cadence)
    running = invoicing.running_period(account=account, now=NOON)
    cast.use(account, "mcp_call", 1, now=running.end - timedelta(seconds=1))
    cast.use(account, "mcp_call", 2, now=running.end)

    closed = closing.close(account_id=account.pk, now=running.end)

    assert (closed.period_start, closed.period_end, closed.total) == (running.start, running.end, 1)


def test_periods_that_nobody_closed_in_time_are_closed_one_by_one_and_only_the_used_ones():
    account = cast.make_account(100, billing_period="daily")
    for days in (0, 1, 3):
        cast.use(account, "mcp_call", days + 1, now=NOON + timedelta(days=days))

    made = closing.close_all(now=NOON + timedelta(days=6))

    assert [(each.period_start.day, each.total, each.number) for each in made] == [
        (18, 1, "2026-0001"),
        (19, 2, "2026-0002"),
        (21, 4, "2026-0003"),
    ]
    assert closing.close_all(now=NOON + timedelta(days=6)) == []


@pytest.mark.parametrize(("days", "totals"), [(9, [1, 4]), (60, [4])])
def test_what_is_older_than_the_last_invoice_waits_for_staff_once_usage_cannot_be_so_late(days, totals):
    account = cast.make_account(100, billing_period="daily")
    cast.use(account, "mcp_call", 1)
    cast.use(account, "mcp_call", 2, now=NOON + timedelta(days=2))
    period = invoicing.periods.containing(NOON + timedelta(days=2), account.billing_period, UTC)
    draft, _ = invoicing.generate(account=account, period=period, now=period.end)
    voided = invoicing.finalize(invoice_id=draft.pk, now=period.end)
    cast.use(account, "mcp_call", 4, now=NOON + timedelta(days=4))

    made = closing.close_all(now=NOON + timedelta(days=days))

    assert (voided.total, [each.total for each in made]) == (2, totals)


def test_a_period_with_nothing_but_a_captured_hold_is_closed():
    account = cast.make_account(100)
    held = cast.hold(account, 40)
    cast.capture(held, 30)

    made = closing.close_all(now=APRIL)

    assert [(each.total, each.amount_due) for each in made] == [(30, 0)]
    cast.assert_books_are_right()


def test_pay_as_you_go_is_invoiced_from_the_last_invoice_until_now():
    account = cast.make_account(100, billing_period="pay_as_you_go")
    cast.use(account, "mcp_call", 10)
    assert closing.close_all(now=APRIL) == []

    first = closing.close(account_id=account.pk, now=NOON + timedelta(hours=1))
    cast.use(account, "mcp_call", 5, now=NOON + timedelta(hours=2))
    second = closing.close(account_id=account.pk, now=NOON + timedelta(hours=3))

    assert (first.total, second.total, second.period_start) == (10, 5, first.period_end)
    assert closing.close(account_id=account.pk, now=NOON + timedelta(hours=4)) is None


def test_the_sweep_closes_nothing_unless_it_is_told_to(settings):
    account = cast.make_account(100)
    cast.use(account, "mcp_call", 10)
    tasks.close_periods()
    assert not Invoice.objects.exists()

    settings.INVOICE_CLOSE_AFTER_HOURS = 48
    assert [closing.sweep(now=APRIL + timedelta(hours=hours)) for hours in (47, 48, 49)] == [0, 1, 0]
    assert Invoice.objects.get().finalized_at == APRIL + timedelta(hours=48)


@pytest.mark.django_db(transaction=True)
def test_many_who_close_at_once_make_one_invoice_each_and_leave_no_gap():
    accounts = [cast.make_account(100) for _ in range(3)]
    for account in accounts:
        cast.use(account, "mcp_call", 10)

    outcomes = at_once([lambda: closing.close_all(now=APRIL) for _ in range(4)])

    assert sorted(invoice.number for made in outcomes for invoice in made) == ["2026-0001", "2026-0002", "2026-0003"]
    cast.assert_books_are_right()
