"""Tasks and their attempts.

    queued -> assigned -> running -> succeeded | failed
       ^----------'----------'         (a retryable failure, a lapsed lease or a lost agent; then dead)
    any of the first three -> expired | cancelled;  queued -> dead

A queued task may be waiting for others (`dependencies`); until they have succeeded it is not due.

Each assignment raises the task's epoch. Whatever an agent writes carries the epoch it was given, so of two
agents that believe in one task only the newer has effect.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q
from django.utils import timezone
from uuid_utils.compat import uuid7

from federation.assignment import STRATEGIES
from federation.models.federations import Agent, Federation
from sandboxes.models import Execution


class TaskQuerySet(models.QuerySet["Task"]):
    def visible_to(self, principal: Any) -> TaskQuerySet:
        return self.filter(federation__in=Federation.objects.visible_to(principal))

    def editable_by(self, principal: Any) -> TaskQuerySet:
        return self.filter(federation__in=Federation.objects.editable_by(principal))

    def live(self) -> TaskQuerySet:
        return self.filter(state__in=Task.LIVE)

    def queued(self) -> TaskQuerySet:
        return self.filter(state=Task.State.QUEUED)

    def due(self, now: datetime) -> TaskQuerySet:
        """Queued, needing nothing that is still to come, and not held back after a failure."""
        return self.queued().filter(not_before__lte=now, is_waiting=False)

    def waiting(self) -> TaskQuerySet:
        """Queued until others have succeeded."""
        return self.queued().filter(is_waiting=True)

    def overdue(self, now: datetime) -> TaskQuerySet:
        return self.live().filter(deadline__lte=now)

    def backtests(self) -> TaskQuerySet:
        return self.filter(type__in=("backtest", "strategy"))

    def light(self) -> TaskQuerySet:
        """Without the two fields that may be large."""
        return self.defer("payload", "result")


class Task(models.Model):
    """A unit of work given to a federation."""

    class State(models.TextChoices):
        QUEUED = "queued"
        ASSIGNED = "assigned"
        RUNNING = "running"
        SUCCEEDED = "succeeded"
        FAILED = "failed"
        EXPIRED = "expired"
        CANCELLED = "cancelled"
        DEAD = "dead"

    LIVE = (State.QUEUED, State.ASSIGNED, State.RUNNING)
    HELD = (State.ASSIGNED, State.RUNNING)
    # What ended without a result, and can begin afresh.
    RETRYABLE = (State.FAILED, State.EXPIRED, State.CANCELLED, State.DEAD)

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    federation = models.ForeignKey(Federation, on_delete=models.CASCADE, related_name="tasks")
    type = models.CharField(max_length=60)
    label = models.CharField(max_length=160, blank=True)
    payload = models.JSONField(default=dict, blank=True)
    priority = models.PositiveSmallIntegerField(default=5)
    required_capabilities = ArrayField(models.CharField(max_length=60), default=list, blank=True)
    deadline = models.DateTimeField(null=True, blank=True)
    max_attempts = models.PositiveSmallIntegerField(default=3)
    strategy = models.CharField(max_length=16, blank=True)
    state = models.CharField(max_length=10, choices=State.choices, default=State.QUEUED)
    reason = models.CharField(max_length=500, blank=True)
    assigned_to = models.ForeignKey(Agent, on_delete=models.RESTRICT, null=True, blank=True, related_name="+")
    epoch = models.PositiveIntegerField(default=0)
    # Attempts that count towards max_attempts: not those that could not start for lack of credits.
    tries = models.PositiveSmallIntegerField(default=0)
    not_before = models.DateTimeField()
    is_waiting = models.BooleanField(default=False)
    # The task whose bad end ended this one, which needed it.
    stopped_by = models.ForeignKey("self", on_delete=models.SET_NULL, null=True, blank=True, related_name="+")
    progress = models.FloatField(null=True, blank=True)
    progress_note = models.CharField(max_length=200, blank=True)
    result = models.JSONField(null=True, blank=True)
    error = models.TextField(blank=True)
    created_by = models.CharField(max_length=120, blank=True)
    # The API key that asked for it, if one did: what it uses is recorded for that key.
    api_key = models.UUIDField(null=True, blank=True)
    created_at = models.DateTimeField(default=timezone.now)
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)

    objects = TaskQuerySet.as_manager()

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(
                    state__in=[
                        "queued",
                        "assigned",
                        "running",
                        "succeeded",
                        "failed",
                        "expired",
                        "cancelled",
                        "dead",
                    ]
                ),
                name="task_state",
            ),
            models.CheckConstraint(condition=Q(priority__lte=9), name="task_priority"),
            models.CheckConstraint(condition=Q(max_attempts__gte=1, max_attempts__lte=100), name="task_max_attempts"),
            models.CheckConstraint(condition=Q(strategy__in=["", *STRATEGIES]), name="task_strategy"),
            models.CheckConstraint(
                condition=Q(progress=None) | Q(progress__gte=0, progress__lte=1), name="task_progress_is_a_share"
            ),
            models.CheckConstraint(
                condition=Q(state__in=["assigned", "running"], assigned_to__isnull=False)
                | ~Q(state__in=["assigned", "running"]),
                name="a_held_task_has_an_agent",
            ),
            models.CheckConstraint(
                condition=Q(state__in=["queued", "assigned", "running"], finished_at=None)
                | (~Q(state__in=["queued", "assigned", "running"]) & Q(finished_at__isnull=False)),
                name="a_task_is_finished_or_live",
            ),
            models.CheckConstraint(condition=Q(is_waiting=False) | Q(state="queued"), name="only_queued_tasks_wait"),
        ]
        indexes = [
            models.Index(fields=["federation", "-created_at", "-id"], name="tasks_newest_first"),
            models.Index(fields=["federation", "not_before"], condition=Q(state="queued"), name="tasks_queued"),
            models.Index(
                fields=["deadline"],
                condition=Q(state__in=["queued", "assigned", "running"], deadline__isnull=False),
                name="tasks_by_deadline",
            ),
            models.Index(fields=["federation", "state"], name="tasks_by_state"),
            models.Index(fields=["federation"], condition=Q(is_waiting=True), name="tasks_waiting"),
        ]

    def __str__(self) -> str:
        return self.label or self.type

    @property
    def is_live(self) -> bool:
        return self.state in self.LIVE

    @property
    def can_be_retried(self) -> bool:
        return self.state in self.RETRYABLE

    @property
    def is_backtest(self) -> bool:
        return self.type in ("backtest", "strategy")


class AttemptQuerySet(models.QuerySet["Attempt"]):
    def live(self) -> AttemptQuerySet:
        return self.filter(state__in=Attempt.LIVE)

    def lapsed(self, now: datetime) -> AttemptQuerySet:
        return self.live().filter(lease_expires_at__lte=now)

    def unsupervised(self) -> AttemptQuerySet:
        """All but those that live as long as their executions do."""
        called = Q(agent__runtime=Agent.Runtime.MCP, execution=None)
        return self.filter(Q(agent__runtime=Agent.Runtime.REMOTE) | called)

    def unmetered(self) -> AttemptQuerySet:
        """Ended after having run, and not yet charged for."""
        return self.filter(metered_at=None, started_at__isnull=False, ended_at__isnull=False)


class Attempt(models.Model):
    """A task on an agent, for as long as its lease lasts."""

    class State(models.TextChoices):
        ASSIGNED = "assigned"
        RUNNING = "running"
        SUCCEEDED = "succeeded"
        FAILED = "failed"
        LAPSED = "lapsed"  # the lease ended, or the agent was lost or left
        REFUSED = "refused"  # could not start (no credits, no sandbox); counts for nothing
        CANCELLED = "cancelled"
        EXPIRED = "expired"

    LIVE = (State.ASSIGNED, State.RUNNING)

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    task = models.ForeignKey(Task, on_delete=models.CASCADE, related_name="attempts")
    agent = models.ForeignKey(Agent, on_delete=models.CASCADE, related_name="attempts")
    epoch = models.PositiveIntegerField()
    # A managed agent's attempt is an execution.
    execution = models.OneToOneField(
        Execution, on_delete=models.SET_NULL, null=True, blank=True, related_name="federation_attempt"
    )
    state = models.CharField(max_length=10, choices=State.choices, default=State.ASSIGNED)
    lease_expires_at = models.DateTimeField()
    assigned_at = models.DateTimeField()
    started_at = models.DateTimeField(null=True, blank=True)
    ended_at = models.DateTimeField(null=True, blank=True)
    error = models.TextField(blank=True)
    # What the agent said in the end, to answer the same words the same way and to keep what came too late.
    answer = models.JSONField(null=True, blank=True)
    is_late = models.BooleanField(default=False)
    metered_at = models.DateTimeField(null=True, blank=True)
    cost_ucr = models.BigIntegerField(default=0)

    objects = AttemptQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["task", "epoch"], name="one_attempt_per_epoch"),
            models.UniqueConstraint(
                fields=["task"], condition=Q(state__in=["assigned", "running"]), name="one_live_attempt_per_task"
            ),
            models.CheckConstraint(
                condition=Q(
                    state__in=[
                        "assigned",
                        "running",
                        "succeeded",
                        "failed",
                        "lapsed",
                        "refused",
                        "cancelled",
                        "expired",
                    ]
                ),
                name="attempt_state",
            ),
            models.CheckConstraint(
                condition=Q(state__in=["assigned", "running"], ended_at=None)
                | (~Q(state__in=["assigned", "running"]) & Q(ended_at__isnull=False)),
                name="an_attempt_is_ended_or_live",
            ),
            models.CheckConstraint(condition=Q(cost_ucr__gte=0), name="attempt_cost_is_not_negative"),
        ]
        indexes = [
            models.Index(
                fields=["agent", "lease_expires_at"],
                condition=Q(state__in=["assigned", "running"]),
                name="attempts_live",
            ),
            models.Index(fields=["assigned_at"], name="attempts_by_time"),
            models.Index(
                fields=["ended_at"],
                condition=Q(metered_at=None, started_at__isnull=False, ended_at__isnull=False),
                name="attempts_unmetered",
            ),
        ]

    def __str__(self) -> str:
        return f"attempt {self.epoch} of {self.task_id}"

    @property
    def busy_seconds(self) -> float:
        if self.started_at is None or self.ended_at is None:
            return 0.0
        return max((self.ended_at - self.started_at).total_seconds(), 0.0)

    @property
    def full_cost_ucr(self) -> int:
        """The agent's time and the execution."""
        return self.cost_ucr + (self.execution.cost_ucr if self.execution else 0)
