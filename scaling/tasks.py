"""Background tasks: a call each."""

from __future__ import annotations

import time

from celery import shared_task
from django.utils import timezone

from scaling import autoscaler, nodes, picks


@shared_task(ignore_result=True)
def sweep_nodes() -> None:
    nodes.sweep(now=timezone.now(), real_seconds=time.time())


@shared_task(ignore_result=True)
def evaluate_groups() -> None:
    autoscaler.evaluate_all(now=timezone.now())


@shared_task(ignore_result=True)
def prune() -> None:
    now = timezone.now()
    nodes.prune(now=now)
    autoscaler.prune(now=now)
    picks.prune(now=now)
