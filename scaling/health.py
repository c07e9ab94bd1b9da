"""Pure. Decides a node's status from its reports and from its silence.

                 2 worse reports, or silence
    unknown -> healthy --> degraded --> unhealthy
                    ^---------+------------+   2 better beats in a row

A report never reported before sets the status at once. After that one odd reading flips nothing: it takes
`TURNS_AFTER` in a row, in either direction. Silence only makes worse; only beats make better.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from enum import StrEnum


class Status(StrEnum):
    HEALTHY = "healthy"
    DEGRADED = "degraded"
    UNHEALTHY = "unhealthy"
    UNKNOWN = "unknown"


# How bad a status is; unknown has no place in the order.
LEVEL = {Status.HEALTHY: 0, Status.DEGRADED: 1, Status.UNHEALTHY: 2}
TURNS_AFTER = 2
# A beat counts as missed half an interval after it was due: two missed are 2.5 intervals of silence.
DEGRADED_AFTER_BEATS = 2.5
LEASE_BEATS = 4.0
# A sweep is late when it comes after twice its interval.
LATE_FACTOR = 2


@dataclass(frozen=True)
class Metrics:
    """What a node said of itself; None is "not measured". Shares are 0..1."""

    cpu: float | None = None
    memory: float | None = None
    disk: float | None = None
    latency_ms: float | None = None
    error_rate: float | None = None


@dataclass(frozen=True)
class Limit:
    """From where on a reading is degraded, and from where unhealthy (both inclusive)."""

    degraded: float
    unhealthy: float
    unit: str = "%"

    def words(self, value: float) -> str:
        return f"{value:.0f} ms" if self.unit == "ms" else f"{value:.0%}"


@dataclass(frozen=True)
class Thresholds:
    cpu: Limit = Limit(0.7, 0.9)
    memory: Limit = Limit(0.7, 0.9)
    disk: Limit = Limit(0.85, 0.95)
    latency_ms: Limit = Limit(500, 2000, unit="ms")
    error_rate: Limit = Limit(0.05, 0.15)


@dataclass(frozen=True)
class Finding:
    """A status and why, as a sentence for people."""

    status: Status
    reason: str


def classify(metrics: Metrics, thresholds: Thresholds | None = None) -> Finding:
    """The status of one reading by itself: the worst of its parts."""
    limits = thresholds or Thresholds()
    worst = Finding(Status.HEALTHY, "All readings are within their limits.")
    for field in fields(Metrics):
        value = getattr(metrics, field.name)
        if value is None:
            continue
        found = _judge(field.name, value, getattr(limits, field.name))
        if LEVEL[found.status] > LEVEL[worst.status]:
            worst = found
    return worst


def _judge(name: str, value: float, limit: Limit) -> Finding:
    label = {"cpu": "CPU", "latency_ms": "Latency"}.get(name, name.replace("_", " ").capitalize())
    if math.isnan(value):
        return Finding(Status.DEGRADED, f"{label} could not be measured.")
    if value >= limit.unhealthy:
        return Finding(Status.UNHEALTHY, _over(label, value, limit, limit.unhealthy))
    if value >= limit.degraded:
        return Finding(Status.DEGRADED, _over(label, value, limit, limit.degraded))
    return Finding(Status.HEALTHY, "")


def _over(label: str, value: float, limit: Limit, bound: float) -> str:
    return f"{label} is at {limit.words(value)}; the limit is {limit.words(bound)}."


def score(metrics: Metrics) -> float:
    """How much room is left, 0..1, over what was measured; 1 when nothing was."""
    used = [
        metrics.cpu,
        metrics.memory,
        metrics.disk,
        None if metrics.latency_ms is None else metrics.latency_ms / 1000,
        metrics.error_rate,
    ]
    parts = [1 - min(max(value, 0.0), 1.0) for value in used if value is not None and not math.isnan(value)]
    return sum(parts) / len(parts) if parts else 1.0


def after_report(status: Status, finding: Finding, *, worse: int, better: int) -> Finding:
    """The status after a report. `worse` and `better` count the reports in a row that spoke so."""
    if status is Status.UNKNOWN:
        return finding
    if worse >= TURNS_AFTER:
        return finding
    if better >= TURNS_AFTER:
        return Finding(finding.status, f"{better} good beats in a row. {finding.reason}")
    return Finding(status, "")


def after_silence(status: Status, *, heard_at: datetime, beat_seconds: float, now: datetime) -> Finding:
    """The status of a node last heard at `heard_at`: only ever worse than it was."""
    silent = (now - heard_at).total_seconds()
    found = status
    if silent >= LEASE_BEATS * beat_seconds:
        found = Status.UNHEALTHY
    elif silent >= DEGRADED_AFTER_BEATS * beat_seconds:
        found = Status.DEGRADED
    if status is Status.UNKNOWN or LEVEL[found] <= LEVEL[status]:
        return Finding(status, "")
    missed = int(silent // beat_seconds)
    return Finding(found, f"No beat for {_seconds(silent)}: {missed} missed, one is due every {beat_seconds:g} s.")


def _seconds(silent: float) -> str:
    return f"{silent:.1f} s" if silent < 120 else f"{silent / 60:.0f} minutes"


def look_again_at(status: Status, *, heard_at: datetime, beat_seconds: float) -> datetime | None:
    """When silence next changes the status; None when it cannot."""
    if status in (Status.UNKNOWN, Status.UNHEALTHY):
        return None
    beats = DEGRADED_AFTER_BEATS if status is Status.HEALTHY else LEASE_BEATS
    return heard_at + timedelta(seconds=beats * beat_seconds)


def lateness(*, elapsed_seconds: float, interval_seconds: float) -> float:
    """By how much a sweep was late; its own lateness must not look like the nodes' silence."""
    return elapsed_seconds - interval_seconds if elapsed_seconds > LATE_FACTOR * interval_seconds else 0.0
