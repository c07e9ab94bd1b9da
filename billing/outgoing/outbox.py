"""Writes down what there is to tell, in the transaction in which it happens: both are committed, or neither is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from uuid import UUID

from django.db import IntegrityError, transaction

from billing import live
from billing.models import OutgoingEvent, WebhookDelivery, WebhookEndpoint
from billing.outgoing import event_types

Facts = Mapping[str, object]
# Events, their deliveries and the log of attempts; replays reach as far back.
KEPT = timedelta(days=30)
FORGET_BATCH = 500


def publish(
    *, account_id: UUID | None, type: str, data: Facts | Callable[[], Facts], now: datetime, key: str = ""
) -> OutgoingEvent | None:
    """Tell the endpoints that want it; None when nobody does, or when an event of this key was told before.

    Without an account it is the operators'. Costs one query where nobody listens: `data` that must be looked up may
    be a function. An endpoint that is off is not told, but its events are kept to be replayed.
    """
    assert type in event_types.BY_NAME, type
    assert transaction.get_connection().in_atomic_block
    found = list(WebhookEndpoint.objects.wanting(account_id, type).only("id", "off", "account_id"))
    event = _write(account_id, type, data() if callable(data) else data, now, key) if found else None
    if event is not None:
        deliver(event, [each for each in found if each.is_on], now=now)
    return event


def is_wanted(account_id: UUID | None, type: str) -> bool:
    """Whether anybody is to be told; for who has many of a type to tell at once."""
    assert type in event_types.BY_NAME, type
    return WebhookEndpoint.objects.wanting(account_id, type).exists()


def _write(account_id: UUID | None, type: str, data: Facts, now: datetime, key: str) -> OutgoingEvent | None:
    said = {"account_id": account_id, "type": type, "data": dict(data), "key": key, "created_at": now}
    if not key:
        return OutgoingEvent.objects.create(**said)
    try:
        with transaction.atomic():
            return OutgoingEvent.objects.create(**said)
    except IntegrityError:
        return None


def deliver(
    event: OutgoingEvent, endpoints: list[WebhookEndpoint], *, now: datetime, is_replay: bool = False
) -> list[WebhookDelivery]:
    """Queue an event for endpoints; where it waits already it stays queued once."""
    made = [
        WebhookDelivery(event=event, endpoint=each, is_replay=is_replay, due_at=now, created_at=now)
        for each in endpoints
    ]
    WebhookDelivery.objects.bulk_create(made, ignore_conflicts=True)
    for each in endpoints:
        live.deliveries_changed(each.account_id, each.pk)
    return made


def forget(*, now: datetime) -> int:
    """Let go of what was told long ago; what still waits to be delivered stays. Returns how many events went."""
    old = OutgoingEvent.objects.filter(created_at__lt=now - KEPT)
    waiting = WebhookDelivery.objects.filter(state=WebhookDelivery.State.PENDING, event__in=old)
    # A replay may have made a young delivery of an old event.
    ids = old.exclude(pk__in=waiting.values("event")).order_by("created_at").values_list("pk", flat=True)[:FORGET_BATCH]
    OutgoingEvent.objects.filter(pk__in=list(ids)).delete()
    return len(ids)
