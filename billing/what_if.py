"""What a month would have cost by other prices, beside what was charged. Reads only.

Usage is summed by day of each account's clock and put together to the periods in which it was rated, so tiers and
minimums count as they would have. A yearly account's month is what the year so far costs with it, less without it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import NamedTuple
from uuid import UUID

from django.db import connection

from billing import amounts, books, periods, pricing
from billing.models import Account

MOST_ACCOUNTS = 100
# The days of a month in any zone lie within a day more at both ends.
USED = """
select u.account_id, a.billing_period, u.meter, (u.billed_at at time zone a.time_zone)::date,
       sum(u.quantity), sum(u.cost_ucr)
  from billing_usagerecord u join billing_account a on a.id = u.account_id
 where u.billed_at >= %(from)s and u.billed_at < %(to)s
   and (a.billing_period = 'yearly' or u.billed_at >= %(soon)s)
   and (%(account)s::uuid is null or u.account_id = %(account)s)
   and not exists (select 1 from billing_transaction r where r.reverses_id = u.transaction_id)
 group by 1, 2, 3, 4"""


class Costs(NamedTuple):
    """Of a meter or an account: what was charged, and what it would have been."""

    quantity: Decimal
    was_ucr: int
    would_ucr: int

    @property
    def more_ucr(self) -> int:
        return self.would_ucr - self.was_ucr

    def plus(self, other: Costs) -> Costs:
        return Costs(
            amounts.WIDE.add(self.quantity, other.quantity),
            self.was_ucr + other.was_ucr,
            self.would_ucr + other.would_ucr,
        )


NONE = Costs(Decimal(0), 0, 0)


@dataclass(frozen=True)
class Comparison:
    first_day: date
    meters: Mapping[str, Costs]
    # Who would pay most differently comes first.
    accounts: tuple[tuple[Account, Costs], ...]
    total: Costs
    accounts_used: int


@dataclass
class _Stretch:
    """What one account used of one meter in one rating period: before the month, and in it."""

    before: Decimal = Decimal(0)
    within: Decimal = Decimal(0)
    was_ucr: int = 0


@dataclass(frozen=True)
class _Prices:
    """Whose price is asked: the draft's, the account's own, or everybody's."""

    drafted: Mapping[str, pricing.Price]
    of_account: UUID | None
    own: Mapping[tuple[UUID, str], pricing.Price]
    standard: Mapping[str, pricing.Price] = field(default_factory=dict)

    def of(self, account_id: UUID, meter: str) -> pricing.Price:
        if self.of_account == account_id and meter in self.drafted:
            return self.drafted[meter]
        if (account_id, meter) in self.own:
            return self.own[account_id, meter]
        if self.of_account is None and meter in self.drafted:
            return self.drafted[meter]
        return self.standard[meter]


def last_month(today: date) -> date:
    """The first day of the month before."""
    return (today.replace(day=1) - timedelta(days=1)).replace(day=1)


def compare(
    *, prices: Iterable[pricing.Price], first_day: date, now: datetime, account_id: UUID | None = None
) -> Comparison:
    """The month that begins with `first_day`, of every account or of the one whose own prices these are."""
    asked = _Prices(
        drafted={price.meter: price for price in prices},
        of_account=account_id,
        own={key: price.rule() for key, price in books.overrides(at=now).items()},
        standard={meter: price.rule() for meter, price in books.everybodys(at=now).items()},
    )
    by_meter: dict[str, Costs] = defaultdict(lambda: NONE)
    by_account: dict[UUID, Costs] = defaultdict(lambda: NONE)
    for (owner, meter, _), stretch in _stretches(first_day, account_id).items():
        if stretch.within:
            costs = Costs(stretch.within, stretch.was_ucr, _cost(asked.of(owner, meter), stretch))
            by_meter[meter] = by_meter[meter].plus(costs)
            by_account[owner] = by_account[owner].plus(costs)
    ranked = sorted(by_account, key=lambda owner: (-abs(by_account[owner].more_ucr), owner))[:MOST_ACCOUNTS]
    found = Account.objects.in_bulk(ranked)
    total = _sum(by_meter.values())
    return Comparison(
        first_day=first_day,
        meters={meter: by_meter[meter] for meter in pricing.Meter if meter in by_meter},
        accounts=tuple((found[owner], by_account[owner]) for owner in ranked),
        total=total,
        accounts_used=len(by_account),
    )


def _sum(costs: Iterable[Costs]) -> Costs:
    total = NONE
    for each in costs:
        total = total.plus(each)
    return total


def _cost(price: pricing.Price, stretch: _Stretch) -> int:
    before = amounts.half_even(price.exact(stretch.before))
    whole = amounts.WIDE.add(stretch.before, stretch.within)
    return pricing.rate(price, total_quantity=whole, rated_before_ucr=before).step_ucr


def _stretches(first_day: date, account_id: UUID | None) -> dict[tuple[UUID, str, date], _Stretch]:
    next_month = (first_day + timedelta(days=32)).replace(day=1)
    found: dict[tuple[UUID, str, date], _Stretch] = defaultdict(_Stretch)
    for owner, cadence, meter, day, quantity, cost_ucr in _used(first_day, next_month, account_id):
        if day >= next_month:
            continue
        stretch = found[owner, meter, periods.first_day(day, periods.Cadence(cadence))]
        if day < first_day:
            stretch.before = amounts.WIDE.add(stretch.before, quantity)
        else:
            stretch.within = amounts.WIDE.add(stretch.within, quantity)
            stretch.was_ucr += int(cost_ucr)
    return found


def _used(
    first_day: date, next_month: date, account_id: UUID | None
) -> list[tuple[UUID, str, str, date, Decimal, int]]:
    soon = first_day - timedelta(days=8)
    asked = {
        "from": min(first_day.replace(month=1, day=1), soon) - timedelta(days=1),
        "to": next_month + timedelta(days=1),
        "soon": soon,
        "account": account_id,
    }
    with connection.cursor() as cursor:
        cursor.execute(USED, asked)
        return cursor.fetchall()
