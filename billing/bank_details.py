"""What a customer needs to pay by bank transfer, and what came of it so far."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from django.conf import settings

from billing.bank import references
from billing.gateways import bank
from billing.models import BankMatch, BankTransfer, Payment


@dataclass(frozen=True)
class Instructions:
    """Amounts in minor units of the payment's currency."""

    holder: str
    iban: str
    bic: str
    reference: str
    missing: int
    received: int
    currency: str
    came: Sequence[BankMatch]


def of(payment: Payment) -> Instructions | None:
    """None where no transfer is awaited."""
    if payment.gateway != bank.NAME or not payment.is_open or payment.gateway_ref is None:
        return None
    transfer = BankTransfer.objects.get(pk=references.number_of(payment.gateway_ref))
    return Instructions(
        holder=settings.BANK_ACCOUNT_HOLDER,
        iban=references.grouped(settings.BANK_IBAN),
        bic=settings.BANK_BIC,
        reference=references.grouped(transfer.reference),
        missing=transfer.missing,
        received=transfer.received,
        currency=transfer.currency,
        came=list(transfer.matches.select_related("line").order_by("created_at", "pk")),
    )
