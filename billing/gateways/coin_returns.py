"""Coins on their way back, for the adapters that took them: written down as a transfer that the operator has to make.

No private key is here, so nothing is sent by us; coin_refunds.py learns from staff and from the chain what was.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from django.db import transaction
from django.db.models import Sum

from billing.gateways import NotFound, Refused, Repayment, RepaymentState
from billing.models import ChainCursor, CoinQuote, CoinRefund, X402Authorization

C = CoinRefund.State
STATE_OF = {
    C.PENDING: RepaymentState.PROCESSING,
    C.SENT: RepaymentState.PROCESSING,
    C.CONFIRMED: RepaymentState.SUCCEEDED,
    C.FAILED: RepaymentState.FAILED,
}


@dataclass(frozen=True)
class Paid:
    """What a payment took: so many units of a token, from whom, for an amount in minor units of a currency."""

    reference: str
    token: str
    sender: str
    units: int
    amount: int
    row: CoinQuote | X402Authorization


@transaction.atomic
def open_return(paid: Paid, *, amount: int, key: str, now: datetime) -> Repayment:
    """The same key again is the same transfer. Raises Refused for more than is left of what was paid."""
    # One at a time for each payment, so that all of them together never exceed it.
    row = type(paid.row).objects.select_for_update().get(pk=paid.row.pk)
    before = CoinRefund.objects.filter(key=key).first()
    if before is not None:
        if (before.amount, before.reference) != (amount, paid.reference):
            raise Refused("key_reused", "This key stands for another refund.")
        return said(before)
    going = CoinRefund.objects.filter(reference=paid.reference).exclude(state=C.FAILED)
    sums = going.aggregate(amount=Sum("amount"), units=Sum("units"))
    back = (sums["amount"] or 0) + amount
    if not 0 < amount <= back <= paid.amount:
        raise Refused("refund_exceeds_payment", "More than is left of the payment cannot be refunded.")
    # Cumulative: all pieces together are exactly what was paid.
    units = paid.units * back // paid.amount - (sums["units"] or 0)
    if units <= 0:
        raise Refused("refund_too_small", "So little is less than the smallest part of a USDC.")
    read_to = ChainCursor.objects.filter(pk=row.network).values_list("final_block", flat=True).first()
    made = CoinRefund.objects.create(
        key=key,
        reference=paid.reference,
        network=row.network,
        token=paid.token,
        recipient=paid.sender,
        units=units,
        amount=amount,
        first_block=(read_to or 0) + 1,
        created_at=now,
    )
    return said(made)


def fetch(*, key: str, reference: str) -> Repayment:
    """Raises NotFound."""
    found = CoinRefund.objects.filter(key=key, reference=reference).first()
    if found is None:
        raise NotFound(key)
    return said(found)


def refunded(reference: str) -> int:
    """Minor units of a payment that are back for good."""
    done = CoinRefund.objects.filter(reference=reference, state=C.CONFIRMED)
    return done.aggregate(sum=Sum("amount"))["sum"] or 0


def said(back: CoinRefund) -> Repayment:
    is_failed = back.state == C.FAILED
    return Repayment(
        ref=str(back.pk),
        state=STATE_OF[C(back.state)],
        amount=back.amount,
        failure_code="not_sent" if is_failed else "",
        failure_message=f"It could not be sent: {back.why}"[:300] if is_failed else "",
    )
