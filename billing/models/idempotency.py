"""What a POST with an `Idempotency-Key` answered, so that its repeat answers the same."""

from __future__ import annotations

from django.db import models
from django.db.models import Q
from uuid_utils.compat import uuid7


class IdempotencyRecord(models.Model):
    """One key in one scope (account, method and path): taken while the request runs, then its answer."""

    class State(models.TextChoices):
        RUNNING = "running"
        ANSWERED = "answered"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    # SHA-256 of scope, method, path and key: paths may be longer than an index row.
    address = models.CharField(max_length=64, unique=True)
    path = models.TextField()
    request_hash = models.CharField(max_length=64)
    state = models.CharField(max_length=10, choices=State.choices, default=State.RUNNING)
    # Who runs it now. After `leased_until` a repeat may take over; the former runner then stores nothing.
    runner = models.UUIDField(default=uuid7)
    leased_until = models.DateTimeField()
    status = models.PositiveSmallIntegerField(null=True)
    content_type = models.CharField(max_length=80, blank=True)
    headers = models.JSONField(default=dict)
    body = models.BinaryField(null=True)
    created_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(state="running", status=None, body=None)
                | Q(state="answered", status__isnull=False, body__isnull=False),
                name="idempotency_answer_iff_answered",
            )
        ]
        indexes = [models.Index(fields=["created_at"], name="idempotency_by_age")]

    def __str__(self) -> str:
        return f"{self.state} {self.path}"
