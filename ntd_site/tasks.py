"""Background tasks of the site itself."""

from __future__ import annotations

from celery import shared_task
from django.utils import timezone

from ntd_site import heartbeats, idempotency


@shared_task
def mark_alive() -> None:
    """Proves that the schedule reaches a worker; /health reads it."""
    heartbeats.beat("workers")


@shared_task
def forget_idempotency_records() -> None:
    idempotency.sweep(now=timezone.now())
