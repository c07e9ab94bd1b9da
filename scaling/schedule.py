"""Periodic background tasks of this app; ntd_site merges them into the schedule."""

SCHEDULE: dict[str, dict[str, object]] = {
    "scaling-sweep-nodes": {
        "task": "scaling.tasks.sweep_nodes",
        "schedule": 1.0,
        "options": {"expires": 1.0, "queue": "sweeps"},
    },
    "scaling-evaluate-groups": {
        "task": "scaling.tasks.evaluate_groups",
        "schedule": 5.0,
        "options": {"expires": 5.0, "queue": "sweeps"},
    },
    "scaling-prune": {
        "task": "scaling.tasks.prune",
        "schedule": 600.0,
        "options": {"expires": 600.0, "queue": "sweeps"},
    },
}
