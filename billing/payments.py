"""Takes payments and gives them back: what doors call, each once for its key."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime

from billing import evidence, intents, janitor, methods, payment_states, refunds, settlement, tasks
from billing.gateways import AnswerLost, Charge, Gateway, NotFound, Refused, registry
from billing.models import Account, Dispute, DisputeEvidence, Invoice, Payment, PaymentEvent, Refund
from billing.payment_states import State


class NotConfirmable(Exception):
    """Raised when a payment waits for nobody."""

    code = "conflict"

    def __init__(self, state: str) -> None:
        self.extras = {"state": state}
        super().__init__(f"This payment is {state.replace('_', ' ')}; there is nothing to confirm.")


class NotCancellable(Exception):
    """Raised when a payment has ended, or nobody knows yet what became of it."""

    code = "conflict"

    def __init__(self, state: str) -> None:
        self.extras = {"state": state}
        super().__init__(f"This payment is {state.replace('_', ' ')} and cannot be cancelled.")


class NoAnswer(Exception):
    """Raised when the gateway does not say what it did."""

    code = "payment_error"

    def __init__(self) -> None:
        super().__init__("The payment gateway does not answer. It is asked again by itself; look again in a minute.")


class GatewayRefused(Exception):
    """Raised when the gateway says no."""

    code = "conflict"

    def __init__(self, sentence: str, state: str) -> None:
        self.extras = {"state": state}
        super().__init__(sentence)


def top_up(
    *,
    account: Account,
    credits_ucr: int,
    method: str | None,
    key: str,
    now: datetime,
    actor: str = "",
    request_id: str = "",
) -> Payment:
    """Buy credits; a decline is a payment that failed. Raises UnknownMethod, TooLittle, ClosedAccount, KeyReused."""
    payment, is_new = intents.open_top_up(
        account=account,
        credits_ucr=credits_ucr,
        chosen=methods.choose(account=account, named=method),
        key=f"topup:{key}",
        now=now,
        actor=actor,
        request_id=request_id,
    )
    return submit(payment, is_new=is_new, now=now)


def pay_invoice(
    *, invoice: Invoice, method: str | None, key: str, now: datetime, actor: str = "", request_id: str = ""
) -> Payment:
    """Pay what is due on an invoice. Raises NothingToPay, PaymentUnderWay, UnknownMethod, ClosedAccount, KeyReused."""
    payment, is_new = intents.open_for_invoice(
        invoice=invoice,
        chosen=methods.choose(account=invoice.account, named=method),
        key=f"invoice:{invoice.pk}:{key}",
        now=now,
        actor=actor,
        request_id=request_id,
    )
    return submit(payment, is_new=is_new, now=now)


def submit(payment: Payment, *, is_new: bool, now: datetime) -> Payment:
    """A repeat is not sent again, unless whoever sent it first is dead; the gateway knows it by its reference.

    Not later than the janitor would give it up, since gateways forget references after a day.
    """
    is_lost = payment.state == State.CREATED and now - payment.created_at >= payment_states.SENT_BY
    is_lost = is_lost and not payment_states.never_arrived(created_at=payment.created_at, now=now)
    return settlement.submit(payment=payment, now=now) if is_new or is_lost else payment


def confirm(*, payment: Payment, now: datetime) -> Payment:
    """The customer has done what the gateway asked. Raises NotConfirmable, GatewayRefused, NoAnswer."""
    if payment.state != State.REQUIRES_ACTION:
        raise NotConfirmable(payment.state)
    return _act(payment, lambda gateway, ref: gateway.confirm(ref, key=f"{payment.pk}:confirm"), now)


def decline(*, payment: Payment, now: datetime) -> Payment:
    """The customer says no at the simulated bank. Raises NotConfirmable."""
    if payment.state != State.REQUIRES_ACTION or payment.gateway != "simulated":
        raise NotConfirmable(payment.state)
    return _act(payment, lambda _, ref: registry.simulated().decline(ref), now)


def cancel(*, payment: Payment, now: datetime) -> Payment:
    """Give a payment up before it takes money, if it is not too late. Raises NotCancellable, NoAnswer."""
    if not payment.is_open or payment.gateway_ref is None:
        raise NotCancellable(payment.state)
    cancelled = _act(payment, lambda gateway, ref: gateway.cancel(ref, key=f"{payment.pk}:cancel"), now)
    if cancelled.state == State.SUCCEEDED:
        raise NotCancellable(cancelled.state)
    return cancelled


def _act(payment: Payment, act: Callable[[Gateway, str], Charge], now: datetime) -> Payment:
    try:
        charge = act(registry.of(payment.gateway), payment.gateway_ref or "")
    except (Refused, NotFound) as no:
        raise GatewayRefused(str(no), payment.state) from no
    except AnswerLost as lost:
        Payment.objects.filter(pk=payment.pk, ask_at__isnull=False).update(ask_at=now)
        raise NoAnswer from lost
    return settlement.settle(payment_id=payment.pk, charge=charge, source=PaymentEvent.Source.ANSWER, now=now)


def ask(*, payment: Payment, now: datetime) -> Payment:
    """What the gateway says of it, now. Raises NoAnswer."""
    try:
        return janitor.ask(payment=payment, now=now)
    except AnswerLost as lost:
        raise NoAnswer from lost


def refund(
    *,
    payment: Payment,
    amount: int | None,
    key: str,
    now: datetime,
    allow_debt: bool = False,
    reason: str = "",
    actor: str = "",
    request_id: str = "",
) -> Refund:
    """Give money back, all that is left without an amount. Raises NotRefundable, RefundExceedsPayment, CreditsSpent."""
    found, is_new = refunds.open_refund(
        payment=payment,
        amount=amount,
        key=key,
        now=now,
        allow_debt=allow_debt,
        reason=reason,
        actor=actor,
        request_id=request_id,
    )
    return refunds.send(refund=found, now=now) if is_new else found


def give_evidence(
    *, dispute: Dispute, texts: Mapping[str, str], key: str, now: datetime, actor: str = "", request_id: str = ""
) -> DisputeEvidence:
    """Hand in what speaks for us. Raises evidence_texts.NoEvidence, evidence.NotDisputed, KeyReused."""
    found, is_new = evidence.open_evidence(
        dispute=dispute, texts=texts, key=key, now=now, actor=actor, request_id=request_id
    )
    return evidence.send(evidence=found, now=now) if is_new else found


def raise_dispute(*, payment: Payment, now: datetime) -> None:
    """The payer of a simulated payment disputes it. Raises GatewayRefused."""
    _play(payment, now)


def play_dispute(*, dispute: Dispute, word: str, now: datetime) -> None:
    """The simulated gateway says how a dispute goes on. Raises GatewayRefused."""
    _play(dispute.payment, now, dispute_ref=dispute.gateway_ref, state=word)


def _play(payment: Payment, now: datetime, **said: str) -> None:
    """Its webhook comes at once, so that whoever plays sees what it does."""
    if payment.gateway != "simulated" or payment.gateway_ref is None:
        raise GatewayRefused("Only a payment of the simulated gateway can be played with.", payment.state)
    try:
        registry.simulated().dispute(payment.gateway_ref, **said)
    except (Refused, NotFound) as no:
        raise GatewayRefused(str(no), payment.state) from no
    tasks.send_simulated_webhooks()
