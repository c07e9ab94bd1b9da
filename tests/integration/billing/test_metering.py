from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from billing import books, invoicing, ledger, metering, periods, pricing
from billing.models import Account, Hold, Rating, UsageRecord
from tests import ledger_cast as cast
from tests.ledger_cast import NOON, UCR

pytestmark = pytest.mark.django_db
LATER = NOON + timedelta(hours=2)


@pytest.fixture(autouse=True)
def _books_are_right_after_every_test(db):
    yield
    cast.assert_books_are_right()


def capture(held, quantity, **changes):
    wanted = {"meter": "sandbox_second", "occurred_at": NOON, "now": NOON, "key": "run", "source": "execution:1"}
    return metering.capture(hold_key=held.key, quantity=Decimal(str(quantity)), **wanted | changes)


def test_usage_is_recorded_and_charged_together():
    account = cast.make_account(1000)

    record = cast.use(account, "sandbox_second", 1800, agent="alpha")

    assert (record.cost_ucr, record.agent) == (50 * UCR, "alpha")
    assert record.transaction.kind == "charge"
    assert cast.available(account) == 950


def test_the_same_event_is_charged_once():
    account = cast.make_account(1000)

    first = cast.use(account, "mcp_call", 5, key="e")
    again = cast.use(account, "mcp_call", 5, key="e")

    assert first == again
    assert cast.available(account) == 995


@pytest.mark.parametrize(
    "change",
    [
        {"quantity": 6},
        {"meter": "inference"},
        {"agent": "beta"},
        {"occurred_at": NOON - timedelta(seconds=1)},
        {"properties": {"a": 1}},
    ],
)
def test_the_same_event_with_other_contents_is_a_conflict(change):
    account = cast.make_account(1000)
    event = {"meter": "mcp_call", "quantity": 5, "key": "e"}
    cast.use(account, **event)

    with pytest.raises(metering.EventConflict):
        cast.use(account, **event | change)


def test_an_event_without_a_time_may_be_sent_again_later():
    account = cast.make_account(1000)

    first = cast.use(account, "mcp_call", 5, key="e", occurred_at=None)
    again = cast.use(account, "mcp_call", 5, key="e", occurred_at=None, now=LATER)

    assert first == again


def test_the_same_key_of_another_source_or_account_is_another_event():
    account, other = cast.make_account(1000), cast.make_account(1000)

    cast.use(account, "mcp_call", 1, key="e", source="a")
    cast.use(account, "mcp_call", 1, key="e", source="b")
    cast.use(other, "mcp_call", 1, key="e", source="a")

    assert (cast.available(account), cast.available(other)) == (998, 999)


def test_refused_usage_writes_nothing_and_leaves_its_key_free():
    account = cast.make_account(3)
    with pytest.raises(ledger.InsufficientCredits):
        cast.use(account, "mcp_call", 5, key="e")
    assert not UsageRecord.objects.filter(account=account).exists()
    assert not Rating.objects.filter(account=account).exists()
    cast.give(account, 10)

    assert cast.use(account, "mcp_call", 5, key="e").cost_ucr == 5 * UCR


def test_a_suspended_account_uses_nothing_but_hears_of_what_it_used():
    account = cast.make_account(10)
    first = cast.use(account, "mcp_call", 1, key="e")
    Account.objects.filter(pk=account.pk).update(status="suspended")

    assert cast.use(account, "mcp_call", 1, key="e") == first
    with pytest.raises(ledger.AccountNotActive):
        cast.use(account, "mcp_call", 1)


@pytest.mark.parametrize("quantity", ["0", "-1", "NaN", "Infinity", "1e19", "0.0000000001"])
def test_quantities_that_cannot_be_metered_are_refused(quantity):
    account = cast.make_account(1000)

    with pytest.raises(metering.OutOfRange) as refused:
        cast.use(account, "mcp_call", quantity)

    assert list(refused.value.extras["errors"]) == ["quantity"]


def test_an_event_that_would_cost_more_than_one_request_may_is_refused():
    with pytest.raises(metering.OutOfRange):
        cast.use(cast.make_account(1000), "inference", 10**9)


def test_an_unknown_meter_is_refused():
    with pytest.raises(pricing.UnknownMeter):
        cast.use(cast.make_account(1000), "minutes", 1)


@pytest.mark.parametrize("off", [timedelta(days=-35, seconds=-1), timedelta(minutes=5, seconds=1)])
def test_events_too_old_or_from_the_future_are_refused(off):
    with pytest.raises(metering.OutOfRange):
        cast.use(cast.make_account(1000), "mcp_call", 1, occurred_at=NOON + off)


@pytest.mark.parametrize("off", [timedelta(days=-35), timedelta(minutes=5)])
def test_events_at_the_edge_of_time_are_taken(off):
    assert cast.use(cast.make_account(1000), "mcp_call", 1, occurred_at=NOON + off).cost_ucr == UCR


def test_many_small_steps_cost_what_one_big_one_does():
    account = cast.make_account(1000)

    for _ in range(9):
        cast.use(account, "agent_second", 1)

    assert cast.available(account) == 1000 - 9 * 80 / 3600


def test_usage_too_small_to_cost_anything_is_recorded_without_a_transaction():
    account = cast.make_account(1)

    costs = [cast.use(account, "data_byte", 8).cost_ucr for _ in range(5)]

    assert sum(costs) == 2
    assert 0 in costs


def test_each_calendar_month_of_the_account_rates_by_itself():
    account = cast.make_account(1000, time_zone="Europe/Berlin")
    night = datetime(2026, 3, 31, 22, 30, tzinfo=UTC)  # half past midnight on 1 April in Berlin

    cast.use(account, "mcp_call", 1, now=night)

    assert Rating.objects.get(account=account).period_start == datetime(2026, 3, 31, 22, tzinfo=UTC)


def test_an_account_with_its_own_prices_pays_those():
    account = cast.make_account(1000)
    dear = pricing.Price("mcp_call", pricing.Shape.PACKAGE, 7 * UCR, Decimal(10), name="MCP calls", unit="10 calls")
    books.publish(name="Acme", version=1, prices=[dear], valid_from=NOON, account_id=account.pk)

    costs = [cast.use(account, "mcp_call", 5).cost_ucr for _ in range(3)]

    assert costs == [7 * UCR, 0, 7 * UCR]
    assert cast.use(account, "inference", 1).cost_ucr == 10 * UCR


def test_a_new_price_book_counts_from_its_first_moment():
    account = cast.make_account(1000)
    cheap = pricing.Price("mcp_call", pricing.Shape.PER_UNIT, UCR // 2, name="MCP calls", unit="call")
    books.publish(name="Half", version=1, prices=[cheap], valid_from=LATER, account_id=account.pk)

    before, after = cast.use(account, "mcp_call", 1), cast.use(account, "mcp_call", 1, now=LATER)

    assert (before.cost_ucr, after.cost_ucr) == (UCR, UCR // 2)


def test_a_price_book_that_could_not_be_charged_is_refused():
    wrong = pricing.Price("mcp_call", pricing.Shape.GRADUATED)

    with pytest.raises(books.BadPrices, match="mcp_call: The last tier"):
        books.publish(name="Wrong", version=9, prices=[wrong], valid_from=NOON)


# --- capture


def test_finished_work_is_captured_from_its_hold_and_the_rest_let_go():
    account = cast.make_account(1000)
    held = cast.hold(account, 100)

    record = capture(held, 1800)

    held.refresh_from_db()
    assert (record.cost_ucr, record.transaction.kind, held.state) == (50 * UCR, "capture", Hold.State.CAPTURED)
    assert cast.available(account) == 950


def test_the_same_capture_happens_once():
    account = cast.make_account(1000)
    held = cast.hold(account, 100)

    assert capture(held, 1800) == capture(held, 1800)

    assert cast.available(account) == 950


def test_a_second_capture_of_a_hold_is_refused():
    held = cast.hold(cast.make_account(1000), 100)
    capture(held, 1800)

    with pytest.raises(ledger.HoldEnded):
        capture(held, 1800, key="another")


def test_a_capture_takes_at_most_what_was_held_and_later_usage_does_not_pay_for_it():
    account = cast.make_account(1000)
    held = cast.hold(account, 10)

    record = capture(held, 1800)
    assert (record.cost_ucr, record.rated_ucr) == (10 * UCR, 50 * UCR)

    assert cast.use(account, "sandbox_second", 36).cost_ucr == UCR


def test_work_that_cost_nothing_releases_its_hold():
    account = cast.make_account(1000)
    held = cast.hold(account, 10)

    record = capture(held, "0.000000001")

    held.refresh_from_db()
    assert (record.cost_ucr, record.transaction, held.state) == (0, None, Hold.State.RELEASED)


def test_work_whose_hold_expired_is_charged_from_what_is_left():
    account = cast.make_account(100)
    held = cast.hold(account, 80, expires_at=NOON + timedelta(hours=1))
    ledger.expire_holds(now=LATER)
    cast.charge(account, 70)

    record = capture(held, 1800, now=LATER)

    assert (record.rated_ucr, record.cost_ucr) == (50 * UCR, 30 * UCR)
    assert cast.available(account) == 0


def test_work_whose_hold_lapsed_before_the_sweep_is_charged_all_the_same():
    account = cast.make_account(100)
    held = cast.hold(account, 80, expires_at=NOON + timedelta(hours=1))

    record = capture(held, 1800, now=LATER)

    held.refresh_from_db()
    assert (record.cost_ucr, held.state) == (50 * UCR, Hold.State.EXPIRED)
    assert cast.available(account) == 50


def settle(account, quantity, **changes):
    wanted = {"meter": "data_byte", "occurred_at": NOON, "now": NOON, "key": "bytes", "source": "execution:1"}
    return metering.settle(account_id=account.pk, quantity=Decimal(quantity), **wanted | changes)


def test_what_nobody_could_set_aside_is_charged_when_it_is_known():
    account = cast.make_account(1000)

    record = settle(account, 2_000_000_000)

    assert record.cost_ucr == record.rated_ucr == 100 * UCR
    assert cast.available(account) == 900


def test_beyond_what_is_available_it_is_recorded_whole_and_charged_in_part():
    account = cast.make_account(30)

    record = settle(account, 1_000_000_000)

    assert (record.quantity, record.rated_ucr, record.cost_ucr) == (1_000_000_000, 50 * UCR, 30 * UCR)
    assert cast.available(account) == 0


def test_what_others_have_set_aside_is_not_touched():
    account = cast.make_account(30)
    cast.hold(account, 20)

    assert settle(account, 1_000_000_000).cost_ucr == 10 * UCR


def test_a_suspended_account_is_recorded_and_pays_nothing():
    account = cast.make_account(30)
    Account.objects.filter(pk=account.pk).update(status="suspended")

    assert settle(account, 1_000_000_000).cost_ucr == 0


def test_the_same_settling_happens_once():
    account = cast.make_account(1000)

    assert settle(account, 5_000_000) == settle(account, 5_000_000)
    assert UsageRecord.objects.count() == 1
    with pytest.raises(metering.EventConflict):
        settle(account, 6_000_000)


def test_work_of_an_unknown_hold_is_not_found():
    held = Hold(key="nothing")

    with pytest.raises(ledger.UnknownHold):
        capture(held, 1)


# --- late usage


def test_usage_for_a_final_period_goes_to_the_next_open_one():
    account = cast.make_account(1000)
    march = periods.Period(datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 4, 1, tzinfo=UTC))
    cast.use(account, "mcp_call", 1)
    draft, _ = invoicing.generate(account=account, period=march, now=march.end)
    invoicing.finalize(invoice_id=draft.pk, now=march.end)

    record = cast.use(account, "mcp_call", 2, now=march.end, occurred_at=NOON)

    assert (record.late, record.billed_at, record.occurred_at) == (True, march.end, NOON)
