"""The books of the simulated gateway: another company's, so to speak. Only gateways/simulated_remote.py touches them.

Nothing here points to a row of ours; what the two sides know of each other went over the wire.
"""

from __future__ import annotations

from django.db import models
from django.db.models import F, Q
from uuid_utils.compat import uuid7


class SimulatedPayment(models.Model):
    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    ref = models.CharField(max_length=60, unique=True)
    # The caller's idempotency key, and what it stood for.
    key = models.CharField(max_length=300, unique=True)
    request_hash = models.CharField(max_length=64)
    reference = models.CharField(max_length=200)
    method = models.CharField(max_length=40)
    state = models.CharField(max_length=16)
    amount = models.BigIntegerField()
    currency = models.CharField(max_length=3)
    captured = models.BigIntegerField(default=0)
    refunded = models.BigIntegerField(default=0)
    return_url = models.CharField(max_length=2000, blank=True)
    wants_capture = models.BooleanField(default=True)
    created_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(refunded__gte=0, captured__gte=F("refunded"), amount__gte=F("captured")),
                name="simulated_money_adds_up",
            )
        ]

    def __str__(self) -> str:
        return self.ref


class SimulatedRefund(models.Model):
    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    ref = models.CharField(max_length=60, unique=True)
    key = models.CharField(max_length=300, unique=True)
    request_hash = models.CharField(max_length=64)
    payment = models.ForeignKey(SimulatedPayment, on_delete=models.PROTECT, related_name="refunds")
    amount = models.BigIntegerField()
    created_at = models.DateTimeField()

    def __str__(self) -> str:
        return self.ref


class SimulatedDispute(models.Model):
    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    ref = models.CharField(max_length=100, unique=True)
    payment = models.ForeignKey(SimulatedPayment, on_delete=models.PROTECT, related_name="disputes")
    state = models.CharField(max_length=12)
    amount = models.BigIntegerField()
    due_at = models.DateTimeField()
    # What was handed in, and the key it came with.
    evidence_hash = models.CharField(max_length=64, blank=True)

    def __str__(self) -> str:
        return self.ref


class SimulatedEvent(models.Model):
    """A webhook the gateway has yet to send, or has sent. `copies` of it arrive; the order is that of the ids."""

    id = models.BigAutoField(primary_key=True)
    body = models.JSONField()
    copies = models.PositiveSmallIntegerField(default=1)
    created_at = models.DateTimeField()
    sent_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        indexes = [models.Index(fields=["id"], condition=Q(sent_at=None), name="simulated_event_to_send")]

    def __str__(self) -> str:
        return str(self.body.get("type", "event"))
