"""Builds: what templates start from, one for each content, whoever asked for it."""

from __future__ import annotations

from datetime import datetime

from django.db import models
from django.db.models import Q
from django.utils import timezone
from uuid_utils.compat import uuid7

MOST_ATTEMPTS = 3


class Language(models.TextChoices):
    PYTHON = "python", "Python"
    NODE = "node", "Node"


class BuildQuerySet(models.QuerySet["Build"]):
    def claimable(self, now: datetime) -> BuildQuerySet:
        """Waiting, or left behind by a worker whose lease is over."""
        return self.filter(Q(lease_expires_at=None) | Q(lease_expires_at__lt=now), state=Build.State.BUILDING)


class Build(models.Model):
    """Packages of a language, built once under their `address`; every node that needs them installs the same `lock`.

    While it is building a lease says whose it is; a lease without `claimed_by` is a wait before the next attempt.
    """

    class State(models.TextChoices):
        BUILDING = "building"
        READY = "ready"
        FAILED = "failed"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    address = models.CharField(max_length=80, unique=True)
    language = models.CharField(max_length=10, choices=Language.choices)
    packages = models.JSONField(default=list)
    state = models.CharField(max_length=10, choices=State.choices, default=State.BUILDING)
    log = models.TextField(blank=True)
    error = models.TextField(blank=True)
    lock = models.TextField(blank=True)
    size_bytes = models.BigIntegerField(null=True, blank=True)
    attempt = models.PositiveSmallIntegerField(default=0)
    claimed_by = models.CharField(max_length=80, blank=True)
    node = models.CharField(max_length=120, blank=True)
    lease_expires_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(default=timezone.now)
    finished_at = models.DateTimeField(null=True, blank=True)

    objects = BuildQuerySet.as_manager()

    class Meta:
        indexes = [models.Index(fields=["created_at", "id"], condition=Q(state="building"), name="build_waiting")]
        constraints = [
            models.CheckConstraint(condition=Q(language__in=Language.values), name="build_language"),
            models.CheckConstraint(condition=Q(state__in=["building", "ready", "failed"]), name="build_state"),
            models.CheckConstraint(condition=Q(attempt__gte=0, attempt__lte=MOST_ATTEMPTS), name="build_attempts"),
            models.CheckConstraint(
                condition=Q(state="building") | Q(lease_expires_at=None, finished_at__isnull=False),
                name="build_final_has_an_end_and_no_lease",
            ),
            models.CheckConstraint(
                condition=~Q(state="ready") | Q(size_bytes__isnull=False, error=""), name="build_ready_has_a_size"
            ),
            models.CheckConstraint(condition=~Q(state="failed") | ~Q(error=""), name="build_failed_says_why"),
        ]

    def __str__(self) -> str:
        return self.address

    @property
    def is_claimed(self) -> bool:
        return bool(self.claimed_by) and self.lease_expires_at is not None
