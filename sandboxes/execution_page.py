"""What the page of one execution shows beside the row itself."""

from __future__ import annotations

from typing import Any

from sandboxes import charts, executions, executor
from sandboxes.limits import Limits
from sandboxes.models import Execution

SHOWN_OUTPUT = 64 * 1024
# One is a point, and no course.
FEWEST_SAMPLES = 2


def about(execution: Execution) -> dict[str, Any]:
    words = ""
    if execution.breach:
        words = executor.breach_in_words(execution.breach, execution.limits, execution.timeout_seconds)
    reason = executions.why_queued(execution)
    stages = execution.stages()
    return {
        "breach_words": words,
        "waits_for": "" if reason == executions.TURN else reason,
        "stages": stages,
        "ending_ms": _ending_ms(execution, dict(stages)),
        "all_ms": sum(lasted for _, lasted in stages),
        "attempts": list(execution.attempts.order_by("number")) if execution.attempt else [],
        "usage": _usage(execution),
        "artifacts": execution.kept_artifacts(),
        "memory_limit": execution.limits.get("memory_mb", 0) * 1024 * 1024,
        "disk_limit": execution.limits.get("disk_mb", 0) * 1024 * 1024,
    }


def _ending_ms(execution: Execution, stages: dict[str, float]) -> float | None:
    """From the program's own end until the worker knew of it, with its output and files; None while it is not known."""
    if execution.duration_ms is None or not execution.is_final or "running" not in stages:
        return None
    return max(0.0, stages["running"] - execution.duration_ms)


def _usage(execution: Execution) -> dict[str, Any]:
    """The course of what it used: of a settled one as charts and a table, else to be drawn as it comes."""
    limits = Limits.parse(execution.limits)
    samples = execution.kept_samples() if execution.is_settled else []
    drawn = charts.usage(samples, cpu=limits.cpu, memory_mb=limits.memory_mb)
    shares = drawn[0]["series"][0]["values"]
    return {
        "charts": drawn,
        "limits": limits,
        "live": not execution.is_settled,
        "rows": [
            (at / 1000, share, memory, disk) for (_, at, _, memory, disk), share in zip(samples, shares, strict=True)
        ],
        "shown": len(samples) >= FEWEST_SAMPLES,
    }


def log(execution: Execution) -> dict[str, Any]:
    """The event stream for browsers with scripts; for others what a settled execution printed, up to a size."""
    events = f"/api/v1/executions/{execution.pk}"
    text = execution.stdout[:SHOWN_OUTPUT] + execution.stderr[:SHOWN_OUTPUT] if execution.is_settled else ""
    return {
        "id": execution.pk,
        "src": f"{events}/events",
        "downloads": [(stream, f"{events}/output?stream={stream}") for stream in ("stdout", "stderr")],
        "text": text,
        "done": execution.is_settled,
    }
