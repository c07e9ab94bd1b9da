"""Periodic background tasks of this app; ntd_site merges them into the schedule."""

SCHEDULE: dict[str, dict[str, object]] = {
    "sandboxes-sweep": {
        "task": "sandboxes.tasks.sweep_executions",
        "schedule": 2.0,
        "options": {"expires": 2, "queue": "sweeps"},
    },
    "sandboxes-orphans": {
        "task": "sandboxes.tasks.end_orphans",
        "schedule": 30.0,
        "options": {"expires": 30, "queue": "sweeps"},
    },
    "sandboxes-builds": {
        "task": "sandboxes.tasks.sweep_builds",
        "schedule": 5.0,
        "options": {"expires": 5, "queue": "sweeps"},
    },
    "sandboxes-lifetimes": {
        "task": "sandboxes.tasks.sweep_sandboxes",
        "schedule": 2.0,
        "options": {"expires": 2, "queue": "sweeps"},
    },
}
