"""What webhooks say of money: one function for each thing that moves."""

from __future__ import annotations

from datetime import datetime

from billing import amounts
from billing.models import Invoice, Payment, Refund
from billing.outgoing import outbox
from billing.payment_states import RefundState, State


def money(minor: int, currency: str) -> dict[str, str]:
    """As the API writes it."""
    return {"amount": amounts.money_text(minor, currency), "currency": currency}


def payment_moved(payment: Payment, *, now: datetime) -> None:
    told = {State.SUCCEEDED: "payment.succeeded", State.FAILED: "payment.failed", State.CANCELLED: "payment.failed"}
    type = told.get(State(payment.state))
    if type is None:
        return
    data = _payment_facts(payment)
    if type == "payment.failed":
        data |= {"failure_code": payment.failure_code or payment.state, "failure_message": payment.failure_message}
    outbox.publish(account_id=payment.account_id, type=type, data=data, now=now)


def payment_reversed(payment: Payment, *, now: datetime) -> None:
    """One that had succeeded had not, after all."""
    outbox.publish(account_id=payment.account_id, type="payment.reversed", data=_payment_facts(payment), now=now)


def _payment_facts(payment: Payment) -> dict[str, object]:
    return {
        "payment": str(payment.pk),
        "purpose": payment.purpose,
        "total": money(payment.amount, payment.currency),
        "credits": amounts.six_places(payment.credits_ucr),
        "invoice": str(payment.invoice_id) if payment.invoice_id else None,
    }


def refund_moved(refund: Refund, *, now: datetime) -> None:
    told = {RefundState.SUCCEEDED: "refund.succeeded", RefundState.FAILED: "refund.failed"}
    type = told.get(RefundState(refund.state))
    if type is None:
        return
    data = {
        "refund": str(refund.pk),
        "payment": str(refund.payment_id),
        "total": money(refund.amount, refund.payment.currency),
        "credits": amounts.six_places(refund.credits_ucr),
    }
    outbox.publish(account_id=refund.account_id, type=type, data=data, now=now)


def invoice_moved(invoice: Invoice, *, now: datetime) -> None:
    """Issued or paid; one with nothing due is both at once, and only paid is told."""
    told = {Invoice.State.OPEN: "invoice.opened", Invoice.State.PAID: "invoice.paid"}
    type = told.get(Invoice.State(invoice.state))
    if type is not None:
        outbox.publish(account_id=invoice.account_id, type=type, data=invoice_facts(invoice), now=now)


def invoice_facts(invoice: Invoice) -> dict[str, object]:
    return {
        "invoice": str(invoice.pk),
        "number": invoice.number,
        "total": money(invoice.total, invoice.currency),
        "amount_due": money(invoice.left_due, invoice.currency),
        "due_at": invoice.due_at.isoformat().replace("+00:00", "Z") if invoice.due_at else None,
    }
