"""Usage events as customers send them: accepted once, or refused by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from billing import ledger, metering, pricing
from billing.models import Account, UsageRecord

REFUSALS = (
    *ledger.CANNOT_SPEND,
    ledger.KeyReused,
    metering.EventConflict,
    metering.OutOfRange,
    pricing.UnknownMeter,
)


@dataclass(frozen=True)
class Accepted:
    record: UsageRecord
    is_new: bool


def accept(*, account: Account, event: Mapping[str, Any], now: datetime, api_key: str = "") -> Accepted:
    """Record and charge one event; the same event again answers the first record."""
    return Accepted(
        *metering.record(
            account_id=account.pk,
            meter=event["meter"],
            quantity=event["quantity"],
            occurred_at=event["occurred_at"],
            now=now,
            key=event["id"],
            # What customers send lives apart from what the product itself records.
            source=f"api:{event['source']}",
            agent=event["agent"] or "",
            properties=event["properties"],
            api_key=api_key,
        )
    )


def status_of(refused: Exception) -> str:
    """How a batch answers for an event that was refused."""
    if isinstance(refused, ledger.InsufficientCredits):
        return "insufficient_credits"
    if isinstance(refused, ledger.BudgetExceeded):
        return "budget_exceeded"
    if isinstance(refused, metering.EventConflict | ledger.AccountNotActive | ledger.KeyReused):
        return "conflict"
    return "invalid"
