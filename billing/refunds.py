"""Gives money back: the credits are taken first, then the gateway is told, then its answer is written down.

created -> unknown -> processing -> succeeded | failed

In this order nobody can spend credits whose money is on its way back. If the gateway refuses, they are given back.
"""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from django.db import transaction
from django.db.models import Q, Sum

from billing import announcements, ledger, live, payment_states
from billing.gateways import AnswerLost, NotFound, Refused, Repayment, RepaymentState, registry
from billing.models import Grant, Payment, PaymentEvent, Refund
from billing.payment_states import SENT_BY, RefundState, State

Source, Effect = PaymentEvent.Source, PaymentEvent.Effect


class NotRefundable(Exception):
    """Raised when a payment has taken no money."""

    code = "conflict"

    def __init__(self, state: str) -> None:
        self.extras = {"state": state}
        super().__init__(f"This payment is {state.replace('_', ' ')}; only one that succeeded can be refunded.")


class RefundExceedsPayment(Exception):
    """Raised when more would go back than is left of the payment."""

    code = "refund_exceeds_payment"

    def __init__(self, payment: Payment) -> None:
        left = f"{payment.money(payment.refundable)} {payment.currency}"
        self.extras = {"left": {"amount": payment.money(payment.refundable), "currency": payment.currency}}
        some = f"Of this payment {left} is left to refund. Refund at most that."
        super().__init__(some if payment.refundable else "Nothing of this payment is left to refund.")


@transaction.atomic(durable=True)
def open_refund(
    *,
    payment: Payment,
    amount: int | None,
    key: str,
    now: datetime,
    allow_debt: bool = False,
    reason: str = "",
    actor: str = "",
    request_id: str = "",
) -> tuple[Refund, bool]:
    """Take the credits back and note the refund; the same key again answers the first one, and False.

    Without an amount, all that is left. Raises NotRefundable, RefundExceedsPayment, ledger.CreditsSpent.
    """
    ledger.lock_wallet(payment.account_id)
    payment = Payment.objects.get(pk=payment.pk)
    fingerprint = ledger.fingerprint("refund", amount)
    before = Refund.objects.filter(payment=payment, key=key).first()
    if before is not None:
        if before.request_hash != fingerprint:
            raise ledger.KeyReused(key)
        return before, False
    if payment.state != State.SUCCEEDED:
        raise NotRefundable(payment.state)
    amount = payment.refundable if amount is None else amount
    if not 0 < amount <= payment.refundable:
        raise RefundExceedsPayment(payment)
    refund = Refund(
        account_id=payment.account_id,
        payment=payment,
        amount=amount,
        credits_ucr=credits_of(payment, amount),
        key=key,
        request_hash=fingerprint,
        reason=reason,
        actor=actor,
        request_id=request_id,
        created_at=now,
        ask_at=now + SENT_BY,
    )
    _take(refund, now=now, allow_debt=allow_debt)
    refund.save(force_insert=True)
    payment.refunding += amount
    payment.save(update_fields=["refunding"])
    _note(refund, Source.PERSON, RefundState.CREATED, Effect.APPLIED, reason, now)
    live.payment_changed(payment.account_id, payment.pk)
    return refund, True


def credits_of(payment: Payment, amount: int) -> int:
    """What so much of a payment bought, beside what refunds and disputes take of it already."""
    refunded = payment.refunds.exclude(state=RefundState.FAILED).aggregate(sum=Sum("credits_ucr"))["sum"] or 0
    disputed = payment.disputes.exclude(state="won").aggregate(sum=Sum("credits_ucr"))["sum"] or 0
    return payment_states.credits_back(
        credits_ucr=payment.credits_ucr,
        captured=payment.captured,
        refunded=payment.refunded + payment.refunding + payment.disputed + amount,
        taken_ucr=refunded + disputed,
    )


def _take(refund: Refund, *, now: datetime, allow_debt: bool) -> None:
    if not refund.credits_ucr:
        return
    payment = refund.payment
    # What it bought, and what refunds that failed gave back of it.
    bought = Grant.objects.filter(Q(payment=payment) | Q(refund__payment=payment) | Q(dispute__payment=payment))
    refund.taken = ledger.take_back(
        account_id=refund.account_id,
        grant_ids=list(bought.values_list("pk", flat=True)),
        amount_ucr=refund.credits_ucr,
        key=str(refund.pk),
        source="refunds",
        now=now,
        allow_debt=allow_debt,
        reason=refund.reason or "Refunded payment",
        actor=refund.actor,
        request_id=refund.request_id,
    )


def send(*, refund: Refund, now: datetime) -> Refund:
    """Tell the gateway, and write down its answer; told again with the same key it pays nothing twice."""
    payment = refund.payment
    try:
        said = registry.of(payment.gateway).refund(payment.gateway_ref or "", amount=refund.amount, key=str(refund.pk))
    except (Refused, NotFound) as no:
        code = getattr(no, "reason", "gateway_refused")
        said = Repayment("", RepaymentState.FAILED, refund.amount, failure_code=code, failure_message=str(no)[:300])
    except AnswerLost as lost:
        return _record(refund.pk, RefundState.UNKNOWN, source=Source.ANSWER, detail=str(lost)[:300], now=now)
    return hear(refund=refund, said=said, source=Source.ANSWER, now=now)


def hear(*, refund: Refund, said: Repayment, source: str, now: datetime) -> Refund:
    """Write down what the gateway says of a refund."""
    state = RefundState(said.state)
    return _record(refund.pk, state, source=source, detail=said.failure_message, now=now, said=said)


@transaction.atomic
def _record(
    refund_id: UUID, state: RefundState, *, source: str, detail: str, now: datetime, said: Repayment | None = None
) -> Refund:
    ledger.lock_wallet(Refund.objects.values_list("account_id", flat=True).get(pk=refund_id))
    refund = Refund.objects.select_related("payment").get(pk=refund_id)
    if not payment_states.refund_moves(refund.state, state):
        _note(refund, source, state, Effect.IGNORED, detail, now)
        return refund
    refund.state = state
    refund.asked_times = 0
    is_open = state in payment_states.REFUND_LIVE
    refund.ask_at = now + payment_states.ask_after(0) if is_open else None
    refund.settled_at = None if is_open else now
    if said is not None:
        refund.gateway_ref = said.ref
        refund.failure_code, refund.failure_message = said.failure_code, said.failure_message
    if not is_open:
        _close(refund, now)
    refund.save()
    announcements.refund_moved(refund, now=now)
    _note(refund, source, state, Effect.APPLIED, detail, now)
    live.payment_changed(refund.account_id, refund.payment_id)
    return refund


def _close(refund: Refund, now: datetime) -> None:
    """The money is back, or it stays and the credits are given back."""
    payment = refund.payment
    payment.refunding -= refund.amount
    if refund.state == RefundState.SUCCEEDED:
        payment.refunded += refund.amount
    elif refund.taken_id is not None:
        undone = ledger.reverse(
            transaction_id=refund.taken_id, key=f"refund:{refund.pk}", reason="The gateway refused the refund", now=now
        )
        refund.restored = undone.grant
    payment.save(update_fields=["refunding", "refunded"])


def _note(refund: Refund, source: str, state: str, effect: str, detail: str, now: datetime) -> None:
    PaymentEvent.objects.create(
        payment_id=refund.payment_id,
        refund=refund,
        source=source,
        state=state,
        effect=effect,
        detail=detail[:300],
        created_at=now,
    )
