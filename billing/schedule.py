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
    "billing-gateway-webhooks": {
        "task": "billing.tasks.retry_gateway_webhooks",
        "schedule": 10.0,
        "options": {"expires": 10, "queue": "sweeps"},
    },
    # Slower than the sweeps that share a message: a gateway that answers slowly keeps none of those waiting.
    "billing-ask-gateways": {
        "task": "billing.tasks.ask_gateways",
        "schedule": 6.0,
        "options": {"expires": 6, "queue": "sweeps"},
    },
    "billing-auto-top-ups": {
        "task": "billing.tasks.top_up_by_themselves",
        "schedule": 10.0,
        "options": {"expires": 10, "queue": "sweeps"},
    },
}
