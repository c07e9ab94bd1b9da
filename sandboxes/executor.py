"""Runs a claimed execution on a runtime and writes down what came of it.

    run --> finish      one guarded update each; the loser of a race writes nothing
        \\-> setbacks    what the machinery could not run to its end

An attempt is fenced by its number and its lease: whoever comes late finds zero rows and stops.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime
from functools import partial
from typing import Any

from django.db import connection, transaction

from sandboxes import (
    charges,
    engine,
    leases,
    lifecycle,
    live,
    names,
    setbacks,
    steps,
    stock,
    telling,
    transcript,
    vitals,
)
from sandboxes.leases import Clock
from sandboxes.limits import Limits
from sandboxes.models import Artifact, Attempt, Execution, OutputChunk
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

log = logging.getLogger(__name__)


class Superseded(Exception):
    """Raised when an attempt ends whose lease is another's by now: its result has no effect."""


def run(*, execution: Execution, clock: Clock) -> float | None:
    """Run a claimed execution to its end; seconds to wait before it should be tried again, or None."""
    if not execution.kept_sandbox_id and execution.template_address and not stock.has(execution.template_address):
        return setbacks.wait_for_template(execution=execution, now=clock())
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
        setbacks.fail_gone(execution=execution, chunks=writer.finish(b"", b""), reason=str(gone), now=clock())
        return None
    except SandboxBusy as busy:
        # What it serves is another attempt's, which is about to be ended. Nothing of this one has begun.
        return setbacks.wait_again(execution=execution, outcome=Attempt.Outcome.REFUSED, reason=str(busy), now=clock())
    except RuntimeLost as lost:
        _lost_one(execution.runtime)
        return setbacks.lose(execution=execution, outcome=Attempt.Outcome.LOST, reason=str(lost), now=clock())
    except RuntimeUnavailable as unavailable:
        _lost_one(execution.runtime)
        reason = str(unavailable)
        return setbacks.lose(execution=execution, outcome=Attempt.Outcome.REFUSED, reason=reason, now=clock())
    except InvalidRequest as invalid:
        setbacks.give_up(execution=execution, outcome=Attempt.Outcome.REFUSED, error=str(invalid), now=clock())
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


def _request(execution: Execution) -> Request:
    return Request(
        id=execution.request_id,
        language=execution.language,
        code=execution.code,
        template=execution.template_address,
        stdin=bytes(execution.stdin or b""),
        args=tuple(execution.args),
        env=execution.env,
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
    cost_ucr = charges.capture(execution, outcome.duration_ms, now) + charges.settle_bytes(execution, outcome, now)
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
    return (last or f"The program ended with {ended}.")[: setbacks.ERROR_LENGTH]


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
