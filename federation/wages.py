"""What agents cost: every ended attempt is metered once, whether it went well or not: by its seconds, and as one
call when its agent is an MCP server. So is every sitting of a managed agent at its mail, by its seconds. What an
attempt predicted is an inference beside (predictions.py).

An attempt that cannot be charged for now (no credits) stays unmetered and is tried again later, so a lack of
credits never loses a result.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from django.db.models import QuerySet

from billing import ledger, metering
from federation import live, predictions, turns
from federation.models import Agent, Attempt, Sitting

SECOND, CALL = "agent_second", "mcp_call"
SOURCE = "federation"
ROUND = 500
MILLISECOND = Decimal("0.001")


def charge(*, attempt: Attempt, now: datetime) -> bool:
    """False when the account cannot pay now. Twice is once: the attempt's id is the key."""
    made = predictions.settle(attempt=attempt, now=now)
    account_id, named = attempt.task.federation.account_id, {"task": str(attempt.task_id)}
    cost = _cost(attempt, _used(attempt), account_id=account_id, properties=named, now=now)
    if cost is None:
        return False
    Attempt.objects.filter(pk=attempt.pk).update(metered_at=now, cost_ucr=cost + made)
    live.tasks_changed(attempt.task.federation, [attempt.task])
    return True


def _used(attempt: Attempt) -> tuple[str, Decimal]:
    if attempt.agent.runtime == Agent.Runtime.MCP:
        return CALL, Decimal(1)
    return SECOND, Decimal(attempt.busy_seconds).quantize(MILLISECOND)


def _cost(
    work: Attempt | Sitting, used: tuple[str, Decimal], *, account_id: UUID, properties: dict[str, str], now: datetime
) -> int | None:
    """What was charged for it, once; None when the account cannot pay now."""
    meter, quantity = used
    api_key = work.task.api_key if isinstance(work, Attempt) else None
    if quantity <= 0:
        return 0
    try:
        record = metering.record_usage(
            account_id=account_id,
            meter=meter,
            quantity=quantity,
            occurred_at=work.ended_at,
            now=now,
            key=str(work.pk),
            source=SOURCE,
            agent=str(work.agent_id),
            properties=properties,
            api_key=str(api_key or ""),
            is_done=True,
        )
    except (ledger.InsufficientCredits, ledger.AccountNotActive):
        return None
    return int(record.cost_ucr)


def charge_sittings(*, now: datetime, sitting_ids: Sequence[str] | None = None) -> int:
    """Those (or these) that ended and are not yet charged, the accounts in turn; returns how many were."""
    rows = Sitting.objects.unmetered().select_related("agent__federation")
    if sitting_ids is not None:
        rows = rows.filter(pk__in=sitting_ids)
    cannot_pay: set[UUID] = set()
    charged = 0
    for sitting in turns.fairly(rows, by="agent__federation__account", order="ended_at", most=ROUND):
        account_id = sitting.agent.federation.account_id
        if account_id in cannot_pay:
            continue
        used = (SECOND, Decimal(sitting.busy_seconds).quantize(MILLISECOND))
        cost = _cost(sitting, used, account_id=account_id, properties={"sitting": str(sitting.pk)}, now=now)
        if cost is None:
            cannot_pay.add(account_id)
            continue
        charged += Sitting.objects.filter(pk=sitting.pk, metered_at=None).update(metered_at=now, cost_ucr=cost)
    return charged


def charge_one(*, attempt_id: UUID, now: datetime) -> None:
    attempt = _unmetered().filter(pk=attempt_id).first()
    if attempt is not None:
        charge(attempt=attempt, now=now)


def charge_all(*, now: datetime, attempt_ids: Sequence[str] | None = None) -> int:
    """Everything (or these) not yet charged, the accounts in turn; one that cannot pay is asked once a round."""
    cannot_pay: set[UUID] = set()
    charged = 0
    rows = _unmetered() if attempt_ids is None else _unmetered().filter(pk__in=attempt_ids)
    for attempt in turns.fairly(rows, by="task__federation__account", order="ended_at", most=ROUND):
        account_id = attempt.task.federation.account_id
        if account_id in cannot_pay:
            continue
        if charge(attempt=attempt, now=now):
            charged += 1
        else:
            cannot_pay.add(account_id)
    return charged


def _unmetered() -> QuerySet[Attempt]:
    rows = Attempt.objects.unmetered().select_related("task__federation", "agent")
    return rows.defer("task__payload", "task__result", "answer")
