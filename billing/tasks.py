"""Background tasks: the sweeps that let time pass in the ledger."""

from __future__ import annotations

from celery import shared_task
from django.utils import timezone

from billing import ledger


@shared_task
def expire_holds() -> None:
    ledger.expire_holds(now=timezone.now())


@shared_task
def expire_grants() -> None:
    ledger.expire_grants(now=timezone.now())
