"""What was used, recorded and charged together, once for each (account, source, key).

record_usage    charges at once
capture         charges what a hold has set aside, and lets the rest go
Under the wallet's lock: the earlier record of the same key, the running total, the charge, the record.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from uuid import UUID
from zoneinfo import ZoneInfo

from django.db import connection, transaction
from django.db.models import F

from billing import amounts, books, ledger, live, periods, pricing
from billing.models import Account, Hold, Invoice, Price, Rating, UsageRecord

OLDEST = timedelta(days=35)
NEWEST = timedelta(minutes=5)
# One statement adds to the running total and locks it. The wallet's lock comes before it everywhere.
ADD = """
insert into billing_rating (account_id, meter, price_id, period_start, quantity, rated_ucr)
values (%s, %s, %s, %s, %s, 0)
on conflict (account_id, meter, price_id, period_start)
do update set quantity = billing_rating.quantity + excluded.quantity
returning id, quantity, rated_ucr
"""


class OutOfRange(Exception):
    """Raised for a quantity or time that cannot be metered."""

    code = "validation_error"

    def __init__(self, field: str, sentence: str) -> None:
        self.field = field
        super().__init__(sentence)

    @property
    def extras(self) -> dict[str, object]:
        return {"errors": {self.field: [str(self)]}}


class EventConflict(Exception):
    """Raised when an event's id was used before for an event with other contents."""

    code = "conflict"

    def __init__(self, key: str) -> None:
        super().__init__(f"The event {key!r} was recorded before with other contents.")


@dataclass(frozen=True)
class Event:
    """What happened, before it is priced."""

    account_id: UUID
    source: str
    key: str
    meter: str
    quantity: Decimal
    occurred_at: datetime
    agent: str
    properties: Mapping[str, object]

    def fingerprint(self, *, with_time: bool) -> str:
        contents = [self.meter, str(self.quantity.normalize()), self.agent]
        contents.append(json.dumps(dict(self.properties), sort_keys=True, default=str))
        if with_time:
            contents.append(self.occurred_at.isoformat())
        return ledger.fingerprint(*contents)


@dataclass(frozen=True)
class Rated:
    """An event priced: by which price, in which period, for how much."""

    price: Price
    rating_id: int
    billed_at: datetime
    late: bool
    ucr: int


def record_usage(
    *,
    account_id: UUID,
    meter: str,
    quantity: Decimal,
    occurred_at: datetime | None,
    now: datetime,
    key: str,
    source: str,
    agent: str = "",
    properties: Mapping[str, object] | None = None,
) -> UsageRecord:
    """Charge for one event and keep its record. The same event again answers the first record."""
    return record(
        account_id=account_id, meter=meter, quantity=quantity, occurred_at=occurred_at, now=now,
        key=key, source=source, agent=agent, properties=properties,
    )[0]  # fmt: skip


@transaction.atomic
def record(
    *,
    account_id: UUID,
    meter: str,
    quantity: Decimal,
    occurred_at: datetime | None,
    now: datetime,
    key: str,
    source: str,
    agent: str = "",
    properties: Mapping[str, object] | None = None,
) -> tuple[UsageRecord, bool]:
    """Like record_usage; the second value is False when the event had been recorded before."""
    event = Event(account_id, source, key, meter, _quantity(quantity), occurred_at or now, agent, properties or {})
    account = Account.objects.get(pk=account_id)
    ledger.lock_wallet(account_id)
    # An event without a time of its own happened "now", which differs when it is sent again.
    given = event.fingerprint(with_time=occurred_at is not None)
    before = _earlier(event, given)
    if before is not None:
        return before, False
    if not now - OLDEST <= event.occurred_at <= now + NEWEST:
        raise OutOfRange("occurred_at", "Must be at most 35 days back and at most 5 minutes ahead.")
    if account.status != Account.Status.ACTIVE:
        raise ledger.AccountNotActive(account.status)
    rated = _rate(account, event)
    receipt = None
    if rated.ucr:
        receipt = ledger.charge(
            account_id=account_id, amount_ucr=_chargeable(rated.ucr), meter=meter, key=key, source=f"usage:{source}",
            now=now, description=rated.price.name,
        )  # fmt: skip
    return _keep(event, given, rated, receipt, now), True


@transaction.atomic
def capture(
    *,
    hold_key: str,
    meter: str,
    quantity: Decimal,
    occurred_at: datetime,
    now: datetime,
    key: str,
    source: str,
    agent: str = "",
    properties: Mapping[str, object] | None = None,
) -> UsageRecord:
    """Charge for finished work from its hold, at most what was held, and let the rest go.

    When the hold has expired meanwhile, what is still available is charged up to the held amount: the
    work was done, and its record must not be lost.
    """
    held = Hold.objects.select_related("account").filter(key=hold_key).first()
    if held is None:
        raise ledger.UnknownHold
    event = Event(held.account_id, source, key, meter, _quantity(quantity), occurred_at, agent, properties or {})
    ledger.lock_wallet(held.account_id)
    given = event.fingerprint(with_time=True)
    before = _earlier(event, given)
    if before is not None:
        return before
    held.refresh_from_db(fields=["state"])
    if held.state in (Hold.State.CAPTURED, Hold.State.RELEASED):
        raise ledger.HoldEnded(held.state)
    rated = _rate(held.account, event)
    receipt = _collect(held, event, rated, now)
    return _keep(event, given, rated, receipt, now)


def _collect(held: Hold, event: Event, rated: Rated, now: datetime) -> ledger.Receipt | None:
    wanted = min(rated.ucr, held.amount_ucr)
    said = {"meter": event.meter, "key": event.key, "source": f"usage:{event.source}", "now": now}
    if held.state == Hold.State.ACTIVE and held.expires_at > now:
        if wanted:
            return ledger.capture(hold_key=held.key, amount_ucr=wanted, description=rated.price.name, **said)
        ledger.release(key=held.key, now=now)
        return None
    ledger.expire_hold(key=held.key, now=now)
    left = ledger.balance(account_id=held.account_id, now=now).available_ucr
    wanted = min(wanted, left) if held.account.status == Account.Status.ACTIVE else 0
    if wanted <= 0:
        return None
    return ledger.charge(account_id=held.account_id, amount_ucr=wanted, description=rated.price.name, **said)


def _quantity(quantity: Decimal) -> Decimal:
    if not (quantity.is_finite() and 0 < quantity <= amounts.MAX_QUANTITY):
        raise OutOfRange("quantity", "Must be more than 0 and at most 10^18.")
    exact = quantity.quantize(Decimal("1e-9"), context=amounts.WIDE)
    if exact != quantity:
        raise OutOfRange("quantity", "Must have at most nine places.")
    return exact


def _chargeable(ucr: int) -> int:
    if ucr > amounts.MAX_UCR:
        raise OutOfRange("quantity", f"One event may cost at most {amounts.MAX_CREDITS} credits.")
    return ucr


def _earlier(event: Event, given: str) -> UsageRecord | None:
    """The record of the same event, if it came before; the same id with other contents is refused."""
    before = UsageRecord.objects.filter(account_id=event.account_id, source=event.source, key=event.key).first()
    if before is not None and before.request_hash != given:
        raise EventConflict(event.key)
    return before


def _rate(account: Account, event: Event) -> Rated:
    """Add the event to its running total; its cost is what the total's price grew by."""
    billed_at = open_moment(account_id=account.pk, at=event.occurred_at)
    price = books.price_of(account_id=account.pk, meter=event.meter, at=billed_at)
    cadence = periods.Cadence(account.billing_period)
    period = periods.containing(billed_at, cadence, ZoneInfo(account.time_zone))
    with connection.cursor() as cursor:
        cursor.execute(ADD, [account.pk, event.meter, price.pk, period.start, event.quantity])
        rating_id, total_quantity, before_ucr = cursor.fetchone()
    step = pricing.rate(price.rule(), total_quantity=total_quantity, rated_before_ucr=before_ucr)
    return Rated(price, rating_id, billed_at, billed_at != event.occurred_at, step.step_ucr)


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


def _keep(event: Event, given: str, rated: Rated, receipt: ledger.Receipt | None, now: datetime) -> UsageRecord:
    if rated.ucr:
        Rating.objects.filter(pk=rated.rating_id).update(rated_ucr=F("rated_ucr") + rated.ucr)
    kept = UsageRecord.objects.create(
        account_id=event.account_id,
        source=event.source,
        key=event.key,
        request_hash=given,
        meter=event.meter,
        quantity=event.quantity,
        agent=event.agent,
        properties=dict(event.properties),
        price=rated.price,
        rated_ucr=rated.ucr,
        cost_ucr=receipt.amount_ucr if receipt else 0,
        overdraft_ucr=receipt.overdraft_ucr if receipt else 0,
        transaction_id=receipt.transaction_id if receipt else None,
        occurred_at=event.occurred_at,
        billed_at=rated.billed_at,
        late=rated.late,
        created_at=now,
    )
    live.usage_recorded(event.account_id)
    return kept
