"""What billing's tests need beside the cast: credits, holds, usage, and whether the books are right."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from django.db import connection

from billing import accounts, ledger, metering, verify
from billing.models import Account, Grant, Hold, UsageRecord
from tests import factories

UCR = 1_000_000
NOON = datetime(2026, 3, 18, 12, tzinfo=UTC)
_number = itertools.count(1)


def make_account(credits: int = 1000, **changes: Any) -> Account:
    account = accounts.open_account(name="Acme Capital", owner=factories.make_user(), credits=credits)
    if changes:
        Account.objects.filter(pk=account.pk).update(**changes)
        account.refresh_from_db()
    return account


def give(account: Account, credits: int, **changes: Any) -> Grant:
    wanted = {"category": "promo", "key": f"grant {next(_number)}", "source": "test", "now": NOON} | changes
    return ledger.grant(account_id=account.pk, amount_ucr=credits * UCR, **wanted)


def hold(account: Account, credits: int, **changes: Any) -> Hold:
    wanted = {"key": f"hold {next(_number)}", "expires_at": NOON + timedelta(hours=1), "now": NOON} | changes
    return ledger.hold(account_id=account.pk, amount_ucr=credits * UCR, **wanted)


def capture(held: Hold, credits: int, **changes: Any) -> ledger.Receipt:
    """As a hold of the API is captured: for no meter."""
    wanted = {"key": f"capture {next(_number)}", "source": "api:holds", "now": NOON} | changes
    return ledger.capture(hold_key=held.key, amount_ucr=credits * UCR, **wanted)


def charge(account: Account, credits: int, **changes: Any) -> ledger.Receipt:
    wanted = {"key": f"charge {next(_number)}", "source": "test", "now": NOON} | changes
    return ledger.charge(account_id=account.pk, amount_ucr=credits * UCR, **wanted)


def use(account: Account, meter: str, quantity: object, **changes: Any) -> UsageRecord:
    now = changes.pop("now", NOON)
    wanted = {"key": f"event {next(_number)}", "source": "test", "occurred_at": now} | changes
    return metering.record_usage(account_id=account.pk, meter=meter, quantity=Decimal(str(quantity)), now=now, **wanted)


def available(account: Account, now: datetime = NOON) -> int | float:
    """In credits."""
    ucr = ledger.balance(account_id=account.pk, now=now).available_ucr
    return ucr // UCR if ucr % UCR == 0 else ucr / UCR


def assert_books_are_right() -> None:
    with connection.cursor() as cursor:
        cursor.execute("set constraints all immediate")
        cursor.execute("set constraints all deferred")
    assert [check for check in verify.checks() if not check.ok] == []
