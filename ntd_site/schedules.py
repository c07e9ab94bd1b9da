"""The periodic background tasks: each app declares its own in `<app>/schedule.py`; here they meet.

A message costs more than most sweeps do, so all that are swept often go round in one message a second, and the
worker knows which of them are due (tasks.sweep). Rare ones have messages of their own.
"""

from typing import Any

from billing.schedule import SCHEDULE as BILLING
from federation.schedule import SCHEDULE as FEDERATION
from ntd_site.schedule import SCHEDULE as SITE
from sandboxes.schedule import SCHEDULE as SANDBOXES
from scaling.schedule import SCHEDULE as SCALING

# Nodes come first: how late they are swept counts.
DECLARED: dict[str, dict[str, Any]] = {**SCALING, **SITE, **BILLING, **SANDBOXES, **FEDERATION}
ROUND_SECONDS = 1.0
OFTEN_SECONDS = 60.0


def merged() -> dict[str, dict[str, Any]]:
    """What the scheduler sends: one round of sweeps, and each rare task."""
    often = {name: entry for name, entry in DECLARED.items() if entry["schedule"] <= OFTEN_SECONDS}
    rare = {name: entry for name, entry in DECLARED.items() if name not in often}
    sweeps = {
        "task": "ntd_site.tasks.sweep",
        "schedule": ROUND_SECONDS,
        "kwargs": {"tasks": {entry["task"]: entry["schedule"] for entry in often.values()}},
        "options": {"expires": 2 * ROUND_SECONDS, "queue": "sweeps"},
    }
    return {"sweeps": sweeps} | rare


def due(tasks: dict[str, float], *, before: float, now: float) -> list[str]:
    """Of tasks with their paces in seconds, those that began a window of theirs since the last round (Unix times).

    A round that came a little early must not pass over what every round does.
    """
    return [task for task, seconds in tasks.items() if seconds <= ROUND_SECONDS or before // seconds < now // seconds]
