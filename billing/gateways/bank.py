"""Bank transfer: the customer's bank brings the money, and a statement that staff imports says that it came.

A payment is `processing` until then. What it waits for is a BankTransfer, whose number makes the reference that the
customer writes; bank_matching.py says what came. Nothing here goes over a network.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from datetime import datetime

from django.db import transaction
from django.db.models import Sum

from billing.bank import references
from billing.gateways import (
    BadSignature,
    Charge,
    ChargeState,
    DisputeWord,
    Event,
    NotFound,
    Order,
    Refused,
    Repayment,
    RepaymentState,
    no_disputes,
)
from billing.models import BankLine, BankReturn, BankTransfer

NAME = "bank"
# The only method there is; nobody keeps one.
METHOD = "bank_transfer"
LABEL = "Bank transfer"


class BankGateway:
    name = NAME

    def __init__(self, *, clock: Callable[[], datetime]) -> None:
        self._clock = clock

    @transaction.atomic
    def create(self, order: Order) -> Charge:
        if order.method != METHOD:
            raise Refused("unknown_method", "A bank transfer has no other method.")
        wanted = hashlib.sha256(f"{order.amount} {order.currency}".encode()).hexdigest()
        made = {"request_hash": wanted, "amount": order.amount, "currency": order.currency}
        made |= {"created_at": self._clock()}
        transfer, _ = BankTransfer.objects.get_or_create(key=order.reference, defaults=made)
        if transfer.request_hash != wanted:
            raise Refused("key_reused", "This key stands for another payment.")
        return _charge(transfer)

    def confirm(self, ref: str, *, key: str) -> Charge:
        return self.fetch(ref=ref)

    def capture(self, ref: str, *, amount: int, key: str) -> Charge:
        return self.fetch(ref=ref)

    @transaction.atomic
    def cancel(self, ref: str, *, key: str) -> Charge:
        """What came in part is given back or completed first."""
        transfer = _locked(ref)
        if 0 < transfer.received < transfer.amount:
            raise Refused("partly_paid", "A part of this payment has come already, so it cannot be given up.")
        if not transfer.received and transfer.cancelled_at is None:
            transfer.cancelled_at = self._clock()
            transfer.save(update_fields=["cancelled_at"])
        return _charge(transfer)

    @transaction.atomic
    def refund(self, ref: str, *, amount: int, key: str) -> Repayment:
        """It is staff's to send it; until they say so it is on its way."""
        transfer = _locked(ref)
        before = BankReturn.objects.filter(key=key).first()
        if before is not None:
            if (before.amount, before.transfer_id) != (amount, transfer.pk):
                raise Refused("key_reused", "This key stands for another refund.")
            return _repayment(before)
        back = transfer.returns.aggregate(sum=Sum("amount"))["sum"] or 0
        if transfer.missing or not 0 < amount <= transfer.received - back:
            raise Refused("refund_exceeds_payment", "More than is left of the payment cannot be refunded.")
        last = BankLine.objects.filter(matches__transfer=transfer).order_by("booked_on", "pk").last()
        to = {"payer_name": last.payer_name, "payer_iban": last.payer_iban} if last else {}
        made = {"amount": amount, "currency": transfer.currency, "created_at": self._clock(), **to}
        return _repayment(BankReturn.objects.create(key=key, transfer=transfer, **made))

    def fetch(self, *, ref: str = "", reference: str = "") -> Charge:
        wanted = {"pk": references.number_of(ref)} if ref else {"key": reference}
        found = BankTransfer.objects.filter(**wanted).first()
        if found is None:
            raise NotFound(ref or reference)
        return _charge(found)

    def fetch_refund(self, *, key: str, ref: str) -> Repayment:
        found = BankReturn.objects.filter(key=key, transfer=references.number_of(ref)).first()
        if found is None:
            raise NotFound(key)
        return _repayment(found)

    def fetch_dispute(self, ref: str) -> DisputeWord:
        raise no_disputes()

    def give_evidence(self, ref: str, *, evidence: Mapping[str, str], key: str) -> DisputeWord:
        raise no_disputes()

    def read_webhook(self, *, body: bytes, headers: Mapping[str, str], now: datetime) -> Event:
        raise BadSignature("A bank sends no webhooks; its statements are imported.")


def _locked(ref: str) -> BankTransfer:
    found = BankTransfer.objects.select_for_update().filter(pk=references.number_of(ref)).first()
    if found is None:
        raise NotFound(ref)
    return found


def _charge(transfer: BankTransfer) -> Charge:
    state = ChargeState.CANCELLED if transfer.cancelled_at else ChargeState.PROCESSING
    sent = transfer.returns.filter(state=BankReturn.State.SENT).aggregate(sum=Sum("amount"))["sum"] or 0
    is_paid = not transfer.missing
    return Charge(
        ref=transfer.reference,
        reference=transfer.key,
        state=ChargeState.SUCCEEDED if is_paid else state,
        amount=transfer.amount,
        currency=transfer.currency,
        captured=transfer.amount if is_paid else 0,
        refunded=sent,
    )


def _repayment(back: BankReturn) -> Repayment:
    state = RepaymentState.SUCCEEDED if back.state == BankReturn.State.SENT else RepaymentState.PROCESSING
    return Repayment(ref=str(back.pk), state=state, amount=back.amount)
