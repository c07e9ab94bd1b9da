"""The history of messages, and what could not be delivered or done. Inboxes themselves are in Redis (`bus`)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from django.db import models
from django.db.models import Q
from django.db.models.functions import Cast
from uuid_utils.compat import uuid7

from federation.models.federations import Agent, Federation
from federation.models.tasks import Task

MESSAGE_TYPES = (
    "task_assignment",
    "task_result",
    "heartbeat",
    "registration",
    "deregistration",
    "consensus_request",
    "consensus_vote",
    "data_sync",
    "error",
    "custom",
)
OUTCOMES = ("queued", "delivered", "expired", "dead", "late_reply")


class MessageQuerySet(models.QuerySet["Message"]):
    def visible_to(self, principal: Any) -> MessageQuerySet:
        return self.filter(federation__in=Federation.objects.visible_to(principal))

    def in_outcome(self, outcome: str) -> MessageQuerySet:
        """Those of which `Message.outcome` says this."""
        if outcome == "late_reply":
            return self.filter(late_reply=True)
        ended = models.F("delivered") + models.F("expired") + models.F("dead")
        if outcome == "queued":
            return self.filter(recipients__gt=ended)
        rows = self.filter(late_reply=False, recipients=ended)
        if outcome == "dead":
            return rows.filter(dead__gt=0)
        return rows.filter(dead=0, **{"expired__gt" if outcome == "expired" else "expired": 0})

    def of_agents(self, ids: Sequence[UUID]) -> MessageQuerySet:
        """Those one of them sent or that were for one alone."""
        return self.filter(Q(sender__in=ids) | Q(recipient__in=ids))

    def saying(self, text: str) -> MessageQuerySet:
        """Those with this in their payload or correlation id."""
        said = Cast("payload", models.TextField())
        return self.alias(said=said).filter(Q(said__icontains=text) | Q(correlation_id__icontains=text))


class Message(models.Model):
    """A message that was accepted. `sender` and `recipient` are agents' ids; no recipient is a broadcast."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    # Its index would only cost: the one below begins with the federation too. Triggers look for the federation once a
    # statement, which a foreign key does once a row.
    federation = models.ForeignKey(
        Federation, on_delete=models.CASCADE, related_name="messages", db_index=False, db_constraint=False
    )
    sender = models.UUIDField()
    recipient = models.UUIDField(null=True, blank=True)
    type = models.CharField(max_length=20)
    payload = models.JSONField(null=True, blank=True)
    priority = models.PositiveSmallIntegerField(default=5)
    ttl_seconds = models.PositiveIntegerField(default=300)
    correlation_id = models.CharField(max_length=200, blank=True)
    path = models.JSONField(default=list)
    hops = models.PositiveIntegerField(default=0)
    topology_version = models.PositiveIntegerField(default=0)
    recipients = models.PositiveIntegerField()
    delivered = models.PositiveIntegerField(default=0)
    expired = models.PositiveIntegerField(default=0)
    dead = models.PositiveIntegerField(default=0)
    # A reply that came after its request's time: it counts as expired.
    late_reply = models.BooleanField(default=False)
    created_at = models.DateTimeField()

    objects = MessageQuerySet.as_manager()

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(type__in=MESSAGE_TYPES), name="message_type"),
            models.CheckConstraint(condition=Q(priority__lte=9), name="message_priority"),
            models.CheckConstraint(
                condition=Q(recipients__gte=models.F("delivered") + models.F("expired") + models.F("dead")),
                name="message_ends_once_per_recipient",
            ),
        ]
        indexes = [models.Index(fields=["federation", "-created_at", "-id"], name="messages_newest_first")]

    def __str__(self) -> str:
        return f"{self.type} {self.pk}"

    @property
    def is_broadcast(self) -> bool:
        return self.recipient is None

    @property
    def outcome(self) -> str:
        """One word for a list, of OUTCOMES: what became of it so far. `in_outcome` says the same in SQL."""
        if self.late_reply:
            return "late_reply"
        if self.delivered + self.expired + self.dead < self.recipients:
            return "queued"
        if self.dead or self.expired:
            return "dead" if self.dead else "expired"
        return "delivered"

    @property
    def payload_text(self) -> str:
        return "" if self.payload is None else json.dumps(self.payload, ensure_ascii=False)

    def as_sent(self) -> dict[str, Any]:
        """What a dead letter keeps of it, to read and to send again."""
        names = ("type", "payload", "priority", "ttl_seconds", "correlation_id", "path", "hops", "recipients")
        said = {name: getattr(self, name) for name in (*names, "topology_version")}
        to = str(self.recipient) if self.recipient else None
        sent = {"id": str(self.pk), "from": str(self.sender), "to": to, "created_at": self.created_at.isoformat()}
        return {**sent, **said}


class DeadLetterQuerySet(models.QuerySet["DeadLetter"]):
    def visible_to(self, principal: Any) -> DeadLetterQuerySet:
        return self.filter(federation__in=Federation.objects.visible_to(principal))

    def editable_by(self, principal: Any) -> DeadLetterQuerySet:
        return self.filter(federation__in=Federation.objects.editable_by(principal))


class DeadLetter(models.Model):
    """A message that reached nobody, or a task that no attempt could finish, with the reason."""

    class Reason(models.TextChoices):
        EXPIRED = "expired"
        FULL = "full"
        LOOP = "loop"
        HOPS = "hops"
        ATTEMPTS = "attempts"
        UNDELIVERABLE = "undeliverable"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    federation = models.ForeignKey(Federation, on_delete=models.CASCADE, related_name="dead_letters")
    task = models.ForeignKey(Task, on_delete=models.CASCADE, null=True, blank=True, related_name="+")
    message = models.JSONField(null=True, blank=True)
    agent = models.ForeignKey(Agent, on_delete=models.SET_NULL, null=True, blank=True, related_name="+")
    reason = models.CharField(max_length=14, choices=Reason.choices)
    # What was said when it was tried the last time, of a message that no program could work off.
    error = models.TextField(blank=True)
    created_at = models.DateTimeField()
    replayed_at = models.DateTimeField(null=True, blank=True)

    objects = DeadLetterQuerySet.as_manager()

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(reason__in=["expired", "full", "loop", "hops", "attempts", "undeliverable"]),
                name="dead_letter_reason",
            ),
            models.CheckConstraint(
                condition=Q(task=None, message__isnull=False) | Q(task__isnull=False, message=None),
                name="a_dead_letter_is_a_task_or_a_message",
            ),
        ]
        indexes = [models.Index(fields=["federation", "-created_at", "-id"], name="dead_letters_newest_first")]

    def __str__(self) -> str:
        return f"{self.kind}: {self.reason}"

    @property
    def payload_text(self) -> str:
        payload = (self.message or {}).get("payload")
        return "" if payload is None else json.dumps(payload, ensure_ascii=False)

    @property
    def kind(self) -> str:
        return "task" if self.task_id else "message"


class BusCursor(models.Model):
    """How far the bus's history is in the database: moved in the transaction that writes the rows."""

    name = models.CharField(max_length=40, primary_key=True)
    last_id = models.CharField(max_length=40)

    def __str__(self) -> str:
        return f"{self.name} {self.last_id}"
