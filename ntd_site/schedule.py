"""Periodic background tasks of the site itself; schedules.py merges them with the apps'."""

SCHEDULE: dict[str, dict[str, object]] = {
    "mark-alive": {
        "task": "ntd_site.tasks.mark_alive",
        "schedule": 5.0,
        "options": {"expires": 10, "queue": "sweeps"},
    },
    "charge-api-calls": {
        "task": "ntd_site.tasks.charge_api_calls",
        "schedule": 15.0,
        "options": {"expires": 15, "queue": "sweeps"},
    },
    "forget-idempotency-records": {
        "task": "ntd_site.tasks.forget_idempotency_records",
        "schedule": 3600.0,
        "options": {"expires": 3600, "queue": "sweeps"},
    },
}
