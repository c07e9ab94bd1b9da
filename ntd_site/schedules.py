"""The periodic background tasks: each app declares its own in `<app>/schedule.py`; here they meet.

A message costs more than most sweeps do, so the sweeps of one pace go round in one message (tasks.sweep).
"""

from collections import defaultdict
from typing import Any

from billing.schedule import SCHEDULE as BILLING
from federation.schedule import SCHEDULE as FEDERATION
from ntd_site.schedule import SCHEDULE as SITE
from sandboxes.schedule import SCHEDULE as SANDBOXES
from scaling.schedule import SCHEDULE as SCALING

# Nodes come first: how late they are swept counts.
DECLARED: dict[str, dict[str, Any]] = {**SITE, **SCALING, **BILLING, **SANDBOXES, **FEDERATION}
OFTEN_SECONDS = 5.0


def merged() -> dict[str, dict[str, Any]]:
    rounds: defaultdict[float, list[str]] = defaultdict(list)
    alone = {}
    for name, entry in DECLARED.items():
        # Whether the schedule itself is alive is told by a message of its own.
        if entry["schedule"] <= OFTEN_SECONDS and name not in SITE:
            rounds[entry["schedule"]].append(entry["task"])
        else:
            alone[name] = entry
    return alone | {f"sweeps-every-{seconds:g}-s": _round(seconds, tasks) for seconds, tasks in rounds.items()}


def _round(seconds: float, tasks: list[str]) -> dict[str, Any]:
    options = {"expires": max(seconds, 2.0), "queue": "sweeps"}
    return {"task": "ntd_site.tasks.sweep", "schedule": seconds, "kwargs": {"tasks": tasks}, "options": options}
