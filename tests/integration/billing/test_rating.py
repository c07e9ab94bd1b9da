"""What an event costs when its running total is not the newest one, and how few calls the usual event takes."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from billing import metering
from billing.models import Account, Hold, Rating
from tests import ledger_cast as cast
from tests.ledger_cast import NOON

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
