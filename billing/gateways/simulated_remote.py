"""The other side of the simulated gateway: a payment provider without money, with books of its own.

It stands for another company's server, so nothing here knows a row of ours, and what it has committed stays when we
crash. Who asks it again finds the truth. What each payment method does is in METHODS.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime

from django.db import transaction
from django.db.models import Q
from uuid_utils.compat import uuid7

from billing.gateways import ChargeState, NotFound, Order, Refused, simulated_disputes
from billing.models import SimulatedEvent, SimulatedPayment, SimulatedRefund

S = ChargeState


@dataclass(frozen=True)
class Method:
    """How a payment by it goes: the state it answers, the one it reaches by itself later, and the webhooks about it."""

    label: str
    answers: ChargeState
    becomes: ChargeState | None = None
    webhooks: tuple[ChargeState, ...] = ()
    copies: int = 1
    is_disputed: bool = False


METHODS = {
    "sim_ok": Method("Always pays", S.SUCCEEDED, webhooks=(S.SUCCEEDED,)),
    "sim_declined": Method("Is always declined", S.FAILED, webhooks=(S.FAILED,)),
    "sim_action_required": Method("Asks the customer to confirm", S.REQUIRES_ACTION, webhooks=(S.REQUIRES_ACTION,)),
    # The adapter loses the answer, and no webhook comes either.
    "sim_unknown": Method("Pays, and the answer is lost", S.SUCCEEDED),
    "sim_duplicate_webhook": Method(
        "Pays later, and says so twice", S.PROCESSING, S.SUCCEEDED, webhooks=(S.SUCCEEDED,), copies=2
    ),
    "sim_reordered_webhook": Method(
        "Pays later, and says so in the wrong order", S.PROCESSING, S.SUCCEEDED, webhooks=(S.SUCCEEDED, S.PROCESSING)
    ),
    "sim_disputed": Method("Pays, and disputes it", S.SUCCEEDED, webhooks=(S.SUCCEEDED,), is_disputed=True),
}
OPEN = (S.REQUIRES_ACTION, S.PROCESSING, S.AUTHORIZED)


@transaction.atomic(durable=True)
def create(order: Order, *, now: datetime) -> SimulatedPayment:
    method = METHODS.get(order.method)
    if method is None:
        raise Refused("unknown_method", f"The simulated gateway has no payment method {order.method[:60]!r}.")
    wanted = _hash(order.amount, order.currency, order.method)
    made = {
        "ref": f"sim_{uuid7().hex}",
        "request_hash": wanted,
        "reference": order.reference,
        "method": order.method,
        "state": method.answers,
        "amount": order.amount,
        "currency": order.currency,
        "return_url": order.return_url,
        "wants_capture": order.capture,
        "created_at": now,
    }
    payment, is_new = SimulatedPayment.objects.get_or_create(key=order.reference, defaults=made)
    if payment.request_hash != wanted:
        raise Refused("key_reused", "This key stands for another payment.")
    if is_new:
        _enter(payment, method.answers)
        if method.becomes is None:
            _announce(payment, method, now)
    return payment


def _enter(payment: SimulatedPayment, state: ChargeState) -> None:
    """A payment that succeeds is captured, or waits for that if the caller said so."""
    if state == S.SUCCEEDED and not payment.wants_capture and payment.state != S.AUTHORIZED:
        state = S.AUTHORIZED
    payment.state = state
    payment.captured = payment.amount if state == S.SUCCEEDED else 0
    payment.save(update_fields=["state", "captured"])


def _announce(payment: SimulatedPayment, method: Method, now: datetime) -> None:
    for state in method.webhooks:
        said = S.AUTHORIZED if state == S.SUCCEEDED and not payment.wants_capture else state
        _write_event(payment, said, now, copies=method.copies)
    if method.is_disputed:
        simulated_disputes.say(payment, f"simd_{payment.ref}", "opened", now=now)


def _write_event(payment: SimulatedPayment, state: ChargeState, now: datetime, *, copies: int = 1) -> None:
    about = {"id": payment.ref, "reference": payment.reference, "amount": payment.amount, "currency": payment.currency}
    body = {
        "id": f"evt_{uuid7().hex}",
        "type": f"payment.{state}",
        "created_at": now.isoformat(),
        "data": {"payment": {**about, "state": state, **failure(state)}},
    }
    SimulatedEvent.objects.create(body=body, copies=copies, created_at=now)


def failure(state: str) -> dict[str, str]:
    if state != S.FAILED:
        return {}
    return {"failure_code": "card_declined", "failure_message": "The card was declined."}


@transaction.atomic(durable=True)
def look_up(*, ref: str = "", reference: str = "", now: datetime) -> SimulatedPayment:
    """By the time anybody asks, a payment that pays later has paid."""
    wanted = {"ref": ref} if ref else {"key": reference}
    found = SimulatedPayment.objects.select_for_update().filter(**wanted).first()
    if found is None:
        raise NotFound(ref or reference)
    _pay_late(found, now)
    return found


def _pay_late(payment: SimulatedPayment, now: datetime) -> None:
    method = METHODS[payment.method]
    if payment.state == S.PROCESSING and method.becomes is not None:
        _enter(payment, method.becomes)
        _announce(payment, method, now)


def look_up_refund(*, key: str) -> SimulatedRefund:
    found = SimulatedRefund.objects.filter(key=key).first()
    if found is None:
        raise NotFound(key)
    return found


@transaction.atomic(durable=True)
def confirm(ref: str, *, now: datetime, approves: bool = True) -> SimulatedPayment:
    """The customer did what was asked, or declined to. Once done it stays done."""
    payment = _locked(ref)
    if payment.state == S.REQUIRES_ACTION:
        _enter(payment, S.SUCCEEDED if approves else S.FAILED)
        _write_event(payment, ChargeState(payment.state), now)
    return payment


@transaction.atomic(durable=True)
def capture(ref: str, *, amount: int, now: datetime) -> SimulatedPayment:
    payment = _locked(ref)
    if payment.state == S.SUCCEEDED:
        return payment
    if payment.state != S.AUTHORIZED or amount != payment.amount:
        raise Refused("not_capturable", f"A payment that is {payment.state} cannot be captured with {amount}.")
    _enter(payment, S.SUCCEEDED)
    _write_event(payment, S.SUCCEEDED, now)
    return payment


@transaction.atomic(durable=True)
def cancel(ref: str, *, now: datetime) -> SimulatedPayment:
    """What has ended stays as it ended, and the answer says how."""
    payment = _locked(ref)
    if payment.state in OPEN:
        _enter(payment, S.CANCELLED)
        _write_event(payment, S.CANCELLED, now)
    return payment


@transaction.atomic(durable=True)
def refund(ref: str, *, amount: int, key: str, now: datetime) -> SimulatedRefund:
    payment = _locked(ref)
    wanted = _hash(ref, amount)
    before = SimulatedRefund.objects.filter(key=key).first()
    if before is not None:
        if before.request_hash != wanted:
            raise Refused("key_reused", "This key stands for another refund.")
        return before
    if not 0 < amount <= payment.captured - payment.refunded:
        raise Refused("refund_exceeds_payment", "More than is left of the payment cannot be refunded.")
    payment.refunded += amount
    payment.save(update_fields=["refunded"])
    made = {"ref": f"simr_{uuid7().hex}", "key": key, "request_hash": wanted, "amount": amount, "created_at": now}
    return SimulatedRefund.objects.create(payment=payment, **made)


@transaction.atomic
def learn(*, ref: str, reference: str, state: ChargeState | None) -> None:
    """Whoever signs an event as the gateway plays the gateway: what it says is so from now on."""
    known = SimulatedPayment.objects.select_for_update().filter(Q(ref=ref) | Q(reference=reference))
    payment = known.order_by("pk").first()
    if payment is not None and payment.state in OPEN and state not in (None, S.REQUIRES_ACTION, S.PROCESSING):
        _enter(payment, ChargeState(state))


def _locked(ref: str) -> SimulatedPayment:
    found = SimulatedPayment.objects.select_for_update().filter(ref=ref).first()
    if found is None:
        raise NotFound(ref)
    return found


@transaction.atomic(durable=True)
def unsent(*, now: datetime) -> list[SimulatedEvent]:
    """What there is to say by now, in the order it is said in."""
    for payment in SimulatedPayment.objects.select_for_update().filter(state=S.PROCESSING).order_by("pk")[:200]:
        _pay_late(payment, now)
    return list(SimulatedEvent.objects.filter(sent_at=None).order_by("pk")[:200])


def sent(event: SimulatedEvent, *, now: datetime) -> None:
    SimulatedEvent.objects.filter(pk=event.pk).update(sent_at=now)


def _hash(*parts: object) -> str:
    return hashlib.sha256("\x1f".join(map(str, parts)).encode()).hexdigest()
