"""Periodic background tasks of this app; ntd_site merges them into the schedule."""

SCHEDULE: dict[str, dict[str, object]] = {
    "billing-coins": {
        "task": "billing.tasks.sweep_coins",
        "schedule": 5.0,
        "options": {"expires": 5, "queue": "sweeps"},
    },
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
    "billing-close-periods": {
        "task": "billing.tasks.close_periods",
        "schedule": 600.0,
        "options": {"expires": 600, "queue": "sweeps"},
    },
    "billing-credit-refunds": {
        "task": "billing.tasks.send_credit_refunds",
        "schedule": 30.0,
        "options": {"expires": 30, "queue": "sweeps"},
    },
    "billing-payments": {
        "task": "billing.tasks.sweep_payments",
        "schedule": 5.0,
        "options": {"expires": 5, "queue": "sweeps"},
    },
    "billing-webhooks": {
        "task": "billing.tasks.sweep_webhooks",
        "schedule": 2.0,
        "options": {"expires": 2, "queue": "sweeps"},
    },
    "billing-alerts": {
        "task": "billing.tasks.tell_alerts",
        "schedule": 5.0,
        "options": {"expires": 5, "queue": "sweeps"},
    },
    "billing-dunning": {
        "task": "billing.tasks.remind_of_invoices",
        "schedule": 15.0,
        "options": {"expires": 15, "queue": "sweeps"},
    },
    "billing-forget-budget-spends": {
        "task": "billing.tasks.forget_budget_spends",
        "schedule": 300.0,
        "options": {"expires": 300, "queue": "sweeps"},
    },
    "billing-forget-webhooks": {
        "task": "billing.tasks.forget_webhooks",
        "schedule": 300.0,
        "options": {"expires": 300, "queue": "sweeps"},
    },
}
