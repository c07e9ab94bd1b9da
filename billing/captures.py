"""What was captured of holds that are for no meter (the API's): it is spent, and on invoices, but nobody's usage.

Read from the house account that has nothing else, by when it happened. Reads only.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db.models import Min, QuerySet, Sum

from billing import statements
from billing.models import Entry, GrantConsumption, Invoice, Transaction

METER = statements.OTHER
HOUSE = f"revenue:{METER}"


@dataclass(frozen=True)
class Captured:
    """Micro-credits, and how many of them no grant covered."""

    cost_ucr: int
    drawn_ucr: int


def captured(*, account_id: UUID, start: datetime, end: datetime | None = None) -> Captured:
    """What an account's captures in [start, end) took, without those that were reversed."""
    legs = _legs(account_id, start, end).filter(transaction__reversed_by=None)
    cost_ucr = _sum(legs)
    if not cost_ucr:
        return Captured(0, 0)
    return Captured(
        cost_ucr, cost_ucr - _sum(GrantConsumption.objects.filter(transaction__in=legs.values("transaction")))
    )


def first(*, account_id: UUID, start: datetime, end: datetime) -> datetime | None:
    """When the first of them was."""
    found: datetime | None = _legs(account_id, start, end).aggregate(first=Min("created_at"))["first"]
    return found


def reversed_since(invoice: Invoice) -> int:
    """What was given back, after an invoice, of what it has of captures, in micro-credits."""
    legs = _legs(invoice.account_id, invoice.period_start, invoice.period_end)
    return _sum(legs.filter(transaction__reversed_by__created_at__gt=invoice.finalized_at))


def _legs(account_id: UUID, start: datetime, end: datetime | None) -> QuerySet[Entry]:
    """By the account's captures, of which there is an index: the house account has those of everybody."""
    acts = Transaction.objects.filter(account_id=account_id, kind=Transaction.Kind.CAPTURE, created_at__gte=start)
    acts = acts if end is None else acts.filter(created_at__lt=end)
    return Entry.objects.filter(ledger_account__code=HOUSE, transaction__in=acts)


def _sum(rows: QuerySet[Any]) -> int:
    return rows.aggregate(sum=Sum("amount_ucr"))["sum"] or 0
