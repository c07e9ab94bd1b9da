"""What an execution costs: its seconds and bytes, captured from its hold; what cost nothing is let go."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime
from decimal import Decimal

from billing import ledger, metering
from sandboxes.models import Execution
from sandboxes.runtimes import Outcome

METER = "sandbox_second"
BYTES_METER = "data_byte"
SOURCE = "sandboxes"


def capture(execution: Execution, duration_ms: float, now: datetime) -> int:
    """Capture the allocated seconds from the hold; at least a millisecond, since a sandbox was used.

    A customer's long-lived sandbox is paid for all its life, whatever runs in it.
    """
    if execution.kept_sandbox_id is not None:
        return 0
    record = metering.capture(
        hold_key=execution.hold_key,
        meter=METER,
        quantity=Decimal(max(1, round(duration_ms))) / 1000,
        occurred_at=now,
        now=now,
        key=execution.hold_key,
        source=SOURCE,
        agent=execution.agent,
        properties={"execution": str(execution.pk)},
    )
    cost: int = record.cost_ucr
    return cost


def settle_bytes(execution: Execution, outcome: Outcome, now: datetime) -> int:
    """What went over the network is known only at the end, so nothing was held for it."""
    relayed = outcome.network_sent_bytes + outcome.network_received_bytes
    if not relayed:
        return 0
    record = metering.settle(
        account_id=execution.account_id,
        meter=BYTES_METER,
        quantity=Decimal(relayed),
        occurred_at=now,
        now=now,
        key=f"{execution.hold_key}:bytes",
        source=SOURCE,
        agent=execution.agent,
        api_key=_api_key(execution),
        properties={"execution": str(execution.pk)},
    )
    cost: int = record.cost_ucr
    return cost


def _api_key(execution: Execution) -> str:
    """The key that its hold is for; what runs in a long-lived sandbox has no hold."""
    return "" if execution.kept_sandbox_id is not None else ledger.key_of(hold_key=execution.hold_key)


def let_go(execution: Execution, now: datetime) -> None:
    """Release what is held for an execution that cost nothing; a hold that expired meanwhile is released already."""
    if execution.kept_sandbox_id is not None:
        return
    with suppress(ledger.HoldEnded):
        ledger.release(key=execution.hold_key, now=now)
