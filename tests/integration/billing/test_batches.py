"""Events that come together are treated as if they had come one by one."""

import itertools
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from billing import batches, books, budgets, invoicing, ledger, metering, periods, pricing
from billing.models import Rating, UsageRecord
from tests import ledger_cast as cast
from tests.integration.billing.test_ledger_races import at_once
from tests.ledger_cast import NOON, UCR

pytestmark = pytest.mark.django_db
_number = itertools.count(1)
MARCH = periods.Period(datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 4, 1, tzinfo=UTC))


def event(meter="mcp_call", quantity="1", key=None, at=None, agent="", has_time=True):
    made = metering.Event(
        "bot", key or f"e{next(_number)}", meter, Decimal(quantity), (at if has_time else None) or NOON, agent, {}
    )
    return batches.Given(made, has_time)


def send(account, *events, now=NOON):
    return batches.record_many(account_id=account.pk, events=events, now=now)


def said(outcomes):
    return [type(each.refused).__name__ if each.refused else ("new" if each.is_new else "known") for each in outcomes]


def as_if_alone(account, *events, now=NOON):
    found = []
    for each, has_time in events:
        try:
            _, is_new = metering.record(
                account_id=account.pk, meter=each.meter, quantity=each.quantity, now=now, key=each.key,
                occurred_at=each.occurred_at if has_time else None, source=each.source, agent=each.agent,
            )  # fmt: skip
            found.append("new" if is_new else "known")
        except Exception as refused:  # noqa: BLE001 - what is refused is compared
            found.append(type(refused).__name__)
    return found


def state(account):
    rows = UsageRecord.objects.filter(account=account).order_by("key")
    return (
        list(
            rows.values_list("key", "meter", "quantity", "rated_ucr", "cost_ucr", "overdraft_ucr", "billed_at", "late")
        ),
        list(
            Rating.objects.filter(account=account)
            .order_by("meter", "period_start")
            .values_list("meter", "period_start", "quantity", "rated_ucr")
        ),
        ledger.balance(account_id=account.pk, now=NOON).posted_ucr,
    )


EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["mcp_call", "sandbox_second", "api_call"]),
        st.sampled_from(["1", "0.333333333", "7", "1800", "999"]),
        st.integers(1, 6),
        st.sampled_from(
            [timedelta(), timedelta(days=-1), timedelta(days=-20), timedelta(days=-36), timedelta(hours=1)]
        ),
        st.booleans(),
    ),
    max_size=14,
)


@settings(max_examples=25)
@given(EVENTS, st.integers(0, 40))
def test_a_batch_does_what_its_events_do_one_by_one(wanted, credits):
    together, alone = cast.make_account(credits), cast.make_account(credits)
    events = [event(meter, quantity, f"k{key}", NOON + ago, has_time=has) for meter, quantity, key, ago, has in wanted]

    outcomes = send(together, *events)

    assert said(outcomes) == as_if_alone(alone, *events)
    assert state(together) == state(alone)
    cast.assert_books_are_right()


def test_events_of_one_meter_share_one_charge():
    account = cast.make_account(100)

    outcomes = send(account, event(), event("inference"), event(quantity="3"))

    assert len({each.kept.transaction_id for each in outcomes}) == 2
    assert cast.available(account) == 86
    cast.assert_books_are_right()


def test_what_no_grant_covers_falls_on_the_events_that_came_last():
    account = cast.make_account(2)
    ledger.set_overdraft(account_id=account.pk, overdraft_ucr=10 * UCR)

    send(account, event(key="a"), event(key="b", quantity="2"), event(key="c"))

    assert list(UsageRecord.objects.order_by("key").values_list("overdraft_ucr", flat=True)) == [0, UCR, UCR]
    cast.assert_books_are_right()


def test_one_that_is_too_dear_harms_no_other_and_its_id_stays_free():
    account = cast.make_account(5)

    outcomes = send(account, event(key="a", quantity="3"), event(key="b", quantity="3"), event(key="c", quantity="2"))
    cast.give(account, 10)

    assert said(outcomes) == ["new", "InsufficientCredits", "new"]
    assert said(send(account, event(key="b", quantity="3"), event(key="a", quantity="3"))) == ["new", "known"]


def test_usage_for_an_invoiced_period_is_late_and_a_new_price_holds_from_its_moment():
    account = cast.make_account(100)
    draft, _ = invoicing.generate(account=account, period=MARCH, now=MARCH.end)
    invoicing.finalize(invoice_id=draft.pk, now=MARCH.end)
    tomorrow = MARCH.end + timedelta(days=1)
    dear = pricing.Price("mcp_call", pricing.Shape.PER_UNIT, 3 * UCR, name="MCP calls", unit="call")
    books.publish(name="x", version=1, prices=[dear], valid_from=tomorrow, account_id=account.pk)

    outcomes = send(account, event(at=NOON), event(at=MARCH.end), event(at=tomorrow), now=tomorrow)

    assert [(each.kept.late, each.kept.cost_ucr // UCR) for each in outcomes] == [(True, 1), (False, 1), (False, 3)]
    cast.assert_books_are_right()


def test_a_suspended_account_is_charged_nothing():
    account = cast.make_account(100)
    known = event(key="known")
    send(account, known)
    account.status = "suspended"
    account.save(update_fields=["status"])

    assert said(send(account, known, event())) == ["known", "AccountNotActive"]


def test_an_empty_batch_is_nothing():
    assert send(cast.make_account(1)) == []


def test_a_batch_takes_few_statements_however_many_events(django_assert_max_num_queries):
    account = cast.make_account(10_000)
    send(account, event())

    with django_assert_max_num_queries(20):
        send(account, *(event() for _ in range(500)))


@pytest.mark.django_db(transaction=True)
def test_many_who_send_the_same_batch_at_once_are_charged_once():
    account = cast.make_account(100)
    events = [event(key=f"k{number}") for number in range(20)]

    outcomes = at_once([lambda: send(account, *events) for _ in range(5)])

    assert sum(each.is_new for found in outcomes for each in found) == 20
    assert cast.available(account) == 80
    cast.assert_books_are_right()


def test_a_budget_refuses_its_own_events_of_a_batch_and_no_other():
    account = cast.make_account(100)
    budgets.create(
        account=account, scope="agent", target="alpha", period="day", limit_ucr=2 * UCR, action="block", now=NOON
    )

    outcomes = send(account, *(event(agent="alpha") for _ in range(3)), event(agent="beta"))

    assert said(outcomes) == ["new", "new", "BudgetExceeded", "new"]
    cast.assert_books_are_right()
