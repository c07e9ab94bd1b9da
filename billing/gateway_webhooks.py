"""Webhooks of the gateways: kept as they came, then understood, each once.

    arrives -> invalid (not signed: refused)
            -> received -> processed | failed -> tried again, for a day
            -> duplicate (its event was received before)

What arrived is committed before anything is made of it, so what fails can be read, and is tried again.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import datetime, timedelta
from uuid import UUID

from django.db import IntegrityError, transaction
from django.db.models import QuerySet

from billing import card_setups, disputes, settlement
from billing.gateways import BadSignature, ChargeState, Event, Unreadable, registry
from billing.models import GatewayWebhook, Payment, PaymentEvent
from billing.payment_states import SENT_BY

MOST_BYTES = 64 * 1024
KEPT_HEADERS = (
    "webhook-id",
    "webhook-timestamp",
    "webhook-signature",
    "stripe-signature",
    "content-type",
    "user-agent",
)
# Anybody can send nonsense; so much of it is kept to look at.
MOST_INVALID = 200
INVALID_WITHIN = timedelta(hours=1)
INVALID_KEPT = timedelta(days=7)
DUPLICATES_KEPT = timedelta(days=30)
FIRST_RETRY = timedelta(seconds=10)
MOST_ATTEMPTS = 12
State = GatewayWebhook.State
log = logging.getLogger(__name__)


class TooLarge(Exception):
    """Raised for a webhook longer than any gateway's."""

    code = "payload_too_large"
    extras = {"limit": MOST_BYTES}

    def __init__(self) -> None:
        super().__init__(f"A webhook is at most {MOST_BYTES} bytes.")


class NotKnownYet(Exception):
    """Raised for a dispute of a payment that may be one whose answer was lost."""

    payment_id = None

    def __init__(self, gateway: str) -> None:
        self.gateway = gateway
        super().__init__("Its payment is not known here by this id yet. It is heard when that is known.")


def receive(*, gateway: str, body: bytes, headers: Mapping[str, str], now: datetime) -> GatewayWebhook:
    """Keep a webhook and act on it, once. Raises UnknownGateway, TooLarge, BadSignature, Unreadable."""
    found = registry.named(gateway)
    if len(body) > MOST_BYTES:
        raise TooLarge
    said = {"gateway": gateway, "body": body, "headers": _kept(headers), "received_at": now}
    try:
        event = found.read_webhook(body=body, headers=headers, now=now)
    except (BadSignature, Unreadable) as wrong:
        _keep_invalid(said, str(wrong), now)
        raise
    webhook, is_new = _keep(said, event)
    if is_new or webhook.state in (State.RECEIVED, State.FAILED):
        process(webhook=webhook, event=event, now=now)
    return webhook


def _kept(headers: Mapping[str, str]) -> dict[str, str]:
    given = {name.lower(): value for name, value in headers.items()}
    return {name: given[name].replace("\x00", "")[:500] for name in KEPT_HEADERS if name in given}


def _keep_invalid(said: dict[str, object], error: str, now: datetime) -> None:
    lately = GatewayWebhook.objects.filter(state=State.INVALID, received_at__gt=now - INVALID_WITHIN)
    if lately.count() < MOST_INVALID:
        GatewayWebhook.objects.create(**said, state=State.INVALID, error=error[:500])


def _keep(said: dict[str, object], event: Event) -> tuple[GatewayWebhook, bool]:
    """The row of this event, and whether it is new; a repeat is kept as a duplicate beside it."""
    about = {"event_id": event.id, "type": event.type}
    try:
        with transaction.atomic():
            return GatewayWebhook.objects.create(**said, **about, state=State.RECEIVED), True
    except IntegrityError:
        GatewayWebhook.objects.create(**said, **about, state=State.DUPLICATE)
        first = GatewayWebhook.objects.exclude(state__in=(State.DUPLICATE, State.INVALID))
        return first.get(gateway=said["gateway"], event_id=event.id), False


def process(*, webhook: GatewayWebhook, event: Event, now: datetime) -> None:
    """Act on an event. What goes wrong is written down, and tried again later."""
    try:
        with transaction.atomic():
            _act(webhook, event, now)
    except (disputes.NotPaidYet, NotKnownYet) as early:
        _hurry(early, now)
        _put_off(webhook, early, now)
    except Exception as wrong:  # noqa: BLE001 - whatever went wrong is evidence, and the gateway has done its part
        log.exception("the webhook %s of %s failed", event.id, webhook.gateway)
        _put_off(webhook, wrong, now)


def _act(webhook: GatewayWebhook, event: Event, now: datetime) -> None:
    # Two that process one event take turns; the second finds it done.
    webhook = GatewayWebhook.objects.select_for_update().get(pk=webhook.pk)
    if webhook.state == State.PROCESSED:
        return
    payment = _payment_of(webhook.gateway, event)
    if payment is None and event.dispute is not None and _open(webhook.gateway).exists():
        raise NotKnownYet(webhook.gateway)
    webhook.payment = payment
    webhook.state, webhook.processed_at, webhook.retry_at = State.PROCESSED, now, None
    webhook.attempts += 1
    is_known = payment is not None and (event.state is not None or event.dispute is not None)
    is_known = is_known or (event.setup != "" and card_setups.hurry(ref=event.setup, now=now))
    webhook.error = "" if is_known else "It is about nothing that is known here."
    webhook.save()
    if payment is not None and event.state is not None:
        settlement.record(payment_id=payment.pk, said=_said(event, webhook), now=now)
        if event.state == ChargeState.AUTHORIZED:  # the janitor asks, and captures
            Payment.objects.filter(pk=payment.pk, ask_at__isnull=False).update(ask_at=now)
    if payment is not None and event.dispute is not None:
        disputes.hear(payment=payment, said=event.dispute, now=now)


def _open(gateway: str) -> QuerySet[Payment]:
    """Payments of which a word may be lost: one of them may be meant by a name that was never heard here."""
    return Payment.objects.filter(gateway=gateway, ask_at__isnull=False)


def _hurry(early: disputes.NotPaidYet | NotKnownYet, now: datetime) -> None:
    """The janitor asks at its next turn; what comes of it lets the dispute be heard."""
    mine = Payment.objects.filter(pk=early.payment_id) if early.payment_id else _open(early.gateway)
    mine.filter(ask_at__gt=now, created_at__lte=now - SENT_BY).update(ask_at=now)


def _payment_of(gateway: str, event: Event) -> Payment | None:
    """By the gateway's id of it; or by ours, while the answer that tells the gateway's is lost."""
    mine = Payment.objects.filter(gateway=gateway)
    found = mine.filter(gateway_ref=event.ref).first() if event.ref else None
    if found is not None:
        return found
    try:
        return mine.filter(pk=UUID(event.reference)).first()
    except ValueError:
        return None


def _said(event: Event, webhook: GatewayWebhook) -> settlement.Said:
    assert event.state is not None
    return settlement.Said(
        source=PaymentEvent.Source.WEBHOOK,
        state=settlement.STATE_OF[event.state],
        ref=event.ref if event.ref != event.reference else "",
        amount=event.amount,
        currency=event.currency,
        failure_code=event.failure_code,
        failure_message=event.failure_message,
        webhook=webhook,
    )


def _put_off(webhook: GatewayWebhook, wrong: Exception, now: datetime) -> None:
    attempts = webhook.attempts + 1
    wait = FIRST_RETRY * 2 ** min(attempts, 12)
    GatewayWebhook.objects.filter(pk=webhook.pk).exclude(state=State.PROCESSED).update(
        state=State.FAILED,
        attempts=attempts,
        error=f"{type(wrong).__name__}: {wrong}"[:500],
        retry_at=now + wait if attempts < MOST_ATTEMPTS else None,
    )


def retry(*, webhook: GatewayWebhook, now: datetime) -> None:
    """Try one again that failed; its signature was good when it came."""
    process(webhook=webhook, event=registry.read_kept(webhook.gateway, bytes(webhook.body)), now=now)


def sweep(*, now: datetime) -> int:
    """Try again what is due, and what a crash left unprocessed; forget old nonsense. Returns how many were tried."""
    late = GatewayWebhook.objects.filter(state=State.RECEIVED, received_at__lt=now - FIRST_RETRY)
    due = GatewayWebhook.objects.filter(retry_at__lte=now)
    tried = [*due.order_by("retry_at", "pk")[:50], *late.order_by("received_at", "pk")[:50]]
    for webhook in tried:
        retry(webhook=webhook, now=now)
    GatewayWebhook.objects.filter(state=State.INVALID, received_at__lt=now - INVALID_KEPT).delete()
    GatewayWebhook.objects.filter(state=State.DUPLICATE, received_at__lt=now - DUPLICATES_KEPT).delete()
    return len(tried)
