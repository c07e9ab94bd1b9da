"""Managed agents at work: their tasks run as executions, and what those end with becomes the task's result.

The signal that an execution finished only hurries this along; `watch` finds everything by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models import Q, QuerySet

from billing import ledger
from federation import attempts, dependencies, predictions, servers, tool_calls, workloads
from federation.models import Agent, Attempt, McpServer
from sandboxes import engine, executions, lifecycle, programs
from sandboxes.models import Artifact, Execution

# What a later moment may mend; and what only another payload can.
NOT_NOW = (*ledger.CANNOT_SPEND, executions.QueueFull, engine.EngineUnavailable)
NEVER = (workloads.BadPayload, programs.Refused, programs.TooLarge, executions.NetworkNotAllowed)
UNHEARD = timedelta(seconds=3)
# Enough that a node's sandboxes find the next one waiting whenever one has ended.
IN_LINE = 16
ERROR_CHARACTERS = 8_000
HEAVY = ("code", "stdin", "args", "env", "files")


@dataclass(frozen=True, slots=True)
class Found:
    """What a look over all managed attempts found to do."""

    to_start: list[UUID]
    to_advance: list[UUID]
    to_stop: list[UUID]


def next_to_start(*, federation_id: UUID) -> list[UUID]:
    """Assigned attempts that may begin now, the most urgent first.

    Only IN_LINE executions of a federation wait for a sandbox at once, so that another's few are never far behind.
    """
    in_line = Execution.objects.filter(
        state=Execution.State.QUEUED, federation_attempt__task__federation=federation_id
    ).count()
    waiting = _to_start().filter(task__federation=federation_id).order_by("-task__priority", "assigned_at", "pk")
    return list(waiting.values_list("pk", flat=True)[: max(IN_LINE - in_line, 0)])


def _to_start() -> QuerySet[Attempt]:
    return Attempt.objects.filter(state=Attempt.State.ASSIGNED, execution=None, agent__runtime__in=Agent.OURS)


def start(*, attempt_id: UUID, now: datetime) -> UUID | None:
    """Begin an assigned attempt as an execution, once; returns the federation when the task needs assigning again."""
    found = Attempt.objects.select_related("task__federation__account", "agent__handler", "agent__mcp")
    attempt = found.filter(pk=attempt_id, state=Attempt.State.ASSIGNED, execution=None).first()
    if attempt is None:
        return None
    task = attempt.task
    try:
        _submit(attempt, _arguments(attempt), now)
    except NEVER as invalid:
        attempts.fail(task_id=task.pk, epoch=attempt.epoch, error=_sentence(invalid), retryable=False, now=now)
        return task.federation_id
    except NOT_NOW as refusal:
        attempts.refuse(attempt=attempt, reason=str(refusal), now=now)
        return task.federation_id
    return None


def _arguments(attempt: Attempt) -> dict[str, Any]:
    task, handler = attempt.task, attempt.agent.handler
    if attempt.agent.runtime == Agent.Runtime.MCP:
        server = attempt.agent.mcp
        return servers.execution_arguments(server, servers.job(server, task.payload))
    return workloads.execution_arguments(
        type=task.type,
        payload=task.payload,
        handler=handler.as_work() if handler else None,
        dependencies=dependencies.results(task),
        model=predictions.model_for(task),
    )


def is_called(attempt: Attempt) -> bool:
    """Its agent is a server at an address: nothing runs here, but our worker asks it."""
    return attempt.agent.runtime == Agent.Runtime.MCP and attempt.agent.mcp.is_remote


def call(*, attempt_id: UUID, clock: tool_calls.Clock, then: Callable[[Attempt], None]) -> bool:
    """Begin an assigned attempt as a call of a server at an address; False when it is not to be one."""
    found = Attempt.objects.select_related("task__federation__account", "agent__mcp", "agent__handler")
    attempt = found.filter(pk=attempt_id, state=Attempt.State.ASSIGNED, execution=None).first()
    if attempt is None or not is_called(attempt):
        return False
    try:
        tool_calls.begin(attempt=attempt, server=attempt.agent.mcp, clock=clock, then=then)
    except NEVER as invalid:
        task = attempt.task
        attempts.fail(task_id=task.pk, epoch=attempt.epoch, error=_sentence(invalid), retryable=False, now=clock())
        then(attempt)
    return True


@transaction.atomic
def _submit(attempt: Attempt, arguments: dict[str, Any], now: datetime) -> None:
    task = attempt.task
    if attempts.start(attempt=attempt, now=now) is None:
        return
    predictions.hold(attempt=attempt, now=now)
    handler = attempt.agent.handler
    handled = {"handler": str(handler.version)} if handler and task.type not in workloads.MANAGED_TYPES else {}
    execution = executions.submit(
        account=task.federation.account,
        metadata={
            **handled,
            "name": str(task)[:80],
            "federation": task.federation.name,
            "task": str(task.pk),
            "epoch": str(attempt.epoch),
        },
        agent=str(attempt.agent_id),
        api_key=str(task.api_key or ""),
        now=now,
        **arguments,
    )
    Attempt.objects.filter(pk=attempt.pk).update(execution=execution)


def _sentence(invalid: Exception) -> str:
    errors = getattr(invalid, "errors", None) or {}
    said = [f"{field}: {' '.join(messages)}" for field, messages in errors.items()]
    return " ".join(said) or str(invalid)


def advance(*, execution_id: UUID, now: datetime) -> Attempt | None:
    """Give a settled execution's outcome to its task; None when there is nothing to give."""
    found = Attempt.objects.live().select_related("task__federation", "agent__mcp")
    attempt = found.filter(execution=execution_id).first()
    execution = Execution.objects.light().filter(pk=execution_id).first()
    if attempt is None or execution is None or not execution.is_settled:
        return None
    # Whoever was first has told the task; a cancelled task wants no result.
    with suppress(attempts.StaleEpoch, attempts.TaskSettled):
        _tell(attempt, execution, now)
        return attempt
    return None


def _tell(attempt: Attempt, execution: Execution, now: datetime) -> None:
    if attempt.agent.runtime == Agent.Runtime.MCP and not is_infrastructure(execution):
        outcome = tool_calls.outcome_of(execution, _artifact(execution), why(execution))
        tool_calls.tell(attempt=attempt, server=attempt.agent.mcp, outcome=outcome, now=now)
        return
    if execution.state == Execution.State.SUCCEEDED:
        result = workloads.result(artifact=_artifact(execution), stdout=execution.stdout, exit_code=execution.exit_code)
        attempts.complete(task_id=attempt.task_id, epoch=attempt.epoch, result=result, now=now)
        return
    attempts.fail(
        task_id=attempt.task_id,
        epoch=attempt.epoch,
        error=why(execution),
        retryable=is_infrastructure(execution),
        now=now,
    )


def take_reading(*, execution_id: UUID, now: datetime) -> UUID | None:
    """An execution that read the tools of an MCP server has ended; returns the federation whose agent knows more."""
    execution = Execution.objects.light().filter(pk=execution_id).first()
    if execution is None or not execution.is_settled:
        return None
    outcome = tool_calls.outcome_of(execution, _artifact(execution), why(execution))
    server = tool_calls.take_reading(execution=execution, outcome=outcome, now=now)
    return server.agent.federation_id if server else None


def _artifact(execution: Execution) -> bytes | None:
    content = Artifact.objects.filter(execution=execution, path=workloads.RESULT_PATH).values_list("content", flat=True)
    found = content.first()
    return None if found is None else bytes(found)


def is_infrastructure(execution: Execution) -> bool:
    """The sandbox failed, not the program: another attempt may go better."""
    ended_by_itself = execution.exit_code is not None or execution.signal is not None or execution.breach
    return execution.state == Execution.State.FAILED and not ended_by_itself


def why(execution: Execution) -> str:
    if execution.state == Execution.State.CANCELLED:
        return "Its execution was cancelled."
    if execution.state == Execution.State.TIMED_OUT:
        return f"It ran longer than its {execution.timeout_seconds:g} seconds."
    if is_infrastructure(execution):
        return execution.error or "The sandbox was lost."
    said = execution.stderr.strip().replace("\x00", "\N{REPLACEMENT CHARACTER}")[-ERROR_CHARACTERS:]
    if execution.breach:
        return f"It reached its limit of {execution.breach}.\n{said}".strip()
    return said or f"It ended with exit code {execution.exit_code}."


def watch(*, now: datetime) -> Found:
    """Renew the leases of what still runs, and find what was never started or has finished unheard."""
    unheard = _to_start().filter(assigned_at__lt=now - UNHEARD).order_by()
    federations = unheard.values_list("task__federation", flat=True).distinct()
    to_start = [pk for federation in federations for pk in next_to_start(federation_id=federation)]
    running = list(Attempt.objects.live().exclude(execution=None).select_related("execution", "task__federation")
                   .defer("task__payload", "task__result", *(f"execution__{name}" for name in HEAVY)))  # fmt: skip
    for attempt in running:
        federation = attempt.task.federation
        if attempt.lease_expires_at < now + timedelta(seconds=federation.lease_seconds / 2):
            until = attempts.lease_end(federation, now)
            Attempt.objects.live().filter(pk=attempt.pk).update(lease_expires_at=until)
    settled = [each.execution_id for each in running if each.execution.is_settled]
    settled += [server.reading_id for server in _reading() if server.reading.is_settled]
    return Found(to_start, settled, list(_orphans()))


def _reading() -> QuerySet[McpServer]:
    heavy = (f"reading__{name}" for name in HEAVY)
    return McpServer.objects.exclude(reading=None).select_related("reading").defer(*heavy)


def _orphans() -> Iterable[UUID]:
    """Attempts that ended from outside (cancelled, agent gone) while their program runs on."""
    runs_on = Execution.objects.filter(Q(state=lifecycle.QUEUED) | Q(state__in=lifecycle.LIVE))
    ended = runs_on.filter(federation_attempt__ended_at__isnull=False)
    return ended.values_list("federation_attempt", flat=True)[: attempts.ROUND]
