"""Events told again: one, or all that an endpoint wants since a time. Their ids stay, so receivers know them."""

from __future__ import annotations

from datetime import datetime

from django.db import transaction
from django.db.models import Q, QuerySet

from billing import live
from billing.models import OutgoingEvent, WebhookDelivery, WebhookEndpoint
from billing.outgoing import endpoints, outbox
from billing.outgoing.event_types import EVERYTHING

MOST = 10_000
BATCH = 500


class TooMuchToReplay(Exception):
    """Raised when more would be replayed than one request may start."""

    code = "resource_limit_exceeded"
    extras = {"limit": MOST}

    def __init__(self) -> None:
        super().__init__(f"More than {MOST} events happened since then. Choose a later time.")


@transaction.atomic
def one(*, delivery: WebhookDelivery, now: datetime) -> WebhookDelivery:
    """Send an event again; one that still waits is sent now. Raises endpoints.EndpointIsOff."""
    endpoint = delivery.endpoint
    if not endpoint.is_on:
        raise endpoints.EndpointIsOff
    outbox.deliver(delivery.event, [endpoint], now=now, is_replay=True)
    waiting = WebhookDelivery.objects.filter(
        event=delivery.event, endpoint=endpoint, state=WebhookDelivery.State.PENDING
    )
    waiting.filter(due_at__gt=now, attempts__gt=0).update(due_at=now)
    return waiting.get()


@transaction.atomic
def since(*, endpoint: WebhookEndpoint, moment: datetime, now: datetime) -> int:
    """Send everything it wants that happened at or after a moment; returns how many events that is.

    Also what was told before it existed to others. Raises endpoints.EndpointIsOff, TooMuchToReplay.
    """
    if not endpoint.is_on:
        raise endpoints.EndpointIsOff
    found = list(wanted(endpoint).filter(created_at__gte=moment).order_by("created_at", "pk")[: MOST + 1])
    if len(found) > MOST:
        raise TooMuchToReplay
    made = [
        WebhookDelivery(event=event, endpoint=endpoint, is_replay=True, due_at=now, created_at=now) for event in found
    ]
    WebhookDelivery.objects.bulk_create(made, ignore_conflicts=True, batch_size=BATCH)
    live.deliveries_changed(endpoint.account_id, endpoint.pk)
    return len(found)


def wanted(endpoint: WebhookEndpoint) -> QuerySet[OutgoingEvent]:
    """The events that are kept and that this endpoint would be told of."""
    mine = Q(account=endpoint.account_id)
    if endpoint.is_operator:
        mine |= Q(account=None)
    kinds = Q() if EVERYTHING in endpoint.events else Q(type__in=endpoint.events)
    return OutgoingEvent.objects.filter(mine, kinds)
