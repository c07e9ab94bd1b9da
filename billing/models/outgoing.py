"""Webhooks to customers: where they go, what there is to tell (the outbox), and how telling it went."""

from __future__ import annotations

from datetime import datetime

from django.db import models
from django.db.models import Q
from uuid_utils.compat import uuid7

from billing.models.customers import Account
from billing.models.ledger import OfAccount

EVERYTHING = "*"


class EndpointQuerySet(OfAccount):
    def wanting(self, account_id: object, type: str) -> EndpointQuerySet:
        """Those that want to hear of it, also while they are off. What no account owns is the operators'."""
        mine = Q(is_operator=True) if account_id is None else Q(account=account_id)
        return self.filter(mine, Q(events__contains=[type]) | Q(events__contains=[EVERYTHING]))


class WebhookEndpoint(models.Model):
    """An address of a customer's that is told of events. Its secrets sign, so they are kept as they are."""

    class Off(models.TextChoices):
        """Why nothing is sent to it."""

        ON = "", "On"
        OWNER = "owner", "Switched off"
        FAILING = "failing", "Failed for days"
        GONE = "gone", "Answered that it is gone"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    account = models.ForeignKey(Account, on_delete=models.CASCADE, related_name="webhook_endpoints")
    url = models.CharField(max_length=2000)
    description = models.CharField(max_length=200, blank=True)
    # Types of events, or "*" for all.
    events = models.JSONField(default=list)
    # Made by staff in their own account: it hears of the machines too, which belong to no account.
    is_operator = models.BooleanField(default=False)
    secret = models.CharField(max_length=100)
    # While one secret replaces another, both sign.
    old_secret = models.CharField(max_length=100, blank=True)
    old_secret_until = models.DateTimeField(null=True, blank=True)
    off = models.CharField(max_length=10, choices=Off.choices, blank=True, default=Off.ON)
    off_at = models.DateTimeField(null=True, blank=True)
    # Since when every attempt failed.
    failing_since = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField()

    objects = EndpointQuerySet.as_manager()

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(off__in=["", "owner", "failing", "gone"]), name="endpoint_off"),
            models.CheckConstraint(
                condition=Q(off="", off_at=None) | (~Q(off="") & Q(off_at__isnull=False)),
                name="endpoint_off_has_a_time",
            ),
            models.CheckConstraint(
                condition=Q(old_secret="", old_secret_until=None)
                | (~Q(old_secret="") & Q(old_secret_until__isnull=False)),
                name="endpoint_old_secret_ends",
            ),
        ]

    def __str__(self) -> str:
        return self.url

    @property
    def is_on(self) -> bool:
        return not self.off

    @property
    def hint(self) -> str:
        return f"whsec_…{self.secret[-4:]}"

    def secrets(self, now: datetime) -> list[str]:
        """What signs now, the newest first."""
        overlaps = self.old_secret_until is not None and now < self.old_secret_until
        return [self.secret, *([self.old_secret] if overlaps else [])]


class OutgoingEvent(models.Model):
    """One thing that happened, written in the transaction in which it did. Its id never changes, whoever hears it."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    # None is the operators'.
    account = models.ForeignKey(Account, on_delete=models.CASCADE, null=True, related_name="+", db_index=False)
    type = models.CharField(max_length=40)
    data = models.JSONField(default=dict)
    # What makes it the same event when it is told again; empty for what happens only once anyway.
    key = models.CharField(max_length=200, blank=True)
    created_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["account", "key"],
                condition=~Q(key=""),
                nulls_distinct=False,
                name="one_outgoing_event_per_key",
            )
        ]
        indexes = [
            models.Index(fields=["account", "created_at"], name="outgoing_event_of_account"),
            models.Index(fields=["created_at"], name="outgoing_event_oldest"),
        ]

    def __str__(self) -> str:
        return self.type

    @property
    def message_id(self) -> str:
        """What receivers know it by."""
        return f"evt_{self.pk.hex}"


class WebhookDelivery(models.Model):
    """An event on its way to one endpoint: pending -> delivered | failed. `due_at` is the queue, and the lease."""

    class State(models.TextChoices):
        PENDING = "pending"
        DELIVERED = "delivered"
        FAILED = "failed"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    event = models.ForeignKey(OutgoingEvent, on_delete=models.CASCADE, related_name="deliveries")
    endpoint = models.ForeignKey(WebhookEndpoint, on_delete=models.CASCADE, related_name="deliveries", db_index=False)
    state = models.CharField(max_length=10, choices=State.choices, default=State.PENDING)
    is_replay = models.BooleanField(default=False)
    attempts = models.PositiveSmallIntegerField(default=0)
    # When it is sent next. Whoever sends it moves this ahead first, so that a crash leaves it due again.
    due_at = models.DateTimeField(null=True, blank=True)
    status = models.PositiveSmallIntegerField(null=True, blank=True)
    error = models.CharField(max_length=300, blank=True)
    created_at = models.DateTimeField()
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(state="pending", due_at__isnull=False, finished_at=None)
                | Q(state__in=["delivered", "failed"], due_at=None, finished_at__isnull=False),
                name="delivery_is_due_or_finished",
            ),
            models.UniqueConstraint(
                fields=["event", "endpoint"], condition=Q(state="pending"), name="one_pending_delivery"
            ),
        ]
        indexes = [
            models.Index(fields=["endpoint", "due_at"], condition=Q(state="pending"), name="delivery_due"),
            models.Index(fields=["endpoint", "-created_at", "-id"], name="delivery_newest"),
        ]

    def __str__(self) -> str:
        return f"{self.event} to {self.endpoint} ({self.state})"

    @property
    def attempts_in_order(self) -> models.QuerySet[WebhookAttempt]:
        return self.log.order_by("number", "pk")


class WebhookAttempt(models.Model):
    """One request, and what came back. Without a status no answer came, and `error` says why."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    delivery = models.ForeignKey(WebhookDelivery, on_delete=models.CASCADE, related_name="log")
    number = models.PositiveSmallIntegerField()
    status = models.PositiveSmallIntegerField(null=True, blank=True)
    duration_ms = models.PositiveIntegerField()
    # The beginning of the answer's body.
    excerpt = models.CharField(max_length=1000, blank=True)
    error = models.CharField(max_length=300, blank=True)
    created_at = models.DateTimeField()

    def __str__(self) -> str:
        return f"attempt {self.number}: {self.status or self.error}"
