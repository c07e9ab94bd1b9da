"""The code of managed agents for tasks of their customers' own types, one row for each version."""

from __future__ import annotations

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q
from django.utils import timezone
from uuid_utils.compat import uuid7

from federation import workloads
from federation.models.federations import Agent


class Handler(models.Model):
    """A version of an agent's handler; the agent's `handler` is the one in force. Never changed."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    agent = models.ForeignKey(Agent, on_delete=models.CASCADE, related_name="handlers")
    version = models.PositiveIntegerField()
    code = models.TextField()
    template = models.CharField(max_length=80, default="python")
    types = ArrayField(models.CharField(max_length=60), default=list, blank=True)
    timeout_seconds = models.FloatField(default=60)
    limits = models.JSONField(default=dict, blank=True)
    network = models.BooleanField(default=False)
    # Whether its code has an `on_message`: then its agent reads its inbox.
    reads_messages = models.BooleanField(default=False)
    created_by = models.CharField(max_length=120, blank=True)
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["agent", "version"], name="one_handler_per_version"),
            models.CheckConstraint(condition=Q(version__gte=1), name="handler_version"),
            models.CheckConstraint(
                condition=Q(timeout_seconds__gte=1, timeout_seconds__lte=3600), name="handler_timeout"
            ),
        ]

    def __str__(self) -> str:
        return f"handler {self.version} of {self.agent_id}"

    def as_work(self) -> workloads.Handler:
        return workloads.Handler(
            code=self.code,
            template=self.template,
            types=tuple(self.types),
            timeout_seconds=self.timeout_seconds,
            limits=self.limits,
            network=self.network,
        )
