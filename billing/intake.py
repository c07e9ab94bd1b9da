"""Usage events as customers send them: accepted once, or refused by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from billing import batches, ledger, metering
from billing.models import Account, UsageRecord


@dataclass(frozen=True)
class Accepted:
    record: UsageRecord | batches.Kept
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


def accept_many(
    *, account: Account, events: Sequence[Mapping[str, Any]], now: datetime, api_key: str = ""
) -> list[Accepted | Exception]:
    """Record and charge events in their order; what became of each, a refusal among them."""
    given = [_given(event, now) for event in events]
    outcomes = batches.record_many(account_id=account.pk, events=given, now=now, api_key=api_key)
    return [_outcome(each) for each in outcomes]


def _given(event: Mapping[str, Any], now: datetime) -> batches.Given:
    occurred_at = event["occurred_at"]
    return batches.Given(
        metering.Event(
            source=f"api:{event['source']}",
            key=event["id"],
            meter=event["meter"],
            quantity=metering.exact_quantity(event["quantity"]),
            occurred_at=occurred_at or now,
            agent=event["agent"] or "",
            properties=event["properties"],
        ),
        has_time=occurred_at is not None,
    )


def _outcome(found: batches.Outcome) -> Accepted | Exception:
    if found.kept is None:
        assert found.refused is not None
        return found.refused
    return Accepted(found.kept, found.is_new)


def status_of(refused: Exception) -> str:
    """How a batch answers for an event that was refused."""
    if isinstance(refused, ledger.InsufficientCredits):
        return "insufficient_credits"
    if isinstance(refused, ledger.BudgetExceeded):
        return "budget_exceeded"
    if isinstance(refused, metering.EventConflict | ledger.AccountNotActive | ledger.KeyReused):
        return "conflict"
    return "invalid"
