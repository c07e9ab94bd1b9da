"""Speaks to the gateways about payments, and writes down what they say: always between two transactions, never in one.

    intents.open_..  (committed)  ->  gateway  ->  record  (committed)

A crash in between leaves a payment that is `created`; the janitor asks the gateway what became of it. Every change of
a payment is made under its account's wallet lock, as everything about the wallet is, so a word that comes twice, from
two sides at once, is heard once.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.urls import reverse

from billing import announcements, auto_top_ups, invoicing, ledger, live, payment_states
from billing.gateways import AnswerLost, Charge, ChargeState, NotFound, Order, Refused, registry
from billing.models import GatewayWebhook, Grant, Invoice, Payment, PaymentEvent
from billing.payment_states import State

STATE_OF = {
    ChargeState.REQUIRES_ACTION: State.REQUIRES_ACTION,
    ChargeState.PROCESSING: State.PROCESSING,
    ChargeState.AUTHORIZED: State.PROCESSING,
    ChargeState.SUCCEEDED: State.SUCCEEDED,
    ChargeState.FAILED: State.FAILED,
    ChargeState.CANCELLED: State.CANCELLED,
}
Source, Effect = PaymentEvent.Source, PaymentEvent.Effect


@dataclass(frozen=True)
class Said:
    """What was said of a payment, and by whom. What was not said is None."""

    source: str
    state: State
    ref: str = ""
    amount: int | None = None
    currency: str | None = None
    action_url: str = ""
    failure_code: str = ""
    failure_message: str = ""
    detail: str = ""
    webhook: GatewayWebhook | None = None


def submit(*, payment: Payment, now: datetime) -> Payment:
    """Send an open payment to its gateway, and write down the answer; sent again, the gateway answers the same."""
    try:
        charge = registry.of(payment.gateway).create(order(payment))
    except (Refused, NotFound) as no:
        return record(payment_id=payment.pk, said=_refusal(no), now=now)
    except AnswerLost as lost:
        said = Said(Source.ANSWER, State.UNKNOWN, detail=str(lost)[:300])
        return record(payment_id=payment.pk, said=said, now=now)
    return settle(payment_id=payment.pk, charge=charge, source=Source.ANSWER, now=now)


def _refusal(no: Exception) -> Said:
    reason = getattr(no, "reason", "gateway_refused")
    return Said(Source.ANSWER, State.FAILED, failure_code=reason, failure_message=str(no)[:300])


def order(payment: Payment) -> Order:
    path = reverse("billing:payment", args=[payment.account, payment.pk])
    what = f"Invoice {payment.invoice.number}" if payment.invoice else "Credits"
    return Order(
        reference=str(payment.pk),
        amount=payment.amount,
        currency=payment.currency,
        method=payment.method_token,
        return_url=settings.BASE_URL + path,
        description=f"{what} of {payment.account.name}",
        off_session=payment.purpose == Payment.Purpose.AUTO_TOP_UP,
    )


def settle(*, payment_id: UUID, charge: Charge, source: str, now: datetime) -> Payment:
    """Write down a charge; one that waits to be captured is."""
    payment = record(payment_id=payment_id, said=_said(charge, source), now=now)
    if charge.state != ChargeState.AUTHORIZED or not payment.is_open or payment.gateway_ref != charge.ref:
        return payment
    try:
        taken = registry.of(payment.gateway).capture(charge.ref, amount=payment.amount, key=f"{payment.pk}:capture")
    except (Refused, NotFound, AnswerLost):
        return payment  # The janitor asks, and tries again.
    return record(payment_id=payment_id, said=_said(taken, source), now=now)


def _said(charge: Charge, source: str) -> Said:
    return Said(
        source=source,
        state=STATE_OF[charge.state],
        ref=charge.ref,
        amount=charge.amount,
        currency=charge.currency,
        action_url=charge.action_url,
        failure_code=charge.failure_code,
        failure_message=charge.failure_message,
    )


@transaction.atomic
def record(*, payment_id: UUID, said: Said, now: datetime) -> Payment:
    """Let what was said change the payment if it may, and keep that it was said."""
    account_id = Payment.objects.values_list("account_id", flat=True).get(pk=payment_id)
    ledger.lock_wallet(account_id)
    payment = Payment.objects.select_related("account", "invoice").get(pk=payment_id)
    doubt = _doubt(payment, said)
    if doubt:
        _note(payment, said, Effect.NOT_BELIEVED, now, doubt)
        # An answer nobody can believe is no answer.
        said = Said(said.source, State.UNKNOWN, detail=doubt)
    if not payment_states.moves(payment.state, said.state):
        if not doubt:
            _note(payment, said, Effect.IGNORED, now, said.detail)
            _keep_ref(payment, said)
        return payment
    _move(payment, said, now)
    if not doubt:
        _note(payment, said, Effect.APPLIED, now, said.detail or said.failure_message)
    auto_top_ups.note(payment=payment, now=now)
    announcements.payment_moved(payment, now=now)
    live.payment_changed(payment.account_id, payment.pk)
    return payment


def _doubt(payment: Payment, said: Said) -> str:
    """Why this cannot be about this payment, or an empty text."""
    if said.amount is not None and said.amount != payment.amount:
        return f"It speaks of an amount of {said.amount}, and {payment.amount} was asked for."
    if said.currency is not None and said.currency != payment.currency:
        return f"It speaks of {said.currency[:10]}, and {payment.currency} was asked for."
    if not said.ref or said.ref == payment.gateway_ref:
        return ""
    if payment.gateway_ref is not None:
        return "It speaks of another payment of the gateway's."
    if Payment.objects.filter(gateway=payment.gateway, gateway_ref=said.ref).exists():
        return "The gateway's id of it belongs to another payment."
    return ""


def _note(payment: Payment, said: Said, effect: str, now: datetime, detail: str) -> None:
    PaymentEvent.objects.create(
        payment=payment,
        source=said.source,
        state=said.state,
        effect=effect,
        detail=detail[:300],
        webhook=said.webhook,
        created_at=now,
    )


def _keep_ref(payment: Payment, said: Said) -> None:
    """A word that changes nothing may still be the first to say the gateway's id."""
    if said.ref and payment.gateway_ref is None:
        payment.gateway_ref = said.ref
        payment.save(update_fields=["gateway_ref"])


def _move(payment: Payment, said: Said, now: datetime) -> None:
    payment.state = said.state
    payment.gateway_ref = payment.gateway_ref or said.ref or None
    payment.action_url = said.action_url if said.state == State.REQUIRES_ACTION else ""
    payment.failure_code = said.failure_code if said.state == State.FAILED else ""
    payment.failure_message = said.failure_message if said.state == State.FAILED else ""
    payment.asked_times = 0
    payment.ask_at = now + payment_states.ask_after(0) if payment.is_open else None
    payment.settled_at = None if payment.is_open else now
    if said.state == State.SUCCEEDED:
        _succeed(payment, now)
    payment.save()


def _succeed(payment: Payment, now: datetime) -> None:
    """The money was taken: grant what it bought, and close the invoice it pays if that is still open."""
    payment.captured = payment.amount
    invoice: Invoice | None = payment.invoice
    payment.grant = ledger.grant(
        account_id=payment.account_id,
        amount_ucr=payment.credits_ucr,
        category=Grant.Category.PAID,
        source="payments",
        key=payment.grant_key,
        now=now,
        reason=f"Invoice {invoice.number} paid" if invoice else "Credits bought",
        actor=payment.actor,
        request_id=payment.request_id,
    )
    if invoice is not None:
        reason = f"Paid with {payment.method_label}"[:300]
        invoicing.settle(invoice_id=invoice.pk, payment_id=payment.pk, reason=reason, now=now)
