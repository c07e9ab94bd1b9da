"""Background tasks of the site itself."""

from __future__ import annotations

import logging
import time

from celery import current_app, shared_task
from django.core.cache import cache
from django.utils import timezone

from ntd_site import api_calls, heartbeats, idempotency, schedules

LAST_ROUND = "sweeps:last-round"
log = logging.getLogger(__name__)


@shared_task
def mark_alive() -> None:
    """Proves that the schedule reaches a worker; /health reads it."""
    heartbeats.beat("workers")


@shared_task
def sweep(*, tasks: dict[str, float]) -> None:
    """The sweeps that are due of those given with their paces, one after the other.

    One that fails is logged and the others still run. Two rounds at once may run one twice, which harms none.
    """
    now = time.time()
    before = cache.get(LAST_ROUND, 0.0)
    cache.set(LAST_ROUND, now, None)
    for name in schedules.due(tasks, before=before, now=now):
        try:
            current_app.tasks[name]()
        except Exception:  # noqa: BLE001 - a sweep of one app must not keep those of the others from running
            log.exception("the sweep %s failed", name)


@shared_task
def charge_api_calls() -> None:
    api_calls.sweep(now=timezone.now())


@shared_task
def forget_idempotency_records() -> None:
    idempotency.sweep(now=timezone.now())
