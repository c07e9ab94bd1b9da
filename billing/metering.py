"""What was used, recorded and charged together, once for each (account, source, key).

record_usage    charges at once
capture         charges what a hold has set aside, and lets the rest go
settle          charges for what nobody could set aside before, as far as there is something left
Two calls of the database: what is known of the event, with the wallet locked (rating.py), and then everything
that is written. What is out of the ordinary (late, expired, capped) costs more calls under the same lock.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from functools import cached_property
from typing import NamedTuple
from uuid import UUID

from django.db import connection, transaction

from billing import amounts, calls, ledger, live, rating
from billing.models import Hold, UsageRecord
from billing.rating import Facts, Held, Rated

OLDEST = timedelta(days=35)
NEWEST = timedelta(minutes=5)
KEEP = (
    "select outcome, transaction, available, overdraft"
    " from billing_keep_usage(%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s::jsonb, %s, %s, %s, %s,"
    " %s, %s, %s, %s)"
)


# Made once: making it takes longer than its work.
_sorted_json = json.JSONEncoder(sort_keys=True, default=str).encode


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

    source: str
    key: str
    meter: str
    quantity: Decimal
    occurred_at: datetime
    agent: str
    properties: Mapping[str, object]

    @cached_property
    def properties_json(self) -> str:
        return _sorted_json(dict(self.properties)) if self.properties else "{}"

    @cached_property
    def time(self) -> str:
        return self.occurred_at.isoformat()

    def fingerprint(self, *, with_time: bool) -> str:
        contents = [self.meter, str(self.quantity.normalize()), self.agent, self.properties_json]
        if with_time:
            contents.append(self.time)
        return ledger.fingerprint(*contents)


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
    api_key: str = "",
    is_done: bool = False,
) -> UsageRecord:
    """Charge for one event and keep its record. The same event again answers the first record.

    With `is_done` the work is over, and no budget refuses it any more; it counts all the same.
    """
    return record(
        account_id=account_id, meter=meter, quantity=quantity, occurred_at=occurred_at, now=now,
        key=key, source=source, agent=agent, properties=properties, api_key=api_key, is_done=is_done,
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
    api_key: str = "",
    is_done: bool = False,
) -> tuple[UsageRecord, bool]:
    """Like record_usage; the second value is False when the event had been recorded before."""
    event = Event(source, key, meter, exact_quantity(quantity), occurred_at or now, agent, properties or {})
    facts = _look_up(event, account_id=account_id)
    # An event without a time of its own happened "now", which differs when it is sent again.
    given = event.fingerprint(with_time=occurred_at is not None)
    if facts.earlier:
        return _earlier(facts.earlier, given), False
    check_time(event.occurred_at, now)
    if not facts.is_active:
        raise ledger.AccountNotActive(facts.status)
    rated = _rate(facts, event)
    cost_ucr = chargeable(rated.ucr)
    kept = _keep(facts, event, given, rated, cost_ucr=cost_ucr, now=now, api_key=api_key, is_done=is_done)
    return kept, True


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
    # Whatever is raised here is raised before anything is written, so a caller's transaction needs no savepoint.
    with nullcontext() if connection.in_atomic_block else transaction.atomic():
        event = Event(source, key, meter, exact_quantity(quantity), occurred_at, agent, properties or {})
        facts = _look_up(event, hold_key=hold_key)
        given = event.fingerprint(with_time=True)
        if facts.earlier:
            return _earlier(facts.earlier, given)
        held = facts.held
        assert held is not None
        if held.state in (Hold.State.CAPTURED, Hold.State.RELEASED):
            raise ledger.HoldEnded(held.state)
        rated = _rate(facts, event)
        cost_ucr = min(rated.ucr, held.amount_ucr)
        if held.is_good(now):
            return _keep(facts, event, given, rated, cost_ucr=cost_ucr, now=now, held=held)
        cost_ucr, api_key = min(cost_ucr, _left(facts, held, now)), ledger.key_of(hold_key=hold_key)
        return _keep(facts, event, given, rated, cost_ucr=cost_ucr, now=now, api_key=api_key)


@transaction.atomic
def settle(
    *,
    account_id: UUID,
    meter: str,
    quantity: Decimal,
    occurred_at: datetime,
    now: datetime,
    key: str,
    source: str,
    agent: str = "",
    api_key: str = "",
    properties: Mapping[str, object] | None = None,
) -> UsageRecord:
    """Charge for what was used before anybody could know how much it would be: at most what is available.

    The work was done, and its record must not be lost.
    """
    event = Event(source, key, meter, exact_quantity(quantity), occurred_at, agent, properties or {})
    facts = _look_up(event, account_id=account_id)
    given = event.fingerprint(with_time=True)
    if facts.earlier:
        return _earlier(facts.earlier, given)
    rated = _rate(facts, event)
    cost_ucr = min(rated.ucr, _available(facts, now))
    return _keep(facts, event, given, rated, cost_ucr=cost_ucr, now=now, api_key=api_key)


def _look_up(event: Event, *, account_id: UUID | None = None, hold_key: str | None = None) -> Facts:
    return rating.look_up(
        account_id=account_id, hold_key=hold_key, source=event.source, key=event.key, meter=event.meter,
        at=event.occurred_at,
    )  # fmt: skip


def _rate(facts: Facts, event: Event) -> Rated:
    return rating.rate(facts, meter=event.meter, quantity=event.quantity, at=event.occurred_at)


def _left(facts: Facts, held: Held, now: datetime) -> int:
    """What can still be had without the hold, which is over."""
    ledger.expire_hold(key=held.key, now=now)
    return _available(facts, now)


def _available(facts: Facts, now: datetime) -> int:
    if not facts.is_active:
        return 0
    return max(0, ledger.balance(account_id=facts.account_id, now=now).available_ucr)


def exact_quantity(quantity: Decimal) -> Decimal:
    """The quantity with nine places. Raises OutOfRange."""
    if not (quantity.is_finite() and 0 < quantity <= amounts.MAX_QUANTITY):
        raise OutOfRange("quantity", "Must be more than 0 and at most 10^18.")
    exact = quantity.quantize(Decimal("1e-9"), context=amounts.WIDE)
    if exact != quantity:
        raise OutOfRange("quantity", "Must have at most nine places.")
    return exact


def check_time(occurred_at: datetime, now: datetime) -> None:
    """Raises OutOfRange."""
    if not now - OLDEST <= occurred_at <= now + NEWEST:
        raise OutOfRange("occurred_at", "Must be at most 35 days back and at most 5 minutes ahead.")


def chargeable(ucr: int) -> int:
    """Raises OutOfRange."""
    if ucr > amounts.MAX_UCR:
        raise OutOfRange("quantity", f"One event may cost at most {amounts.MAX_CREDITS} credits.")
    return ucr


def _earlier(found: UUID, given: str) -> UsageRecord:
    """The record of the same event, which came before; the same id with other contents is refused."""
    before = UsageRecord.objects.get(pk=found)
    if before.request_hash != given:
        raise EventConflict(before.key)
    return before


def _keep(
    facts: Facts, event: Event, given: str, rated: Rated, *, cost_ucr: int, now: datetime, held: Held | None = None,
    api_key: str = "", is_done: bool = True,
) -> UsageRecord:  # fmt: skip
    """Charge, from a hold or at once, and write the record."""
    record = UsageRecord(
        account_id=facts.account_id,
        source=event.source,
        key=event.key,
        request_hash=given,
        meter=event.meter,
        quantity=event.quantity,
        agent=event.agent,
        api_key=UUID(api_key) if api_key else None,
        properties=dict(event.properties),
        price=rated.price,
        rated_ucr=rated.ucr,
        cost_ucr=cost_ucr,
        occurred_at=event.occurred_at,
        billed_at=rated.billed_at,
        late=rated.billed_at != event.occurred_at,
        created_at=now,
    )
    written = _write(record, rated, held, api_key, is_done)
    if written.outcome == "expire_first":
        ledger.expire_wallet(account_id=facts.account_id, now=now)
        written = _write(record, rated, held, api_key, is_done)
    if written.outcome not in ("ok", "replay"):
        raise ledger.refusal(
            written.outcome, account_id=facts.account_id, key=event.key, needed_ucr=cost_ucr,
            available_ucr=written.available_ucr, found=written.transaction_id,
        )  # fmt: skip
    record.transaction_id, record.overdraft_ucr = written.transaction_id, written.overdraft_ucr
    record._state.adding, record._state.db = False, connection.alias
    if held:
        del record.api_key  # the hold's, which is read when somebody asks for it
    live.usage_recorded(facts.account_id, is_charged=bool(cost_ucr or held))
    return record


class Written(NamedTuple):
    """What the database answered."""

    outcome: str
    transaction_id: UUID | None
    available_ucr: int
    overdraft_ucr: int


def _write(record: UsageRecord, rated: Rated, held: Held | None, api_key: str, is_done: bool) -> Written:
    cost_ucr, meter = record.cost_ucr, record.meter
    if held:
        charge = ledger.fingerprint("capture", held.key, cost_ucr, meter)
    else:
        charge = ledger.fingerprint("charge", cost_ucr, meter)
    arguments: list[object] = [held.key if held else None, cost_ucr, calls.new_ids(4), charge]
    arguments += [rated.price.name, record.pk, record.account_id, record.source, record.key, record.request_hash, meter]
    arguments += [record.quantity, record.agent, json.dumps(record.properties), rated.price.pk, rated.period_start]
    arguments += [rated.ucr, record.occurred_at, record.billed_at, record.created_at]
    arguments += [api_key, not is_done]
    return Written(*calls.row(KEEP, arguments))
