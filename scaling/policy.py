"""Pure. Decides how many of something there should be: policy + load + history -> verdict.

    target_tracking   ceil(current x load / target), the largest over the metrics, with a dead band;
                      stabilised over windows (down only after 300 s without need), limited in step
    threshold         the specification's rule: above .75 or below .25, 3 times in a row, then one step
                      and a cooldown of 300 s

Missing, stale or impossible metrics never move anything down, and without any known metric nothing moves.
`min` and `max` have the last word, with or without metrics.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum

STALE_AFTER = timedelta(seconds=60)
CLOCKS_DIFFER_BY = timedelta(seconds=5)
STEP_PERIOD = timedelta(seconds=15)
FREE_STEP = 4
# A measure beyond this is as good as this, and arithmetic with it stays finite.
BEYOND = 1e12
# ceil(3 x .7 / .7) must be 3: floats put it a hair above.
HAIR = 1e-9


class Kind(StrEnum):
    TARGET_TRACKING = "target_tracking"
    THRESHOLD = "threshold"


class Action(StrEnum):
    UP = "up"
    DOWN = "down"
    NONE = "none"
    HELD = "held"


class Wrong(Exception):
    """Raised for a policy that contradicts itself."""

    code = "validation_error"


@dataclass(frozen=True)
class Policy:
    type: Kind = Kind.TARGET_TRACKING
    min: int = 2
    max: int = 20
    scale_up_cpu_threshold: float = 0.75
    scale_down_cpu_threshold: float = 0.25
    scale_up_memory_threshold: float = 0.75
    scale_down_memory_threshold: float = 0.25
    target_utilisation: float = 0.7
    target_backlog_seconds: float = 30
    tolerance: float = 0.1
    cooldown_seconds: float = 300
    violations: int = 3
    up_window_seconds: float = 0
    down_window_seconds: float = 300
    step: int | None = None


def problems(policy: Policy) -> dict[str, str]:
    """What contradicts itself in a policy: field -> sentence."""
    found = {}
    if policy.min > policy.max:
        found["max"] = f"The maximum must not be below the minimum ({policy.min})."
    for metric in ("cpu", "memory"):
        down, up = getattr(policy, f"scale_down_{metric}_threshold"), getattr(policy, f"scale_up_{metric}_threshold")
        if down >= up:
            found[f"scale_down_{metric}_threshold"] = f"Must be below the threshold for scaling up ({up:g})."
    return found


@dataclass(frozen=True)
class Load:
    """What a target measured. None is "not measured here"; a metric in `needed` that is not known has failed."""

    observed_at: datetime
    cpu: float | None = None
    memory: float | None = None
    busy: float | None = None
    queue: float | None = None
    # How long one queued item keeps one instance; without it a second is assumed.
    seconds_each: float | None = None
    needed: frozenset[str] = frozenset({"cpu", "memory"})

    def known(self, name: str) -> float | None:
        value = getattr(self, name)
        return None if value is None or not math.isfinite(value) or value < 0 else min(float(value), BEYOND)

    def failed(self) -> list[str]:
        asked = [name for name in ("cpu", "memory", "busy", "queue") if getattr(self, name) is not None]
        return sorted(name for name in {*asked, *self.needed} if self.known(name) is None)

    def utilisations(self) -> dict[str, float]:
        return {name: value for name in ("cpu", "memory", "busy") if (value := self.known(name)) is not None}


@dataclass(frozen=True)
class History:
    """What a decision must remember of those before it."""

    recommendations: tuple[tuple[datetime, int], ...] = ()
    changes: tuple[tuple[datetime, int], ...] = ()
    over: int = 0
    under: int = 0
    changed_at: datetime | None = None

    def applied(self, *, by: int, now: datetime) -> History:
        """The history after a change of `by` instances."""
        recent = tuple(each for each in self.changes if each[0] > now - STEP_PERIOD)
        return replace(self, changes=(*recent, (now, by)), over=0, under=0, changed_at=now)


@dataclass(frozen=True)
class Verdict:
    """`recommended` is what the metrics ask for; `desired` what the limits leave of it."""

    current: int
    recommended: int
    desired: int
    action: Action
    reason: str
    limited_by: str = ""
    history: History = field(default_factory=History)


def decide(policy: Policy, load: Load, *, current: int, history: History, now: datetime) -> Verdict:
    bounded = min(max(current, policy.min), policy.max)
    if bounded != current:
        return _out_of_bounds(policy, current, bounded, history)
    missing = _unusable(load, now)
    if missing:
        return Verdict(current, current, current, Action.HELD, missing, "metrics", history)
    if policy.type == Kind.THRESHOLD:
        return _by_threshold(policy, load, current, history, now)
    return _by_target(policy, load, current, history, now)


def _out_of_bounds(policy: Policy, current: int, bounded: int, history: History) -> Verdict:
    bound, action = ("min", Action.UP) if bounded > current else ("max", Action.DOWN)
    reason = f"There are {current}; the {bound}imum is {bounded}."
    return Verdict(current, bounded, bounded, action, reason, bound, history)


def _unusable(load: Load, now: datetime) -> str:
    if now - load.observed_at > STALE_AFTER:
        age = (now - load.observed_at).total_seconds()
        return f"The metrics are {age:.0f} s old, so nothing is changed."
    if load.observed_at - now > CLOCKS_DIFFER_BY:
        return "The metrics are from the future, so nothing is changed."
    if not load.utilisations() and load.known("queue") is None:
        return "No metric is known, so nothing is changed."
    return ""


# --- target tracking


def _by_target(policy: Policy, load: Load, current: int, history: History, now: datetime) -> Verdict:
    wanted, why = max(_asked_for(policy, load, current), key=lambda asked: asked[0])
    failed = load.failed()
    if wanted < current and failed:
        reason = f"{why} But {_listed(failed)} is not known, so nothing is taken away."
        return Verdict(current, wanted, current, Action.HELD, reason, "metrics", history)
    history = _remembering(policy, history, wanted, current, now)
    desired, limited_by = _stabilised(policy, history, wanted, current, now)
    desired, limited_by = _stepped(policy, history, desired, limited_by, current, now)
    desired, limited_by = _clamped(policy, desired, limited_by)
    return _verdict(current, wanted, desired, why, limited_by, history)


def _asked_for(policy: Policy, load: Load, current: int) -> Iterator[tuple[int, str]]:
    for name, used in load.utilisations().items():
        ratio = used / policy.target_utilisation
        inside = abs(ratio - 1) <= policy.tolerance + HAIR
        wanted = current if inside else math.ceil(current * ratio - HAIR)
        yield wanted, f"{_label(name)} is at {used:.0%}, aiming for {policy.target_utilisation:.0%}."
    queue = load.known("queue")
    if queue is not None:
        seconds = queue * (load.seconds_each or 1.0)
        wanted = math.ceil(seconds / policy.target_backlog_seconds - HAIR)
        yield wanted, f"{queue:g} waiting, to be done within {policy.target_backlog_seconds:g} s."


def _remembering(policy: Policy, history: History, wanted: int, current: int, now: datetime) -> History:
    """With no recent memory the present size counts as recommended now, so that a fresh start takes nothing away."""
    longest = timedelta(seconds=max(policy.up_window_seconds, policy.down_window_seconds))
    recent = tuple(each for each in history.recommendations if each[0] >= now - longest)
    return replace(history, recommendations=(*(recent or ((now, current),)), (now, wanted)))


def _stabilised(policy: Policy, history: History, wanted: int, current: int, now: datetime) -> tuple[int, str]:
    """Up to the least that was asked for during the up window, down to the most during the down window."""
    if wanted > current:
        least = min(_within(history, policy.up_window_seconds, now) or [wanted])
        return (wanted, "") if least >= wanted else (max(least, current), "up_window")
    most = max(_within(history, policy.down_window_seconds, now) or [wanted])
    return (wanted, "") if most <= wanted else (min(most, current), "down_window")


def _within(history: History, seconds: float, now: datetime) -> list[int]:
    since = now - timedelta(seconds=seconds)
    # A window of no length holds only the newest recommendation.
    kept = history.recommendations[-1:] if seconds == 0 else history.recommendations
    return [number for at, number in kept if at >= since]


def _stepped(
    policy: Policy, history: History, desired: int, limited_by: str, current: int, now: datetime
) -> tuple[int, str]:
    recent = [by for at, by in history.changes if at > now - STEP_PERIOD]
    start = current - sum(by for by in recent if by > 0)
    most = max(start + (policy.step or max(FREE_STEP, start)), current)
    if desired > most:
        return most, "step"
    least = current - sum(by for by in recent if by < 0) - policy.step if policy.step else 0
    if desired < min(least, current):
        return min(least, current), "step"
    return desired, limited_by


# --- threshold


def _by_threshold(policy: Policy, load: Load, current: int, history: History, now: datetime) -> Verdict:
    over, under, why = _crossed(policy, load)
    history = replace(history, over=history.over + 1 if over else 0, under=history.under + 1 if under else 0)
    step = policy.step or 1
    wanted = current + step if over else current - step if under else current
    desired, limited_by = _clamped(policy, wanted, "")
    if desired == current:
        return _verdict(current, wanted, desired, why, limited_by, history)
    times = history.over if over else history.under
    if times < policy.violations:
        reason = f"{why} This is {times} of {policy.violations} in a row."
        return Verdict(current, wanted, current, Action.HELD, reason, "violations", history)
    ends = history.changed_at and history.changed_at + timedelta(seconds=policy.cooldown_seconds)
    if ends and now < ends:
        reason = f"{why} Cooling down for another {(ends - now).total_seconds():.0f} s."
        return Verdict(current, wanted, current, Action.HELD, reason, "cooldown", history)
    return _verdict(current, wanted, desired, why, limited_by, history)


def _crossed(policy: Policy, load: Load) -> tuple[bool, bool, str]:
    """Over when any metric is above its threshold; under when all are below and none is missing."""
    used = load.utilisations()
    for name, value in used.items():
        top = _threshold(policy, "up", name)
        if value > top:
            return True, False, f"{_label(name)} is at {value:.0%}, above {top:.0%}."
    queue = load.known("queue") or 0.0
    waiting = queue * (load.seconds_each or 1.0)
    if waiting > policy.target_backlog_seconds:
        return True, False, f"{queue:g} waiting, more than {policy.target_backlog_seconds:g} s of work."
    spare = bool(used) and all(value < _threshold(policy, "down", name) for name, value in used.items())
    if spare and not load.failed() and not waiting:
        return False, True, f"{_listed([_label(name) for name in used])} below the thresholds for scaling down."
    return False, False, "All metrics are between the thresholds."


def _threshold(policy: Policy, direction: str, name: str) -> float:
    found: float = getattr(policy, f"scale_{direction}_{'memory' if name == 'memory' else 'cpu'}_threshold")
    return found


# --- both


def _clamped(policy: Policy, desired: int, limited_by: str) -> tuple[int, str]:
    if desired > policy.max:
        return policy.max, "max"
    if desired < policy.min:
        return policy.min, "min"
    return desired, limited_by


def _verdict(current: int, wanted: int, desired: int, why: str, limited_by: str, history: History) -> Verdict:
    if desired > current:
        return Verdict(current, wanted, desired, Action.UP, why, limited_by, history)
    if desired < current:
        return Verdict(current, wanted, desired, Action.DOWN, why, limited_by, history)
    if wanted == current:
        return Verdict(current, wanted, current, Action.NONE, why, "", history)
    return Verdict(current, wanted, current, Action.HELD, f"{why} {_held(limited_by)}", limited_by, history)


def _held(limited_by: str) -> str:
    return {
        "down_window": "More was needed recently, so nothing is taken away yet.",
        "up_window": "It has not been needed for long enough yet.",
        "step": "The step limit of this period is used up.",
        "max": "The maximum is reached.",
        "min": "The minimum is reached.",
    }[limited_by]


def _label(name: str) -> str:
    return {"cpu": "CPU", "memory": "Memory", "busy": "Occupancy"}[name]


def _listed(names: list[str]) -> str:
    return ", ".join(names[:-1]) + (" and " if names[1:] else "") + names[-1]
