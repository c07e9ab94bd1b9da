"""What happens to an execution that the machinery could not run to its end: it waits again, or fails honestly.

    lose                the sandbox was lost: back into the queue, or failed after MOST_ATTEMPTS
    fail_gone           a customer's long-lived sandbox ended under it: failed, with what it had printed
    settle_cancelled    a person cancelled it, and its worker says nothing more
    expire_leases       the worker died: lose or settle, by the sweep

An attempt is fenced by its number and its lease: whoever comes late finds zero rows and stops.
"""

from __future__ import annotations

import random
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from django.db import transaction
from django.db.models import F

from sandboxes import charges, engine, lifecycle, live, stock, telling, transcript
from sandboxes.models import Attempt, Execution, OutputChunk, Sandbox

WAITS_AT_MOST = timedelta(hours=24)
WAITS_AT_MOST_HOURS = WAITS_AT_MOST.total_seconds() / 3600
ERROR_LENGTH = 500
# How often an execution looks whether its template has come to the node.
TEMPLATE_SECONDS = 2.0


@transaction.atomic
def wait_for_template(*, execution: Execution, now: datetime) -> float | None:
    """This node has not got what it starts from yet: back to its place, as if it had not been claimed."""
    problem = stock.fetch(execution.template_address)
    if problem:
        return lose(execution=execution, outcome=Attempt.Outcome.REFUSED, reason=problem, now=now)
    moved = _mine(execution, lifecycle.STARTING).update(
        state=lifecycle.QUEUED,
        attempt=F("attempt") - 1,
        available_at=now + timedelta(seconds=TEMPLATE_SECONDS),
        lease_expires_at=None,
        claimed_by="",
        claimed_at=None,
    )
    if not moved:
        settle_cancelled(execution=execution, now=now)
        return None
    live.execution_changed(execution)
    return TEMPLATE_SECONDS


def lose(*, execution: Execution, outcome: str, reason: str, now: datetime) -> float | None:
    """The sandbox was lost, not the program's fault: queue it again, or fail it honestly after the last attempt.

    In a long-lived sandbox nothing runs twice: what the first attempt did to its files is there, or they are lost.
    Returns the seconds until the next attempt, or None when there is none.
    """
    if execution.kept_sandbox_id is None:
        return wait_again(execution=execution, outcome=outcome, reason=reason, now=now)
    error = f"It was lost while it ran in its sandbox, and is not run again by itself. {reason}"
    give_up(execution=execution, outcome=outcome, error=error, now=now)
    return None


@transaction.atomic
def wait_again(*, execution: Execution, outcome: str, reason: str, now: datetime) -> float | None:
    """Back into the queue; the seconds until the next attempt, or None when this was the last."""
    if execution.attempt >= lifecycle.MOST_ATTEMPTS:
        error = f"The sandbox was lost {execution.attempt} times, the last time because: {reason}"
        give_up(execution=execution, outcome=outcome, error=error, now=now)
        return None
    wait = lifecycle.retry_wait(attempt=execution.attempt, chance=random.random())
    moved = _mine(execution, *lifecycle.LIVE).update(
        state=lifecycle.QUEUED,
        available_at=now + timedelta(seconds=wait),
        lease_expires_at=None,
        claimed_by="",
        claimed_at=None,
        started_at=None,
        sandbox="",
    )
    if not moved:
        settle_cancelled(execution=execution, now=now)
        return None
    _record_attempt(execution, outcome=outcome, duration_ms=None, now=now, error=reason)
    OutputChunk.objects.filter(execution=execution).delete()
    execution.claimed_at = None
    transaction.on_commit(partial(transcript.tell_queued, execution))
    live.execution_changed(execution)
    return wait


@transaction.atomic
def give_up(*, execution: Execution, outcome: str, error: str, now: datetime) -> None:
    """Fail an execution that the machinery could not run; the customer pays nothing for it."""
    moved = _mine(execution, *lifecycle.LIVE).update(
        state=lifecycle.FAILED, finished_at=now, error=error[:ERROR_LENGTH], lease_expires_at=None
    )
    if not moved:
        settle_cancelled(execution=execution, now=now)
        return
    _record_attempt(execution, outcome=outcome, duration_ms=None, now=now, error=error)
    charges.let_go(execution, now)
    telling.ended(execution, now=now)


@transaction.atomic
def fail_gone(*, execution: Execution, chunks: list[OutputChunk], reason: str, now: datetime) -> None:
    """Its long-lived sandbox ended under it. What it printed is kept; its files are gone with the sandbox."""
    last = chunks[-1] if chunks else execution.output_chunks.order_by("number").last()
    if last is not None:
        printed = {"stdout_bytes": last.stdout_end, "stderr_bytes": last.stderr_end}
        if _mine(execution, *lifecycle.LIVE, lifecycle.CANCELLED).update(**printed):
            OutputChunk.objects.bulk_create(chunks)
    why = Sandbox.objects.get(pk=execution.kept_sandbox_id).why_ended or reason
    error = f"Its sandbox ended while it ran. {why}"
    give_up(execution=execution, outcome=Attempt.Outcome.LOST, error=error, now=now)


@transaction.atomic
def settle_cancelled(*, execution: Execution, now: datetime) -> bool:
    """Close the books of a cancelled execution whose worker said nothing more. False when they are closed."""
    row = Execution.objects.light().filter(pk=execution.pk, attempt=execution.attempt, state=lifecycle.CANCELLED)
    found = row.filter(lease_expires_at__isnull=False).select_for_update().first()
    if found is None:
        return False
    cost, lasted = 0, None
    if found.started_at and found.finished_at:
        lasted = max(0.0, (found.finished_at - found.started_at).total_seconds() * 1000)
        cost = charges.capture(found, lasted, now)
    else:
        charges.let_go(found, now)
    _record_attempt(found, outcome=Attempt.Outcome.CANCELLED, duration_ms=lasted, now=now)
    row.update(lease_expires_at=None, duration_ms=lasted, cost_ucr=cost)
    telling.ended(found, now=now)
    return True


def expire_leases(*, now: datetime) -> int:
    """Take back what dead workers held; returns how many wait again."""
    expired = Execution.objects.light().lease_expired(now).order_by("lease_expires_at", "pk")[:200]
    again = 0
    for execution in expired:
        if execution.state == lifecycle.CANCELLED:
            settle_cancelled(execution=execution, now=now)
            continue
        reason = "The worker that ran it stopped answering."
        wait = lose(execution=execution, outcome=Attempt.Outcome.EXPIRED, reason=reason, now=now)
        again += wait is not None
    return again


def drop_stale(*, now: datetime) -> int:
    """Fail what waited longer than anybody should: nothing is queued for ever."""
    rows = Execution.objects.light().select_related("pool")
    stale = rows.filter(state=lifecycle.QUEUED, created_at__lt=now - WAITS_AT_MOST)
    dropped = 0
    for execution in stale.order_by("created_at", "pk")[:200]:
        why = engine.why_not(execution.all_runtimes) or ""
        error = f"It waited {WAITS_AT_MOST_HOURS:g} hours for a sandbox and was given up. {why}".strip()
        dropped += _drop(execution, error, now)
    return dropped


def fail_waiting(*, sandbox: Sandbox, error: str, now: datetime) -> None:
    """Fail what waits for a sandbox that has ended."""
    waiting = Execution.objects.light().filter(kept_sandbox=sandbox, state=lifecycle.QUEUED)
    for execution in waiting.order_by("turn", "pk"):
        _drop(execution, error, now)


@transaction.atomic
def _drop(execution: Execution, error: str, now: datetime) -> bool:
    moved = Execution.objects.filter(pk=execution.pk, state=lifecycle.QUEUED).update(
        state=lifecycle.FAILED, finished_at=now, error=error[:ERROR_LENGTH]
    )
    if moved:
        charges.let_go(execution, now)
        telling.ended(execution, now=now)
    return bool(moved)


def _mine(execution: Execution, *states: str) -> Any:
    """The row, if this attempt still holds it in one of the states."""
    return Execution.objects.filter(
        pk=execution.pk,
        attempt=execution.attempt,
        claimed_by=execution.claimed_by,
        lease_expires_at__isnull=False,
        state__in=states,
    )


def _record_attempt(
    execution: Execution, *, outcome: str, duration_ms: float | None, now: datetime, error: str = ""
) -> None:
    Attempt.objects.create(
        execution=execution,
        number=execution.attempt,
        outcome=outcome,
        error=error[:ERROR_LENGTH],
        sandbox=execution.sandbox,
        node=execution.node,
        runtime=execution.runtime,
        is_warm=execution.is_warm,
        startup_ms=execution.startup_ms,
        duration_ms=duration_ms,
        claimed_at=execution.claimed_at or now,
        started_at=execution.started_at,
        finished_at=now,
    )
