"""What an event costs: what the database knows of it, under the wallet's lock, and what its running total grew by.

look_up -> Facts -> rate -> Rated
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from django.db import transaction

from billing import amounts, books, calls, ledger, periods, pricing
from billing.models import Account, Hold, Invoice, Price, Rating

FACTS = "select * from billing_usage_facts(%s, %s, %s, %s, %s, %s)"


@dataclass(frozen=True)
class Held:
    """A hold as it stands."""

    key: str
    state: str
    amount_ucr: int
    expires_at: datetime

    def is_good(self, now: datetime) -> bool:
        return self.state == Hold.State.ACTIVE and self.expires_at > now


@dataclass(frozen=True)
class Total:
    """A running total: since when, how much, and what was charged for it."""

    since: datetime
    quantity: Decimal
    rated_ucr: int


@dataclass(frozen=True)
class Facts:
    """What must be known to charge for an event. The wallet is locked until the transaction ends."""

    account_id: UUID
    status: str
    cadence: periods.Cadence
    time_zone: ZoneInfo
    held: Held | None
    earlier: UUID | None
    # A final invoice covers the event's time, or a time after it.
    is_invoiced: bool
    price: Price | None
    total: Total | None

    @property
    def is_active(self) -> bool:
        return self.status == Account.Status.ACTIVE


@dataclass(frozen=True)
class Rated:
    """An event priced: by which price, in which period, for how much."""

    price: Price
    period_start: datetime
    billed_at: datetime
    ucr: int


def look_up(
    *, account_id: UUID | None = None, hold_key: str | None = None, source: str, key: str, meter: str, at: datetime
) -> Facts:
    """The facts of an event of an account, or of the account whose hold it is. Raises ledger.UnknownHold."""
    assert transaction.get_connection().in_atomic_block
    asked = [account_id, hold_key, source, key, meter, at]
    row = _row(asked)
    if row is None and account_id is None:
        raise ledger.UnknownHold
    if row is None:
        Account.objects.get(pk=account_id)
        ledger.open_wallet(account_id)
        row = _row(asked)
    assert row is not None
    return _facts(row, hold_key=hold_key, meter=meter)


def _row(asked: list[object]) -> dict[str, Any] | None:
    found = calls.run(FACTS, asked)
    row = found.fetchone()
    return dict(zip((column.name for column in found.description or ()), row, strict=True)) if row else None


def _facts(row: dict[str, Any], *, hold_key: str | None, meter: str) -> Facts:
    return Facts(
        account_id=row["account"],
        status=row["status"],
        cadence=periods.Cadence(row["cadence"]),
        time_zone=ZoneInfo(row["time_zone"]),
        held=Held(hold_key, row["hold_state"], row["hold_amount"], row["hold_expires_at"]) if hold_key else None,
        earlier=row["earlier"],
        is_invoiced=row["invoiced"],
        price=_price(row, meter) if row["price"] else None,
        total=Total(row["totals_start"], row["totals_quantity"], row["totals_rated"]) if row["totals_start"] else None,
    )


def _price(row: dict[str, Any], meter: str) -> Price:
    return Price(
        id=row["price"],
        book_id=row["book"],
        meter=meter,
        shape=row["shape"],
        amount_ucr=row["amount"],
        per=row["per"],
        minimum_ucr=row["minimum"],
        tiers=json.loads(row["tiers"]),
        name=row["name"],
        unit=row["unit"],
    )


def rate(facts: Facts, *, meter: str, quantity: Decimal, at: datetime) -> Rated:
    """What the event adds to its period's total, and so what it costs."""
    billed_at = open_moment(account_id=facts.account_id, at=at) if facts.is_invoiced else at
    price = facts.price if billed_at == at else None
    price = price or books.price_of(account_id=facts.account_id, meter=meter, at=billed_at)
    start = periods.containing(billed_at, facts.cadence, facts.time_zone).start
    before = _total(facts, price, meter, start)
    step = pricing.rate(
        price.rule(),
        total_quantity=amounts.WIDE.add(before.quantity, quantity),
        rated_before_ucr=before.rated_ucr,
    )
    return Rated(price, start, billed_at, step.step_ucr)


def _total(facts: Facts, price: Price, meter: str, start: datetime) -> Total:
    """The total of the period so far; looked up when the newest one is not of this price or not of this period."""
    if price is facts.price:
        if facts.total is None or facts.total.since < start:
            return Total(start, Decimal(0), 0)
        if facts.total.since == start:
            return facts.total
    own = Rating.objects.filter(account_id=facts.account_id, meter=meter, price=price, period_start=start)
    found = own.values_list("quantity", "rated_ucr").first()
    return Total(start, *found) if found else Total(start, Decimal(0), 0)


def open_moment(*, account_id: UUID, at: datetime) -> datetime:
    """The moment itself, or the end of the final periods that cover it: those are invoiced already."""
    final = Invoice.objects.filter(account_id=account_id, state__in=Invoice.FINAL_STATES, period_end__gt=at).order_by(
        "period_start"
    )
    for start, end in final.values_list("period_start", "period_end"):
        if start > at:
            break
        at = end
    return at
