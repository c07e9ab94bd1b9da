"""From a transaction to what it came from: the thing that its source and key name."""

from __future__ import annotations

from typing import NamedTuple
from uuid import UUID

from billing.models import Refund, Transaction


class Origin(NamedTuple):
    """A word for it, the page that shows it, and the id of that page's thing."""

    word: str
    page: str
    pk: UUID


# Source -> what its keys are the ids of, and the page of that.
PAGES = {
    "payments": ("Payment", "billing:payment"),
    "credit_notes": ("Credit note", "billing:credit-note"),
    "invoices": ("Invoice", "billing:invoice"),
}


def of(transaction: Transaction) -> Origin | None:
    """Where a transaction came from, if that has a page."""
    if transaction.source == "refunds":
        refund = Refund.objects.filter(taken=transaction).first()
        return refund and Origin("Refund of", "billing:payment", refund.payment_id)
    found = PAGES.get(transaction.source)
    if found is None:
        return None
    try:
        return Origin(*found, UUID(transaction.key))
    except ValueError:
        return None
