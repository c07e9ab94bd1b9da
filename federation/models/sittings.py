"""Managed agents at their mail: some messages of an inbox, given to the handler's `on_message` in one execution."""

from __future__ import annotations

from django.db import models
from django.db.models import F, Q
from uuid_utils.compat import uuid7

from federation.models.federations import Agent
from federation.models.handlers import Handler
from sandboxes.models import Execution


class SittingQuerySet(models.QuerySet["Sitting"]):
    def live(self) -> SittingQuerySet:
        return self.filter(ended_at=None)

    def unmetered(self) -> SittingQuerySet:
        """Ended, and not yet charged for."""
        return self.filter(metered_at=None, ended_at__isnull=False)


class Sitting(models.Model):
    """An agent has one at a time. What it did not work off waits in the inbox again."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    agent = models.ForeignKey(Agent, on_delete=models.CASCADE, related_name="sittings")
    handler = models.ForeignKey(Handler, on_delete=models.CASCADE, related_name="+")
    execution = models.OneToOneField(
        Execution, on_delete=models.SET_NULL, null=True, blank=True, related_name="federation_sitting"
    )
    # While it lasts, what must be known of each message to settle it: no payloads.
    messages = models.JSONField(default=list, blank=True)
    taken = models.PositiveSmallIntegerField(default=0)
    done = models.PositiveSmallIntegerField(default=0)
    failed = models.PositiveSmallIntegerField(default=0)
    # What went wrong first.
    error = models.TextField(blank=True)
    started_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True, blank=True)
    metered_at = models.DateTimeField(null=True, blank=True)
    cost_ucr = models.BigIntegerField(default=0)

    objects = SittingQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["agent"], condition=Q(ended_at=None), name="one_live_sitting_per_agent"),
            models.CheckConstraint(
                condition=Q(taken__gte=F("done") + F("failed")), name="a_sitting_settles_what_it_took"
            ),
            models.CheckConstraint(condition=Q(cost_ucr__gte=0), name="sitting_cost_is_not_negative"),
        ]
        indexes = [
            models.Index(fields=["agent", "-started_at"], name="sittings_newest_first"),
            models.Index(
                fields=["ended_at"], condition=Q(metered_at=None, ended_at__isnull=False), name="sittings_unmetered"
            ),
        ]

    def __str__(self) -> str:
        return f"sitting of {self.agent_id} with {self.taken} messages"

    @property
    def busy_seconds(self) -> float:
        return max((self.ended_at - self.started_at).total_seconds(), 0.0) if self.ended_at else 0.0
