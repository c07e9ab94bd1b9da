"""What an event costs: what the database knows of it, under the wallet's lock, and what its running total grew by.

look_up -> Facts -> rate -> Rated        cost_now_ucr: the same before it happens, for holds
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from django.db import transaction

from billing import amounts, books, calls, ledger, periods, pricing
from billing.models import Account, Hold, Invoice, Price, Rating

# As billing_usage_facts finds them, without the wallet's lock.
NOW = """
select a.billing_period, a.time_zone, p.*, r.period_start, r.quantity, r.rated_ucr
  from billing_account a
  join lateral (
        select q.id, q.book_id, q.shape, q.amount_ucr, q.per, q.minimum_ucr, q.tiers::text, q.name, q.unit
          from billing_price q join billing_pricebook b on b.id = q.book_id
         where q.meter = %(meter)s and b.valid_from <= %(now)s and (b.valid_until is null or b.valid_until > %(now)s)
           and (b.account_id = a.id or b.account_id is null)
         order by b.account_id nulls last, b.valid_from desc
         limit 1) p on true
  left join lateral (
        select s.period_start, s.quantity, s.rated_ucr from billing_rating s
         where s.account_id = a.id and s.meter = %(meter)s and s.price_id = p.id and s.period_start <= %(now)s
         order by s.period_start desc
         limit 1) r on true
 where a.id = %(account)s"""
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


def cost_now_ucr(*, account_id: UUID, meter: str, quantity: Decimal, now: datetime) -> int:
    """What so much more would cost the account now, at its own price: what to set aside for it.

    A price with tiers, packages or a minimum goes on from the total of the period so far. Rounded up, since what was
    used before decides whether the last piece counts. Raises pricing.UnknownMeter.
    """
    row = calls.run(NOW, {"account": account_id, "meter": meter, "now": now}).fetchone()
    if row is None:  # no book is published before the first charge
        return math.ceil(pricing.default_price(meter).exact(quantity))
    cadence, zone, *priced, since, total, rated_ucr = row
    names = ("price", "book", "shape", "amount", "per", "minimum", "tiers", "name", "unit")
    rule = _price(dict(zip(names, priced, strict=True)), meter).rule()
    if rule.shape == pricing.Shape.PER_UNIT and not rule.minimum_ucr:
        return math.ceil(rule.exact(quantity))
    start = periods.containing(now, periods.Cadence(cadence), ZoneInfo(zone)).start
    before = Total(start, total, rated_ucr) if since == start else Total(start, Decimal(0), 0)
    grown = amounts.WIDE.add(before.quantity, quantity)
    return pricing.rate(rule, total_quantity=grown, rated_before_ucr=before.rated_ucr).step_ucr


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
