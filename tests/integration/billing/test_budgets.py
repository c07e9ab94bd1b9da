"""Budgets: what counts on them, what they refuse, and what is told of them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.core import mail
from django.db import connection

from billing import alerts, batches, budgets, ledger, metering
from billing.models import Account, Alert, BalanceWatch, Budget, BudgetCounter, BudgetSpend
from tests import factories, ledger_cast, outgoing_cast
from tests.ledger_cast import NOON, UCR

pytestmark = pytest.mark.django_db


@pytest.fixture
def account() -> Account:
    return ledger_cast.make_account(1000)


@pytest.fixture(autouse=True)
def _the_books_stay_right(db: None) -> Any:
    yield
    ledger_cast.assert_books_are_right()


def make(account: Account, limit: int = 100, **changes: Any) -> Budget:
    wanted: dict[str, Any] = {"scope": "account", "period": "day", "action": "block", "now": NOON} | changes
    return budgets.create(account=account, limit_ucr=limit * UCR, **wanted)


def stands(budget: Budget, now: datetime = NOON) -> tuple[float, float]:
    """Spent and held, in credits."""
    (found,) = budgets.standings(budget.account, [budget], now=now)
    return found.spent_ucr / UCR, found.held_ucr / UCR


def told(account: Account) -> list[tuple[str, int]]:
    rows = Alert.objects.filter(account=account).order_by("created_at", "threshold", "pk")
    return list(rows.values_list("kind", "threshold"))


def test_what_is_charged_and_captured_counts(account: Account) -> None:
    budget = make(account)
    ledger_cast.charge(account, 10)
    held = ledger_cast.hold(account, 30)
    assert stands(budget) == (10, 30)

    ledger.capture(hold_key=held.key, amount_ucr=20 * UCR, key="end", source="test", now=NOON)

    assert stands(budget) == (30, 0)


@pytest.mark.parametrize("ending", ["release", "expire"])
def test_a_hold_that_ends_without_a_charge_gives_its_share_back(account: Account, ending: str) -> None:
    budget = make(account)
    held = ledger_cast.hold(account, 30)

    if ending == "release":
        ledger.release(key=held.key, now=NOON)
    else:
        ledger.expire_holds(now=NOON + timedelta(hours=2))

    assert stands(budget) == (0, 0)


def test_one_that_blocks_refuses_what_would_exceed_it_and_nothing_is_written(account: Account) -> None:
    budget = make(account)
    ledger_cast.charge(account, 60)
    ledger_cast.hold(account, 30)

    for act in (ledger_cast.charge, ledger_cast.hold):
        with pytest.raises(ledger.BudgetExceeded) as refused:
            act(account, 11)
        assert refused.value.extras == {
            "budget": str(budget.pk),
            "limit": "100.000000",
            "needed": "11.000000",
            "available": "10.000000",
        }
    ledger_cast.charge(account, 10)

    assert stands(budget) == (70, 30)
    assert ledger_cast.available(account) == 1000 - 100


def test_one_that_only_tells_refuses_nothing(account: Account) -> None:
    budget = make(account, action="notify")

    ledger_cast.charge(account, 500)

    assert stands(budget) == (500, 0)


@pytest.mark.parametrize(
    ("scope", "target", "counts"),
    [
        ("account", "", 4),
        ("meter", "inference", 1),
        ("agent", "eu-7", 1),
        ("api_key", "key", 1),
    ],
)
def test_a_budget_counts_only_what_it_watches(account: Account, scope: str, target: str, counts: int) -> None:
    key = str(factories.make_key(account)[0].pk)
    budget = make(account, scope=scope, target=key if target == "key" else target)

    ledger_cast.use(account, "mcp_call", 1)
    ledger_cast.use(account, "inference", Decimal("0.1"))
    ledger_cast.use(account, "mcp_call", 1, agent="eu-7")
    ledger_cast.use(account, "mcp_call", 1, api_key=key)

    assert stands(budget) == (counts, 0)


def test_a_hold_counts_on_the_budgets_of_its_meter_agent_and_key(account: Account) -> None:
    of_agent = make(account, scope="agent", target="eu-7")
    of_other = make(account, scope="agent", target="eu-8")
    of_meter = make(account, scope="meter", target="sandbox_second")

    ledger_cast.hold(account, 30, agent="eu-7", meter="sandbox_second")

    assert (stands(of_agent), stands(of_other), stands(of_meter)) == ((0, 30), (0, 0), (0, 30))


@pytest.mark.parametrize(
    ("period", "zone", "now", "start"),
    [
        ("day", "UTC", NOON, datetime(2026, 3, 18, tzinfo=UTC)),
        ("day", "America/New_York", datetime(2026, 3, 18, 2, tzinfo=UTC), datetime(2026, 3, 17, 4, tzinfo=UTC)),
        ("week", "UTC", NOON, datetime(2026, 3, 16, tzinfo=UTC)),  # a Monday
        ("month", "UTC", NOON, datetime(2026, 3, 1, tzinfo=UTC)),
        ("month", "Europe/Berlin", datetime(2026, 3, 31, 22, 30, tzinfo=UTC), datetime(2026, 3, 31, 22, tzinfo=UTC)),
        ("total", "Asia/Tokyo", NOON, datetime(2000, 1, 1, tzinfo=UTC)),
    ],
)
def test_periods_are_the_account_s_own(
    account: Account, period: str, zone: str, now: datetime, start: datetime
) -> None:
    Account.objects.filter(pk=account.pk).update(time_zone=zone)
    account.refresh_from_db()
    budget = make(account, period=period)

    ledger_cast.charge(account, 1, now=now)

    assert BudgetCounter.objects.get(budget=budget).period_start == start
    assert stands(budget, now) == (1, 0)


def test_a_new_period_begins_at_nothing(account: Account) -> None:
    budget = make(account)
    ledger_cast.charge(account, 100)
    tomorrow = NOON + timedelta(days=1)

    ledger_cast.charge(account, 100, now=tomorrow)

    assert (stands(budget), stands(budget, tomorrow)) == ((100, 0), (100, 0))


def test_what_is_held_is_spent_in_the_period_it_was_held_in(account: Account) -> None:
    budget = make(account)
    tomorrow = NOON + timedelta(days=1)
    held = ledger_cast.hold(account, 30, expires_at=tomorrow + timedelta(hours=1))

    ledger.capture(hold_key=held.key, amount_ucr=20 * UCR, key="end", source="test", now=tomorrow)

    assert (stands(budget), stands(budget, tomorrow)) == ((20, 0), (0, 0))


def test_finished_work_is_charged_whatever_it_makes_of_a_budget(account: Account) -> None:
    budget = make(account, limit=10)
    ledger_cast.hold(account, 10, key="work")
    ledger.expire_holds(now=NOON + timedelta(hours=2))
    ledger_cast.charge(account, 5)
    later = NOON + timedelta(hours=3)

    said = {"meter": "mcp_call", "occurred_at": later, "now": later, "source": "test"}
    record = metering.capture(hold_key="work", quantity=Decimal(8), key="late", **said)  # its hold expired
    metering.settle(account_id=account.pk, quantity=Decimal(7), key="bytes", **said)
    metering.record_usage(account_id=account.pk, quantity=Decimal(3), key="wage", is_done=True, **said)

    assert record.cost_ucr == 8 * UCR
    assert stands(budget, later) == (5 + 8 + 7 + 3, 0)


def test_a_replay_counts_nothing_twice(account: Account) -> None:
    budget = make(account)

    for _ in range(2):
        ledger_cast.charge(account, 60, key="same")
        ledger_cast.hold(account, 30, key="same")
        ledger_cast.use(account, "mcp_call", 5, key="same")

    assert stands(budget) == (65, 30)


def test_thresholds_are_told_once_a_period_by_mail_and_webhook(
    account: Account, django_capture_on_commit_callbacks: Any
) -> None:
    outgoing_cast.make_endpoint(account, events=["budget.threshold"])
    make(account, action="notify", thresholds=[50, 100])
    with django_capture_on_commit_callbacks(execute=True):
        ledger_cast.charge(account, 49)
        assert alerts.sweep(now=NOON) == 0
        ledger_cast.charge(account, 1)
        assert alerts.sweep(now=NOON) == 1
        ledger_cast.charge(account, 10)
        assert alerts.sweep(now=NOON) == 0
        ledger_cast.charge(account, 200)  # past the last one
        assert alerts.sweep(now=NOON) == 1

    assert told(account) == [("threshold", 50), ("threshold", 100)]
    assert outgoing_cast.types(account) == ["budget.threshold"] * 2
    assert [sent.subject.partition(":")[0] for sent in mail.outbox] == ["A budget is at 50 %", "A budget is at 100 %"]
    ledger_cast.charge(account, 60, now=NOON + timedelta(days=1))
    assert told(account)[2:] == [("threshold", 50)]


def test_several_thresholds_passed_at_once_are_all_told(account: Account) -> None:
    make(account)

    held = ledger_cast.hold(account, 90)
    ledger.capture(hold_key=held.key, amount_ucr=90 * UCR, key="end", source="test", now=NOON)

    assert told(account) == [("threshold", 50), ("threshold", 80)]


def test_a_refusal_is_told_once_a_period(account: Account, django_capture_on_commit_callbacks: Any) -> None:
    outgoing_cast.make_endpoint(account, events=["budget.blocked"])
    make(account, thresholds=[])
    with django_capture_on_commit_callbacks(execute=True):
        for _ in range(2):
            with pytest.raises(ledger.BudgetExceeded):
                ledger_cast.charge(account, 101)
            alerts.sweep(now=NOON)

    assert told(account) == [("blocked", 0)]
    assert outgoing_cast.types(account) == ["budget.blocked"]
    assert len(mail.outbox) == 1


def test_low_credits_are_told_once_each_time(account: Account, django_capture_on_commit_callbacks: Any) -> None:
    outgoing_cast.make_endpoint(account, events=["credits.low"])
    alerts.watch_balance(account=account, threshold_ucr=500 * UCR)
    with django_capture_on_commit_callbacks(execute=True):
        alerts.sweep(now=NOON)  # enough: armed
        ledger_cast.charge(account, 600)
        assert [alerts.sweep(now=NOON) for _ in range(2)] == [1, 0]
        ledger_cast.give(account, 600)
        assert alerts.sweep(now=NOON) == 0
        ledger_cast.charge(account, 700)
        assert alerts.sweep(now=NOON) == 1

    assert told(account) == [("low_balance", 0)] * 2
    assert outgoing_cast.types(account) == ["credits.low"] * 2
    assert len(mail.outbox) == 2


def test_nobody_is_warned_who_never_had_enough_or_wants_no_warning() -> None:
    poor, carefree = ledger_cast.make_account(50), ledger_cast.make_account(1000)
    alerts.watch_balance(account=carefree, threshold_ucr=None)
    ledger_cast.charge(carefree, 999)

    assert alerts.sweep(now=NOON) == 0
    assert BalanceWatch.objects.filter(account=poor).exists()


def test_a_removed_budget_refuses_nothing_and_the_wallet_forgets_it(account: Account) -> None:
    budget = make(account, limit=1)
    ledger_cast.hold(account, 1, key="kept")

    budgets.remove(budget=budget)

    assert ledger_cast.charge(account, 500)
    ledger.release(key="kept", now=NOON)
    account.wallet.refresh_from_db()
    assert account.wallet.has_budgets is False


def test_a_higher_limit_lets_go_on(account: Account) -> None:
    budget = make(account)
    ledger_cast.charge(account, 100)

    budgets.change(budget=budget, limit_ucr=150 * UCR)

    assert ledger_cast.charge(account, 50)
    with pytest.raises(ledger.BudgetExceeded):
        ledger_cast.charge(account, 1)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"target": "x"}, "target"),
        ({"scope": "agent"}, "target"),
        ({"scope": "meter", "target": "coffee"}, "target"),
        ({"scope": "api_key", "target": "no uuid"}, "target"),
        ({"scope": "api_key", "target": "0198c0de-0000-7000-8000-000000000000"}, "target"),
        ({"thresholds": [0]}, "thresholds"),
        ({"thresholds": range(1, 20)}, "thresholds"),
    ],
)
def test_budgets_that_cannot_be_are_refused(account: Account, changes: dict[str, Any], field: str) -> None:
    with pytest.raises(budgets.BadBudget) as refused:
        make(account, **changes)

    assert refused.value.field == field


def test_a_second_budget_for_the_same_is_refused(account: Account) -> None:
    make(account)
    make(account, action="notify")
    with pytest.raises(budgets.BudgetExists):
        make(account)


def test_without_budgets_none_is_looked_for(account: Account) -> None:
    """The wallet's own row says so: the functions that look are not even there."""
    with connection.cursor() as cursor:
        cursor.execute("alter function billing_budget_counters rename to nowhere")
    ledger_cast.charge(account, 1)
    held = ledger_cast.hold(account, 1)
    ledger.release(key=held.key, now=NOON)
    ledger_cast.use(account, "mcp_call", 1)


@pytest.mark.parametrize("scope", ["account", "agent", "meter", "api_key"])
def test_what_is_reversed_is_given_back_to_each_budget_that_counted_it(account: Account, scope: str) -> None:
    key = str(factories.make_key(account)[0].pk)
    target = {"agent": "a1", "meter": "mcp_call", "api_key": key}.get(scope, "")
    budget, other = make(account, scope=scope, target=target), make(account, scope="agent", target="a2")
    record = ledger_cast.use(account, "mcp_call", 10, agent="a1", api_key=key)
    ledger_cast.use(account, "mcp_call", 5, agent="a1", api_key=key)
    undo = {"transaction_id": record.transaction_id, "reason": "", "now": NOON}

    ledger.reverse(key="r", **undo)
    ledger.reverse(key="r", **undo)

    assert (stands(budget), stands(other)) == ((5, 0), (0, 0))
    with pytest.raises(ledger.NotReversible):
        ledger.reverse(key="s", **undo)
    assert stands(budget) == (5, 0)


def test_it_is_given_back_in_the_period_it_was_counted_in(account: Account) -> None:
    """Whatever day it is, whatever the account's clock says by now, and for a capture the day of its hold."""
    budget, tomorrow = make(account), NOON + timedelta(days=1)
    held = ledger_cast.hold(account, 30, expires_at=NOON + timedelta(days=3))
    captured = ledger.capture(hold_key=held.key, amount_ucr=20 * UCR, key="end", source="test", now=tomorrow)
    charged = ledger_cast.charge(account, 7, now=tomorrow)
    assert (stands(budget), stands(budget, tomorrow)) == ((20, 0), (7, 0))
    Account.objects.filter(pk=account.pk).update(time_zone="Pacific/Kiritimati")

    for key, receipt in (("r", captured), ("s", charged)):
        ledger.reverse(transaction_id=receipt.transaction_id, key=key, reason="", now=NOON + timedelta(days=9))

    counted = BudgetCounter.objects.filter(budget=budget).order_by("period_start").values_list("spent_ucr", flat=True)
    assert list(counted) == [0, 0]


def test_a_budget_that_blocked_lets_through_what_was_given_back(account: Account) -> None:
    make(account, 100)
    receipt = ledger_cast.charge(account, 100)
    with pytest.raises(ledger.BudgetExceeded):
        ledger_cast.charge(account, 1)

    ledger.reverse(transaction_id=receipt.transaction_id, key="r", reason="", now=NOON)

    assert ledger_cast.charge(account, 100).transaction_id


def test_a_budget_gets_nothing_back_of_what_it_did_not_count(account: Account) -> None:
    before = ledger_cast.charge(account, 10)
    budget = make(account)
    ledger_cast.charge(account, 3)

    ledger.reverse(transaction_id=before.transaction_id, key="r", reason="", now=NOON)

    assert stands(budget) == (3, 0)


def test_events_that_came_together_are_given_back_and_a_removed_budget_is_no_matter(account: Account) -> None:
    budget, gone = make(account), make(account, period="month")
    events = [metering.Event("s", f"k{n}", "mcp_call", Decimal(2), NOON, "", {}) for n in range(5)]
    given = [batches.Given(each, True) for each in events]
    kept = [each.kept for each in batches.record_many(account_id=account.pk, events=given, now=NOON)]
    assert stands(budget) == (10, 0)
    budgets.remove(budget=gone)

    for transaction_id in {each.transaction_id for each in kept if each is not None and each.transaction_id}:
        ledger.reverse(transaction_id=transaction_id, key=f"r {transaction_id}", reason="", now=NOON)

    assert stands(budget) == (0, 0)


def test_a_crash_in_the_middle_of_a_reversal_gives_nothing_back(
    account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    budget, receipt = make(account), ledger_cast.charge(account, 10)

    def die(*_: object) -> None:
        raise ConnectionError

    with monkeypatch.context() as patched:
        patched.setattr("billing.ledger.correcting._give_back", die)
        with pytest.raises(ConnectionError):
            ledger.reverse(transaction_id=receipt.transaction_id, key="r", reason="", now=NOON)

    assert stands(budget) == (10, 0)


LATER = NOON + timedelta(days=40)


def reverse(receipt: ledger.Receipt, key: str = "r", now: datetime = LATER) -> None:
    ledger.reverse(transaction_id=receipt.transaction_id, key=key, reason="", now=now)


@pytest.mark.parametrize(
    ("period", "days"), [("day", 2.4), ("day", 3), ("week", 7), ("week", 9), ("month", 20), ("month", 33)]
)
def test_what_counted_is_forgotten_when_its_period_is_long_over(account: Account, period: str, days: float) -> None:
    """NOON is a Wednesday, the 18th."""
    budget, receipt = make(account, period=period), ledger_cast.charge(account, 10)
    started = budgets.standings(account, [budget], now=NOON)[0].period_start
    now = started + timedelta(days=days, seconds=1)
    is_over = timedelta(days=days) >= budgets.OVER_AFTER[period]

    assert budgets.forget(now=now) == int(is_over)
    assert budgets.forget(now=now) == 0

    assert BudgetCounter.objects.get().is_over is is_over
    reverse(receipt, now=now)
    assert BudgetCounter.objects.get().spent_ucr == (10 * UCR if is_over else 0)
    assert ledger_cast.available(account, now) == 1000
    assert stands(budget, now) == (0, 0)


def test_budgets_without_a_period_and_what_runs_now_forget_nothing(account: Account) -> None:
    total, receipt = make(account, period="total"), ledger_cast.charge(account, 10)
    day = make(account, scope="meter", target="mcp_call")
    ledger_cast.use(account, "mcp_call", 5, now=LATER)

    budgets.forget(now=LATER)
    reverse(receipt)

    assert (stands(total, LATER), stands(day, LATER)) == ((5, 0), (5, 0))


def test_a_hold_that_still_reserves_keeps_its_counter(account: Account) -> None:
    budget, held = make(account), ledger_cast.hold(account, 30, expires_at=LATER + timedelta(days=1))
    receipt = ledger_cast.charge(account, 10)
    assert budgets.forget(now=LATER) == 0

    ledger.capture(hold_key=held.key, amount_ucr=20 * UCR, key="end", source="test", now=LATER)
    reverse(receipt)
    assert BudgetCounter.objects.get(budget=budget).spent_ucr == 20 * UCR

    assert budgets.forget(now=LATER) == 1
    assert BudgetCounter.objects.get(budget=budget).is_over


def test_a_sweep_forgets_a_few_at_a_time(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    make(account)
    for day in range(3):
        for _ in range(2):
            ledger_cast.charge(account, 1, now=NOON + timedelta(days=day))
    monkeypatch.setattr(budgets, "MOST_SPENDS", 4)
    monkeypatch.setattr(budgets, "MOST_COUNTERS", 2)

    assert [budgets.forget(now=LATER) for _ in range(3)] == [4, 2, 0]

    assert (BudgetSpend.objects.count(), BudgetCounter.objects.filter(is_over=False).count()) == (0, 0)


def test_no_clock_makes_a_forgotten_period_the_present_one(account: Account) -> None:
    """The farthest that two clocks are apart is 26 hours."""
    with connection.cursor() as cursor:
        cursor.execute(
            "select p, max(m - billing_budget_period(p, name, m)) from pg_timezone_names,"
            " unnest(array['day', 'week', 'month']) p, generate_series(%s, %s, interval '7 hours') m"
            " where name in ('Pacific/Kiritimati', 'Pacific/Niue', 'Europe/Berlin', 'America/St_Johns') group by p",
            [NOON - timedelta(days=20), NOON + timedelta(days=20)],
        )
        longest = dict(cursor.fetchall())

    assert all(longest[period] < lasts - timedelta(days=1) for period, lasts in budgets.OVER_AFTER.items())


def test_who_changes_a_budget_keeps_what_somebody_else_changed_of_it_meanwhile(account: Account) -> None:
    made = make(account)
    as_it_was = Budget.objects.get(pk=made.pk)
    budgets.change(budget=made, action="notify")

    changed = budgets.change(budget=as_it_was, limit_ucr=7 * UCR)

    assert (changed.action, changed.limit_ucr) == ("notify", 7 * UCR)


def test_a_budget_that_somebody_removed_meanwhile_is_not_found(account: Account) -> None:
    made = make(account)
    as_it_was = Budget.objects.get(pk=made.pk)
    budgets.remove(budget=made)

    with pytest.raises(budgets.NoSuchBudget):
        budgets.change(budget=as_it_was, limit_ucr=UCR)
