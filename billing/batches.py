"""Many usage events of one account, charged and kept together: the same rules as metering, in a few statements.

    known keys -> prices and running totals -> each event in its order, in memory -> COPY, one charge for each meter

One event after the other decides as it would alone, so an event is refused by itself and harms no other. All that is
charged of one meter is one transaction of the ledger, with as many usage records as there were events.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from functools import cache
from typing import NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

from django.db import connection, transaction
from uuid_utils.compat import uuid7

from billing import amounts, books, ledger, live, metering, periods, pricing
from billing.metering import Event, EventConflict, OutOfRange
from billing.models import Account, Invoice, Price, Rating

COLUMNS = (
    "id", "account_id", "source", "key", "request_hash", "meter", "quantity", "agent", "properties", "price_id",
    "rated_ucr", "cost_ucr", "overdraft_ucr", "transaction_id", "occurred_at", "billed_at", "late", "created_at",
    "api_key",
)  # fmt: skip
COPY = f"copy billing_usagerecord ({', '.join(COLUMNS)}) from stdin"
KNOWN = """
select u.id, u.source, u.key, u.request_hash, u.cost_ucr, u.transaction_id, u.late
  from json_array_elements(%s) asked
  join billing_usagerecord u on u.account_id = %s and u.source = asked ->> 0 and u.key = asked ->> 1"""
TOTALS = """
insert into billing_rating as total (account_id, meter, price_id, period_start, quantity, rated_ucr)
select %s, * from unnest(%s::text[], %s::uuid[], %s::timestamptz[], %s::numeric[], %s::bigint[])
on conflict (account_id, meter, price_id, period_start)
do update set quantity = total.quantity + excluded.quantity, rated_ucr = total.rated_ucr + excluded.rated_ucr"""


REFUSALS = (*ledger.CANNOT_SPEND, ledger.KeyReused, EventConflict, OutOfRange, pricing.UnknownMeter)


class Given(NamedTuple):
    """An event, and whether it said when it happened."""

    event: Event
    has_time: bool


@dataclass(slots=True)
class Kept:
    """What became of an event: its record, now or before. Named as UsageRecord names it."""

    pk: UUID
    key: str
    request_hash: str
    cost_ucr: int
    transaction_id: UUID | None
    late: bool


class Outcome(NamedTuple):
    """One of both is there."""

    kept: Kept | None
    is_new: bool
    refused: Exception | None


@dataclass(slots=True)
class _Row:
    """A record that is about to be written."""

    kept: Kept
    event: Event
    price: Price
    rated_ucr: int
    billed_at: datetime
    overdraft_ucr: int = 0


@dataclass(slots=True)
class _Total:
    """A running total, and how much this batch adds to it."""

    quantity: Decimal
    rated_ucr: int
    added: Decimal = Decimal(0)
    added_ucr: int = 0


@dataclass
class _Tab:
    """What the database knows before a batch, and what the batch adds to it."""

    account: Account
    now: datetime
    api_key: str
    purse_ucr: int
    known: dict[tuple[str, str], Kept]
    prices: dict[str, list[Price]]
    invoiced: list[tuple[datetime, datetime]]
    rules: dict[UUID, pricing.Price] = field(default_factory=dict)
    totals: dict[tuple[str, UUID, datetime], _Total] = field(default_factory=dict)
    rows: list[_Row] = field(default_factory=list)
    period: periods.Period | None = None

    def period_start(self, at: datetime) -> datetime:
        if self.period is None or at not in self.period:
            cadence, zone = periods.Cadence(self.account.billing_period), ZoneInfo(self.account.time_zone)
            self.period = periods.containing(at, cadence, zone)
        return self.period.start

    def open_moment(self, at: datetime) -> datetime:
        """As rating.open_moment."""
        for start, end in self.invoiced:
            if start > at:
                break
            at = max(at, end)
        return at

    def price(self, meter: str, at: datetime) -> Price:
        for price in self.prices.get(meter, ()):
            book = price.book
            if book.valid_from <= at and (book.valid_until is None or book.valid_until > at):
                return price
        return books.price_of(account_id=self.account.pk, meter=meter, at=at)

    def total(self, meter: str, price: Price, start: datetime) -> _Total:
        place = (meter, price.pk, start)
        if place not in self.totals:
            own = Rating.objects.filter(account=self.account, meter=meter, price=price, period_start=start)
            found = own.values_list("quantity", "rated_ucr").first()
            self.totals[place] = _Total(*found) if found else _Total(Decimal(0), 0)
        return self.totals[place]


@transaction.atomic
def record_many(*, account_id: UUID, events: Sequence[Given], now: datetime, api_key: str = "") -> list[Outcome]:
    """Charge and keep events in their order; each is answered as metering.record would, by a record or a refusal."""
    wallet = ledger.lock_wallet(account_id)
    if wallet.has_budgets:
        # A budget watches each event, and may refuse it by its agent, meter or key.
        return [_alone(account_id, given, now, api_key) for given in events]
    expired_ucr = ledger.expire_wallet(account_id=account_id, now=now)
    tab = _open(account_id, [given.event for given in events], now, api_key, wallet.available_ucr - expired_ucr)
    outcomes = [_answer(tab, given) for given in events]
    if tab.rows:
        _charge(tab)
        _write(tab)
        live.usage_recorded(account_id, is_charged=any(row.kept.cost_ucr for row in tab.rows))
    return outcomes


def _alone(account_id: UUID, given: Given, now: datetime, api_key: str) -> Outcome:
    """One event as if it had come by itself."""
    event = given.event
    try:
        record, is_new = metering.record(
            account_id=account_id, meter=event.meter, quantity=event.quantity, now=now, key=event.key,
            occurred_at=event.occurred_at if given.has_time else None, source=event.source, agent=event.agent,
            properties=event.properties, api_key=api_key,
        )  # fmt: skip
    except REFUSALS as no:
        return Outcome(None, False, no)
    kept = Kept(record.pk, record.key, record.request_hash, record.cost_ucr, record.transaction_id, record.late)
    return Outcome(kept, is_new, None)


def _open(account_id: UUID, events: Sequence[Event], now: datetime, api_key: str, purse_ucr: int) -> _Tab:
    oldest = min((event.occurred_at for event in events), default=now)
    final = Invoice.objects.filter(account=account_id, state__in=Invoice.FINAL_STATES, period_end__gt=oldest)
    return _Tab(
        account=Account.objects.get(pk=account_id),
        now=now,
        api_key=api_key,
        purse_ucr=purse_ucr,
        known=_known(account_id, events),
        prices=books.history(account_id=account_id),
        invoiced=list(final.order_by("period_start").values_list("period_start", "period_end")),
    )


def _known(account_id: UUID, events: Sequence[Event]) -> dict[tuple[str, str], Kept]:
    asked = json.dumps([(event.source, event.key) for event in events])
    with connection.cursor() as cursor:
        cursor.execute(KNOWN, [asked, account_id])
        return {
            (source, key): Kept(pk, key, given, cost_ucr, transaction_id, late)
            for pk, source, key, given, cost_ucr, transaction_id, late in cursor.fetchall()
        }


def _answer(tab: _Tab, given: Given) -> Outcome:
    try:
        return _take(tab, given)
    except REFUSALS as no:
        return Outcome(None, False, no)


def _take(tab: _Tab, given: Given) -> Outcome:
    event = given.event
    fingerprint = event.fingerprint(with_time=given.has_time)
    before = tab.known.get((event.source, event.key))
    if before is not None:
        if before.request_hash != fingerprint:
            raise EventConflict(event.key)
        return Outcome(before, False, None)
    metering.check_time(event.occurred_at, tab.now)
    if tab.account.status != Account.Status.ACTIVE:
        raise ledger.AccountNotActive(tab.account.status)
    return Outcome(_keep(tab, event, fingerprint), True, None)


def _keep(tab: _Tab, event: Event, fingerprint: str) -> Kept:
    """Price it by the running total so far, and take it on the tab if there is enough left."""
    billed_at = tab.open_moment(event.occurred_at) if tab.invoiced else event.occurred_at
    price = tab.price(event.meter, billed_at)
    rule = tab.rules.get(price.pk) or tab.rules.setdefault(price.pk, price.rule())
    total = tab.total(event.meter, price, tab.period_start(billed_at))
    quantity = amounts.WIDE.add(total.quantity, event.quantity)
    cost_ucr = metering.chargeable(
        pricing.rate(rule, total_quantity=quantity, rated_before_ucr=total.rated_ucr).step_ucr
    )
    if cost_ucr > tab.purse_ucr:
        raise ledger.InsufficientCredits(cost_ucr, max(0, tab.purse_ucr))
    tab.purse_ucr -= cost_ucr
    total.quantity, total.rated_ucr = quantity, total.rated_ucr + cost_ucr
    total.added, total.added_ucr = amounts.WIDE.add(total.added, event.quantity), total.added_ucr + cost_ucr
    kept = Kept(uuid7(), event.key, fingerprint, cost_ucr, None, billed_at != event.occurred_at)
    tab.known[event.source, event.key] = kept
    tab.rows.append(_Row(kept, event, price, cost_ucr, billed_at))
    return kept


def _charge(tab: _Tab) -> None:
    """One charge for each meter; what no grant covered falls on the events that came last."""
    for rows in _by_charge(tab.rows):
        first, cost_ucr = rows[0], sum(row.kept.cost_ucr for row in rows)
        receipt = ledger.charge(
            account_id=tab.account.pk, amount_ucr=cost_ucr, meter=first.event.meter, source="usage-batch",
            key=str(first.kept.pk), description=_described(rows), now=tab.now,
        )  # fmt: skip
        uncovered = receipt.overdraft_ucr
        for row in reversed(rows):
            row.kept.transaction_id = receipt.transaction_id
            row.overdraft_ucr = min(uncovered, row.kept.cost_ucr)
            uncovered -= row.overdraft_ucr


def _described(rows: Sequence[_Row]) -> str:
    return rows[0].price.name if len(rows) == 1 else f"{rows[0].price.name}, {len(rows):,} events"


def _by_charge(rows: Sequence[_Row]) -> Iterator[list[_Row]]:
    """The rows of each meter that cost something, in parts of what one charge may be."""
    for meter in dict.fromkeys(row.event.meter for row in rows):
        part: list[_Row] = []
        cost_ucr = 0
        for row in rows:
            if row.event.meter != meter or not row.kept.cost_ucr:
                continue
            if cost_ucr + row.kept.cost_ucr > amounts.MAX_UCR:
                yield part
                part, cost_ucr = [], 0
            part.append(row)
            cost_ucr += row.kept.cost_ucr
        if part:
            yield part


def _write(tab: _Tab) -> None:
    columns = _columns_of(tab)
    added = [(place, total) for place, total in tab.totals.items() if total.added]
    with connection.cursor() as cursor:
        with cursor.copy(COPY) as copy:
            for row in tab.rows:
                copy.write_row(columns(row))
        cursor.execute(
            TOTALS,
            [
                tab.account.pk,
                *(list(each) for each in zip(*(place for place, _ in added), strict=True)),
                [total.added for _, total in added],
                [total.added_ucr for _, total in added],
            ],
        )


def _columns_of(tab: _Tab) -> Callable[[_Row], tuple[object, ...]]:
    """What COPY is given of a row: text, and what many rows share made into text once."""
    account, now, api_key = str(tab.account.pk), tab.now.isoformat(), tab.api_key or None
    text = cache(str)

    def columns(row: _Row) -> tuple[object, ...]:
        kept, event = row.kept, row.event
        return (
            str(kept.pk), account, event.source, event.key, kept.request_hash, event.meter, str(event.quantity),
            event.agent, event.properties_json, text(row.price.pk), row.rated_ucr, kept.cost_ucr, row.overdraft_ucr,
            text(kept.transaction_id) if kept.transaction_id else None, event.time,
            row.billed_at.isoformat() if kept.late else event.time, kept.late, now, api_key,
        )  # fmt: skip

    return columns
