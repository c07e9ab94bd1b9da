"""Periodic background tasks of this app; ntd_site merges them into the schedule."""

SCHEDULE: dict[str, dict[str, object]] = {
    "billing-expire-holds": {
        "task": "billing.tasks.expire_holds",
        "schedule": 5.0,
        "options": {"expires": 5, "queue": "sweeps"},
    },
    "billing-expire-grants": {
        "task": "billing.tasks.expire_grants",
        "schedule": 30.0,
        "options": {"expires": 30, "queue": "sweeps"},
    },
    "billing-simulated-webhooks": {
        "task": "billing.tasks.send_simulated_webhooks",
        "schedule": 2.0,
        "options": {"expires": 2, "queue": "sweeps"},
    },
    "billing-payments": {
        "task": "billing.tasks.sweep_payments",
        "schedule": 5.0,
        "options": {"expires": 5, "queue": "sweeps"},
    },
    "billing-coins": {
        "task": "billing.tasks.watch_coins",
        "schedule": 5.0,
        "options": {"expires": 5},
    },
}
