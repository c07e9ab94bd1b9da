"""Background tasks of the site itself."""

from __future__ import annotations

import logging

from celery import current_app, shared_task
from django.utils import timezone

from ntd_site import heartbeats, idempotency

log = logging.getLogger(__name__)


@shared_task
def mark_alive() -> None:
    """Proves that the schedule reaches a worker; /health reads it."""
    heartbeats.beat("workers")


@shared_task
def sweep(*, tasks: list[str]) -> None:
    """Sweeps of one pace, one after the other; one that fails is logged and the others still run."""
    for name in tasks:
        try:
            current_app.tasks[name]()
        except Exception:  # noqa: BLE001 - a sweep of one app must not keep those of the others from running
            log.exception("the sweep %s failed", name)


@shared_task
def forget_idempotency_records() -> None:
    idempotency.sweep(now=timezone.now())
