"""Finds out what became of payments and refunds whose outcome is open, by asking their gateways again.

It asks 5 s after the last word, then 10, 20, 40 .. up to an hour apart, for as long as it takes. A payment that never
reached its gateway fails after ten minutes: it is not sent again, since its customer may be gone or have paid anew.
A refund is, with its own key, since money that is owed does not expire; so is evidence for a dispute. What nobody
confirms is given up after a day.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from django.db.models import F, QuerySet

from billing import evidence, payment_states, refunds, settlement
from billing.gateways import AnswerLost, ChargeState, NotFound, Refused, registry
from billing.models import DisputeEvidence, Payment, PaymentEvent, Refund
from billing.payment_states import SENT_BY, RefundState, State

BATCH = 50
# A gateway that answers slowly must not keep a sweep from ending; the rest is asked in the next.
MOST_SECONDS = 15.0
Source = PaymentEvent.Source
Asked = Payment | Refund | DisputeEvidence
log = logging.getLogger(__name__)


def sweep(*, now: datetime, gateways: Sequence[str] = registry.ALL) -> int:
    """Ask these gateways about everything that is due; returns how many were asked about."""
    due: list[Asked] = [each for rows in _due(now, gateways) for each in rows[:BATCH]]
    started, asked = time.monotonic(), 0
    for each in due:
        if time.monotonic() - started > MOST_SECONDS:
            break
        asked += _claim(each, now) and _ask(each, now)
    return asked


def is_due(*, now: datetime) -> bool:
    return any(rows.exists() for rows in _due(now, registry.ALL))


def _due(now: datetime, gateways: Sequence[str]) -> tuple[QuerySet[Any], ...]:
    return _payments(now, gateways), _refunds(now, gateways), _evidence(now, gateways)


def _payments(now: datetime, gateways: Sequence[str]) -> QuerySet[Payment]:
    due = Payment.objects.select_related("account").filter(ask_at__lte=now, gateway__in=gateways)
    due = due.exclude(gateway__in=registry.TOLD, state=State.PROCESSING)
    return due.order_by("ask_at", "pk")


def _refunds(now: datetime, gateways: Sequence[str]) -> QuerySet[Refund]:
    due = Refund.objects.select_related("payment").filter(ask_at__lte=now, payment__gateway__in=gateways)
    due = due.exclude(payment__gateway__in=registry.TOLD, state=RefundState.PROCESSING)
    return due.order_by("ask_at", "pk")


def _evidence(now: datetime, gateways: Sequence[str]) -> QuerySet[DisputeEvidence]:
    due = DisputeEvidence.objects.select_related("dispute").filter(ask_at__lte=now, dispute__gateway__in=gateways)
    return due.order_by("ask_at", "pk")


def _claim(each: Asked, now: datetime) -> bool:
    """Only one asks, and the next time is set before, so that a crash costs a wait and never the question."""
    mine = type(each).objects.filter(pk=each.pk, ask_at=each.ask_at)
    again = now + payment_states.ask_after(each.asked_times + 1)
    return bool(mine.update(ask_at=again, asked_times=F("asked_times") + 1))


def _ask(each: Asked, now: datetime) -> bool:
    try:
        if isinstance(each, Payment):
            ask(payment=each, now=now)
        elif isinstance(each, DisputeEvidence):
            evidence.send(evidence=each, now=now)
        else:
            ask_refund(refund=each, now=now)
    except (AnswerLost, registry.UnknownGateway) as lost:
        log.warning("the gateway does not say what became of %s %s: %s", type(each).__name__, each.pk, lost)
    return True


def ask(*, payment: Payment, now: datetime) -> Payment:
    """What became of a payment, asked now. Raises AnswerLost, registry.UnknownGateway."""
    gateway = registry.of(payment.gateway)
    try:
        charge = gateway.fetch(ref=payment.gateway_ref or "", reference=str(payment.pk))
        lapsed = payment_states.action_lapsed(created_at=payment.created_at, now=now)
        if charge.state == ChargeState.REQUIRES_ACTION and lapsed:
            charge = gateway.cancel(charge.ref, key=f"{payment.pk}:cancel")
    except NotFound:
        return _not_there(payment, now)
    except Refused:
        return payment
    return settlement.settle(payment_id=payment.pk, charge=charge, source=Source.ASKED, now=now)


def _not_there(payment: Payment, now: datetime) -> Payment:
    gone = payment_states.never_arrived(created_at=payment.created_at, now=now)
    if payment.state not in (State.CREATED, State.UNKNOWN) or not gone:
        return payment
    said = settlement.Said(
        source=Source.CLOCK,
        state=State.FAILED,
        failure_code="not_received",
        failure_message="It never reached the payment gateway; nothing was charged.",
    )
    return settlement.record(payment_id=payment.pk, said=said, now=now)


def ask_refund(*, refund: Refund, now: datetime) -> Refund:
    """What became of a refund; one the gateway never heard of is sent again. Raises AnswerLost, UnknownGateway."""
    payment = refund.payment
    try:
        said = registry.of(payment.gateway).fetch_refund(key=str(refund.pk), ref=payment.gateway_ref or "")
    except NotFound:
        sent = now - refund.created_at >= SENT_BY and refund.state in (RefundState.CREATED, RefundState.UNKNOWN)
        return refunds.send(refund=refund, now=now) if sent else refund
    return refunds.hear(refund=refund, said=said, source=Source.ASKED, now=now)
