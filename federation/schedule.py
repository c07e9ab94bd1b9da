"""Periodic background tasks of this app; ntd_site merges them into the schedule."""


def _every(seconds: float, name: str) -> dict[str, object]:
    options = {"expires": max(seconds, 2), "queue": "sweeps"}
    return {"task": f"federation.tasks.{name}", "schedule": seconds, "options": options}


SCHEDULE: dict[str, dict[str, object]] = {
    "federation": _every(1.0, "sweep"),
    "federation-agents": _every(2.0, "sweep_agents"),
    "federation-inboxes": _every(10.0, "sweep_inboxes"),
    "federation-memory": _every(20.0, "sweep_memory"),
    "federation-memory-indexes": {
        "task": "federation.tasks.index_memory",
        "schedule": 60.0,
        "options": {"expires": 60},
    },
    "federation-shapes": _every(10.0, "sweep_shapes"),
    "federation-tools": _every(30.0, "sweep_tools"),
    "federation-usage": _every(60.0, "sweep_usage"),
}
