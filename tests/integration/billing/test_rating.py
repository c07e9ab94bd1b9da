"""What an event costs when its running total is not the newest one, and how few calls the usual event takes."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from decimal import Decimal

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from billing import books, metering, pricing, rating
from billing.models import Account, Hold, Rating
from tests import ledger_cast as cast
from tests.ledger_cast import NOON, UCR

pytestmark = pytest.mark.django_db
MONTH_AGO = NOON - timedelta(days=20)


@pytest.fixture(autouse=True)
def _books_are_right_after_every_test(db: None) -> Iterator[None]:
    yield
    cast.assert_books_are_right()


def totals(account: Account) -> list[tuple[str, Decimal]]:
    found = Rating.objects.filter(account=account).order_by("period_start").values_list("period_start", "quantity")
    return [(f"{start:%Y-%m-%d}", quantity) for start, quantity in found]


def queries_of(work: object) -> list[str]:
    with CaptureQueriesContext(connection) as seen:
        work()  # type: ignore[operator]
    return [query["sql"] for query in seen if "SAVEPOINT" not in query["sql"]]


def test_a_capture_takes_two_calls() -> None:
    account = cast.make_account(1000)
    cast.use(account, "sandbox_second", 1)
    held = cast.hold(account, 100, key="held")

    queries = queries_of(
        lambda: metering.capture(
            hold_key="held", meter="sandbox_second", quantity=Decimal("1.5"), occurred_at=NOON, now=NOON, key="run",
            source="execution",
        )
    )  # fmt: skip

    held.refresh_from_db()
    assert held.state == Hold.State.CAPTURED
    assert len(queries) == 2


def test_an_event_takes_two_calls() -> None:
    account = cast.make_account(1000)
    cast.use(account, "mcp_call", 1)

    assert len(queries_of(lambda: cast.use(account, "mcp_call", 1))) == 2


def test_an_earlier_period_keeps_its_own_total() -> None:
    account = cast.make_account(1000)
    cast.use(account, "mcp_call", 1)

    cast.use(account, "mcp_call", 2, occurred_at=MONTH_AGO)
    cast.use(account, "mcp_call", 4)

    assert totals(account) == [("2026-02-01", 2), ("2026-03-01", 5)]


def test_a_new_period_begins_at_nothing() -> None:
    account = cast.make_account(1000)
    cast.use(account, "mcp_call", 2, occurred_at=MONTH_AGO)

    cast.use(account, "mcp_call", 1)

    assert totals(account) == [("2026-02-01", 2), ("2026-03-01", 1)]


def test_a_longer_period_finds_its_total_behind_those_of_shorter_ones() -> None:
    account = cast.make_account(1000)
    cast.use(account, "mcp_call", 1)
    Account.objects.filter(pk=account.pk).update(billing_period="daily")
    cast.use(account, "mcp_call", 2)
    Account.objects.filter(pk=account.pk).update(billing_period="monthly")

    cast.use(account, "mcp_call", 4)

    assert totals(account) == [("2026-03-01", 5), ("2026-03-18", 2)]


def test_the_record_that_is_returned_is_the_one_that_is_kept() -> None:
    account = cast.make_account(1000)

    record = cast.use(account, "sandbox_second", "1.5", agent="alpha", properties={"a": 1})

    kept = type(record).objects.get(pk=record.pk)
    assert {field.attname: getattr(record, field.attname) for field in record._meta.concrete_fields} == {
        field.attname: getattr(kept, field.attname) for field in kept._meta.concrete_fields
    }


def test_a_new_hold_knows_everything_about_itself() -> None:
    account = cast.make_account(1000)

    made = cast.hold(account, 100, purpose="work")

    kept = Hold.objects.get(pk=made.pk)
    assert {field.attname: getattr(made, field.attname) for field in made._meta.concrete_fields} == {
        field.attname: getattr(kept, field.attname) for field in kept._meta.concrete_fields
    }


def costs(account: Account, meter: str, quantity: str | int, now: datetime = NOON) -> int:
    return rating.cost_now_ucr(account_id=account.pk, meter=meter, quantity=Decimal(quantity), now=now)


def own(account: Account, **price: object) -> None:
    wanted = {"meter": "inference", "shape": pricing.Shape.PER_UNIT, "name": "Inferences", "unit": "inference"} | price
    books.publish_next(
        name="Own", prices=[pricing.Price(**wanted)], valid_from=NOON, now=NOON, account_id=account.pk
    )  # fmt: skip


def test_what_is_set_aside_is_the_account_s_own_price_from_the_moment_it_holds() -> None:
    account, other = cast.make_account(1000), cast.make_account(1000)
    assert costs(account, "inference", 1) == 10 * UCR
    own(account, amount_ucr=25 * UCR)

    assert (costs(account, "inference", 2), costs(other, "inference", 2)) == (50 * UCR, 20 * UCR)
    assert costs(account, "inference", 1, NOON - timedelta(seconds=1)) == 10 * UCR
    assert costs(account, "mcp_call", 1) == 1 * UCR


def test_what_is_set_aside_is_rounded_up_and_covers_what_is_charged() -> None:
    account = cast.make_account(1000)
    for seconds in ("0.001", "4", "29.999", "4"):
        most = costs(account, "sandbox_second", seconds)
        record = cast.use(account, "sandbox_second", seconds)
        assert most - 1 <= record.cost_ucr <= most


@pytest.mark.parametrize(
    ("price", "before", "quantity", "credits"),
    [
        ({"shape": "package", "amount_ucr": 5 * UCR, "per": Decimal(10)}, 0, 1, 5),
        ({"shape": "package", "amount_ucr": 5 * UCR, "per": Decimal(10)}, 3, 7, 0),
        ({"shape": "package", "amount_ucr": 5 * UCR, "per": Decimal(10)}, 3, 8, 5),
        ({"shape": "flat", "amount_ucr": 7 * UCR}, 0, 3, 7),
        ({"shape": "flat", "amount_ucr": 7 * UCR}, 1, 3, 0),
        ({"amount_ucr": UCR, "minimum_ucr": 4 * UCR}, 0, 1, 4),
        ({"amount_ucr": UCR, "minimum_ucr": 4 * UCR}, 3, 2, 1),
        ({"shape": "graduated", "tiers": (pricing.Tier(Decimal(5), UCR), pricing.Tier(None, 3 * UCR, UCR))}, 4, 2, 5),
        ({"shape": "volume", "tiers": (pricing.Tier(Decimal(5), 2 * UCR), pricing.Tier(None, UCR))}, 5, 1, 0),
        ({"amount_ucr": 0}, 0, 1, 0),
    ],
)
def test_prices_of_other_shapes_go_on_from_the_period_s_total(price, before, quantity, credits) -> None:
    account = cast.make_account(1000)
    own(account, **price)
    if before:
        cast.use(account, "inference", before)

    most = costs(account, "inference", quantity)
    record = cast.use(account, "inference", quantity)

    assert (most, record.cost_ucr) == (credits * UCR, credits * UCR)
    # Of the next period nothing was used yet.
    later = NOON + timedelta(days=40)
    assert costs(account, "inference", 1, later) == costs(cast_like(account, price), "inference", 1, later)


def cast_like(account: Account, price: dict[str, object]) -> Account:
    """Another account with the same price, which used nothing."""
    other = cast.make_account(0)
    own(other, **price)
    return other


def test_it_is_asked_in_one_query_before_there_is_a_book_too_and_an_unknown_meter_is_said() -> None:
    account = cast.make_account(0)
    assert len(queries_of(lambda: costs(account, "inference", 1))) == 1
    books.publish_default()

    assert len(queries_of(lambda: costs(account, "inference", 1))) == 1
    with pytest.raises(pricing.UnknownMeter):
        costs(account, "minutes", 1)
