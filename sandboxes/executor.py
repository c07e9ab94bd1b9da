"""Runs a claimed execution on a runtime and writes down what came of it.

    run --> finish              one guarded update each; the loser of a race writes nothing
        \\-> lose               the sandbox was lost: back into the queue, or failed after MOST_ATTEMPTS
        \\-> fail_gone          a customer's long-lived sandbox ended under it: failed, with what it had printed
    lease over -> lose | settle by the sweep, when the worker died

An attempt is fenced by its number and its lease: whoever comes late finds zero rows and stops.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Any

from django.db import connection, transaction
from django.db.models import F

from billing import ledger, metering
from sandboxes import engine, leases, lifecycle, live, names, sealing, steps, stock, telling, transcript, vitals
from sandboxes.leases import Clock
from sandboxes.limits import Limits
from sandboxes.models import Artifact, Attempt, Execution, OutputChunk, Sandbox
from sandboxes.runtimes import (
    LOCAL,
    InvalidRequest,
    Outcome,
    Remote,
    Request,
    Runtime,
    RuntimeLost,
    RuntimeUnavailable,
    SandboxBusy,
    SandboxGone,
    Started,
)

WAITS_AT_MOST = timedelta(hours=24)
WAITS_AT_MOST_HOURS = WAITS_AT_MOST.total_seconds() / 3600
METER = "sandbox_second"
BYTES_METER = "data_byte"
SOURCE = "sandboxes"
ERROR_LENGTH = 500
# How often an execution looks whether its template has come to the node.
TEMPLATE_SECONDS = 2.0
log = logging.getLogger(__name__)


class Superseded(Exception):
    """Raised when an attempt ends whose lease is another's by now: its result has no effect."""


def run(*, execution: Execution, clock: Clock) -> float | None:
    """Run a claimed execution to its end; seconds to wait before it should be tried again, or None."""
    if not execution.kept_sandbox_id and execution.template_address and not stock.has(execution.template_address):
        return wait_for_template(execution=execution, now=clock())
    runtime = engine.runtime(execution.runtime)
    writer = transcript.Writer(execution)
    writer.state("starting")
    started = partial(_start, execution=execution, runtime=runtime, writer=writer, clock=clock)
    try:
        with leases.kept(execution, runtime, clock):
            told = {"on_started": started, "on_output": writer.output, "on_sample": writer.sample}
            request = _request(execution)
            _free_the_connection(runtime)
            outcome = runtime.run(request, **told)
    except SandboxGone as gone:
        fail_gone(execution=execution, chunks=writer.finish(b"", b""), reason=str(gone), now=clock())
        return None
    except SandboxBusy as busy:
        # What it serves is another attempt's, which is about to be ended. Nothing of this one has begun.
        return wait_again(execution=execution, outcome=Attempt.Outcome.REFUSED, reason=str(busy), now=clock())
    except RuntimeLost as lost:
        _lost_one(execution.runtime)
        return lose(execution=execution, outcome=Attempt.Outcome.LOST, reason=str(lost), now=clock())
    except RuntimeUnavailable as unavailable:
        _lost_one(execution.runtime)
        reason = str(unavailable)
        return lose(execution=execution, outcome=Attempt.Outcome.REFUSED, reason=reason, now=clock())
    except (InvalidRequest, sealing.Unreadable) as invalid:
        give_up(execution=execution, outcome=Attempt.Outcome.REFUSED, error=str(invalid), now=clock())
        return None
    vitals.attempt_ended(lost=False)
    chunks = writer.finish(outcome.stdout, outcome.stderr)
    try:
        finish(execution=execution, outcome=outcome, chunks=chunks, samples=writer.samples(), now=clock())
    except Superseded:
        log.warning("attempt %s at execution %s came too late", execution.attempt, execution.pk)
    return None


def _lost_one(runtime: str) -> None:
    engine.forget(runtime)
    # What a cloud loses says nothing of this machine's health.
    if runtime == LOCAL:
        vitals.attempt_ended(lost=True)


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


def _request(execution: Execution) -> Request:
    return Request(
        id=execution.request_id,
        language=execution.language,
        code=execution.code,
        template=execution.template_address,
        stdin=bytes(execution.stdin or b""),
        args=tuple(execution.args),
        env=sealing.opened(execution.env),
        files=execution.file_contents(),
        timeout_seconds=execution.timeout_seconds,
        limits=Limits.parse(execution.limits),
        network=execution.network,
        sandbox=str(execution.kept_sandbox_id or ""),
    )


def _start(
    started: Started, *, execution: Execution, runtime: Runtime, writer: transcript.Writer, clock: Clock
) -> None:
    """The runtime has a sandbox. An execution cancelled meanwhile is not let run."""
    execution.started_at = clock()
    execution.sandbox, execution.is_warm, execution.startup_ms = started.sandbox, started.warm, started.startup_ms
    if not steps.start(execution):
        runtime.cancel(execution.request_id)
        return
    writer.state("running")
    live.execution_changed(execution)
    _free_the_connection(runtime)


def _free_the_connection(runtime: Runtime) -> None:
    """Many wait for a cloud at once, up to an hour each, and the database's connections are for who works."""
    if isinstance(runtime, Remote) and not connection.in_atomic_block:
        connection.close()


def _mine(execution: Execution, *states: str) -> Any:
    """The row, if this attempt still holds it in one of the states."""
    return Execution.objects.filter(
        pk=execution.pk,
        attempt=execution.attempt,
        claimed_by=execution.claimed_by,
        lease_expires_at__isnull=False,
        state__in=states,
    )


@transaction.atomic
def finish(
    *,
    execution: Execution,
    outcome: Outcome,
    chunks: list[OutputChunk],
    samples: Sequence[Sequence[int]] = (),
    now: datetime,
) -> None:
    """Write down, once, how a program ended, what it wrote, left and used, and charge for its seconds and bytes."""
    if not steps.hold_row(execution):
        raise Superseded(execution.pk)
    cost_ucr = _charge(execution, outcome.duration_ms, now) + _charge_bytes(execution, outcome, now)
    steps.finish(
        execution,
        # A person who cancelled has set state and end already; what was used is still the attempt's to say.
        state=lifecycle.ending(exit_code=outcome.exit_code, breach=outcome.breach, cancelled=outcome.cancelled),
        result=_result(execution, outcome) | {"samples": list(samples), "cost_ucr": cost_ucr},
        outcome=Attempt.Outcome.CANCELLED if outcome.cancelled else Attempt.Outcome.FINISHED,
        now=now,
    )
    if chunks:
        OutputChunk.objects.bulk_create(chunks)
    if artifacts := _artifacts(execution, outcome):
        Artifact.objects.bulk_create(artifacts)
    telling.ended(execution, now=now)


def _result(execution: Execution, outcome: Outcome) -> dict[str, Any]:
    unnamed = [artifact.path for artifact in outcome.artifacts if not names.is_addressable(artifact.path)]
    left_out = [names.readable(path) for path in (*outcome.artifacts_truncated, *unnamed)]
    return {
        "started_at": execution.started_at,
        "sandbox": execution.sandbox,
        "is_warm": execution.is_warm,
        "exit_code": outcome.exit_code,
        "signal": outcome.signal,
        "breach": outcome.breach or "",
        "error": _error(execution, outcome),
        "stdout_bytes": len(outcome.stdout),
        "stderr_bytes": len(outcome.stderr),
        "artifact_count": len(outcome.artifacts) - len(unnamed),
        "stdout_truncated": outcome.stdout_truncated,
        "stderr_truncated": outcome.stderr_truncated,
        "artifacts_truncated": left_out,
        "duration_ms": outcome.duration_ms,
        "startup_ms": outcome.startup_ms,
        "cpu_ms": outcome.cpu_ms,
        "peak_memory_bytes": outcome.peak_memory_bytes,
        "disk_bytes": outcome.disk_bytes,
        "network_sent_bytes": outcome.network_sent_bytes,
        "network_received_bytes": outcome.network_received_bytes,
    }


def _error(execution: Execution, outcome: Outcome) -> str:
    """Why it failed, in words: the limit it hit, else the last line it wrote to stderr."""
    if outcome.breach:
        return breach_in_words(outcome.breach, execution.limits, execution.timeout_seconds)
    if outcome.cancelled or outcome.exit_code == 0:
        return ""
    lines = outcome.stderr[-4000:].decode(errors="replace").replace("\0", "\ufffd").split("\n")
    last = next((line.strip() for line in reversed(lines) if line.strip()), "")
    ended = f"signal {outcome.signal}" if outcome.signal else f"exit code {outcome.exit_code}"
    return (last or f"The program ended with {ended}.")[:ERROR_LENGTH]


def breach_in_words(breach: str, limits: dict[str, Any], timeout_seconds: float) -> str:
    return {
        "timeout": f"It ran longer than its {timeout_seconds:g} seconds.",
        "memory": f"It needed more than its {limits.get('memory_mb')} MB of memory.",
        "processes": f"It started more than its {limits.get('processes')} processes.",
        "disk": f"It wrote more than its {limits.get('disk_mb')} MB to disk.",
        "output": f"It printed more than its {limits.get('output_kb')} KB.",
    }[breach]


def _artifacts(execution: Execution, outcome: Outcome) -> list[Artifact]:
    return [
        Artifact(
            execution=execution,
            path=artifact.path,
            content_type=names.content_type(artifact.path),
            size=len(artifact.content),
            content=artifact.content,
        )
        for artifact in outcome.artifacts
        if names.is_addressable(artifact.path)
    ]


def _charge(execution: Execution, duration_ms: float, now: datetime) -> int:
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


def _charge_bytes(execution: Execution, outcome: Outcome, now: datetime) -> int:
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
        properties={"execution": str(execution.pk)},
    )
    cost: int = record.cost_ucr
    return cost


def let_go(execution: Execution, now: datetime) -> None:
    """Release what is held for an execution that cost nothing; a hold that expired meanwhile is released already."""
    if execution.kept_sandbox_id is not None:
        return
    with suppress(ledger.HoldEnded):
        ledger.release(key=execution.hold_key, now=now)


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
    let_go(execution, now)
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
        cost = _charge(found, lasted, now)
    else:
        let_go(found, now)
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
        let_go(execution, now)
        telling.ended(execution, now=now)
    return bool(moved)
