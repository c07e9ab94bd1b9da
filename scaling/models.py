"""Nodes and their health, groups and their decisions, balancers and their picks. All of it is the operator's."""

from __future__ import annotations

from typing import Protocol

from django.core.validators import MaxValueValidator, MinValueValidator, RegexValidator
from django.db import models
from django.db.models import F, Q
from django.utils import timezone
from uuid_utils.compat import uuid7

from scaling import policy
from scaling.balancer import Strategy
from scaling.health import Status as HealthStatus

NAME = RegexValidator(r"^[A-Za-z0-9][A-Za-z0-9._-]*\Z", "Use letters, digits, dots, hyphens and underscores.")
STATUSES = [(status.value, status.value) for status in HealthStatus]
SHARES = ("cpu", "memory", "disk", "error_rate")


class Principal(Protocol):
    """Whom a request acts as. Machines belong to no account: staff and keys with `scaling:*` see them all."""

    is_staff: bool

    @property
    def is_authenticated(self) -> bool: ...
    def has_scope(self, scope: str) -> bool: ...


class OperatorsQuerySet(models.QuerySet):  # type: ignore[type-arg]
    def visible_to(self, principal: Principal) -> OperatorsQuerySet:
        allowed = principal.is_authenticated and (principal.is_staff or principal.has_scope("scaling:read"))
        return self if allowed else self.none()

    def editable_by(self, principal: Principal) -> OperatorsQuerySet:
        allowed = principal.is_authenticated and (principal.is_staff or principal.has_scope("scaling:write"))
        return self if allowed else self.none()


def _share(name: str) -> models.CheckConstraint:
    inside = Q(**{f"{name}__isnull": True}) | Q(**{f"{name}__gte": 0, f"{name}__lte": 1})
    return models.CheckConstraint(condition=inside, name=f"node_{name}_is_a_share")


class Node(models.Model):
    """A machine. `heard_at` is when its silence began: the last beat, moved on by late sweeps."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    name = models.CharField(max_length=120, unique=True, validators=[NAME])
    role = models.CharField(max_length=20, blank=True)
    region = models.CharField(max_length=40, blank=True)
    status = models.CharField(max_length=10, choices=STATUSES, default=HealthStatus.UNKNOWN)
    status_reason = models.CharField(max_length=300, blank=True)
    cpu = models.FloatField(null=True, blank=True)
    memory = models.FloatField(null=True, blank=True)
    disk = models.FloatField(null=True, blank=True)
    in_flight = models.PositiveIntegerField(null=True, blank=True)
    latency_ms = models.FloatField(null=True, blank=True)
    error_rate = models.FloatField(null=True, blank=True)
    weight = models.PositiveSmallIntegerField(default=1, validators=[MaxValueValidator(256)])
    draining = models.BooleanField(default=False)
    beat_seconds = models.FloatField(default=1.0, validators=[MinValueValidator(0.1), MaxValueValidator(3600)])
    observed_at = models.DateTimeField(null=True, blank=True)
    last_seen_at = models.DateTimeField(null=True, blank=True)
    heard_at = models.DateTimeField(null=True, blank=True)
    check_at = models.DateTimeField(null=True, blank=True)
    kept_at = models.DateTimeField(null=True, blank=True)
    worse = models.PositiveSmallIntegerField(default=0)
    better = models.PositiveSmallIntegerField(default=0)
    metadata = models.JSONField(default=dict, blank=True)
    token_digest = models.CharField(max_length=64, blank=True)
    created_at = models.DateTimeField(default=timezone.now)

    objects = OperatorsQuerySet.as_manager()

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(status__in=list(HealthStatus)), name="node_status"),
            *(_share(name) for name in SHARES),
            models.CheckConstraint(
                condition=Q(latency_ms__isnull=True) | Q(latency_ms__gte=0), name="node_latency_is_not_negative"
            ),
            models.CheckConstraint(condition=Q(beat_seconds__gt=0), name="node_beats"),
            models.CheckConstraint(condition=Q(weight__lte=256), name="node_weight_at_most_256"),
            models.CheckConstraint(
                condition=Q(last_seen_at__isnull=True, heard_at__isnull=True)
                | Q(last_seen_at__isnull=False, heard_at__isnull=False),
                name="node_seen_is_heard",
            ),
            models.CheckConstraint(
                condition=Q(status=HealthStatus.UNKNOWN) | Q(last_seen_at__isnull=False),
                name="node_with_a_status_was_seen",
            ),
            models.UniqueConstraint(fields=["token_digest"], condition=~Q(token_digest=""), name="one_node_per_token"),
        ]
        indexes = [models.Index(fields=["check_at"], condition=Q(check_at__isnull=False), name="node_check_at")]

    def __str__(self) -> str:
        return self.name


class HealthReport(models.Model):
    """What a node said, kept every few seconds for a day."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    node = models.ForeignKey(Node, on_delete=models.CASCADE, related_name="reports")
    at = models.DateTimeField()
    status = models.CharField(max_length=10, choices=STATUSES)
    cpu = models.FloatField(null=True)
    memory = models.FloatField(null=True)
    disk = models.FloatField(null=True)
    in_flight = models.PositiveIntegerField(null=True)
    latency_ms = models.FloatField(null=True)
    error_rate = models.FloatField(null=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["node", "at"], name="one_report_per_node_and_moment")]
        indexes = [models.Index(fields=["at"], name="report_at")]

    def __str__(self) -> str:
        return f"{self.node_id} at {self.at:%H:%M:%S}: {self.status}"


class StatusChange(models.Model):
    """A node's status became another one, and why."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    node = models.ForeignKey(Node, on_delete=models.CASCADE, related_name="changes")
    at = models.DateTimeField()
    before = models.CharField(max_length=10, choices=STATUSES)
    after = models.CharField(max_length=10, choices=STATUSES)
    reason = models.CharField(max_length=300)

    class Meta:
        constraints = [
            models.CheckConstraint(condition=~Q(before=F("after")), name="status_change_changes"),
            models.CheckConstraint(
                condition=Q(before__in=list(HealthStatus)) & Q(after__in=list(HealthStatus)),
                name="status_change_statuses",
            ),
        ]
        indexes = [models.Index(fields=["node", "-at"], name="status_change_of_node")]

    def __str__(self) -> str:
        return f"{self.before} -> {self.after}: {self.reason}"


class Lease(models.Model):
    """Who alone may do something until when; the epoch grows with every new holder, so a late one can be fenced."""

    name = models.CharField(max_length=120, primary_key=True)
    holder = models.CharField(max_length=120, blank=True)
    epoch = models.PositiveBigIntegerField(default=0)
    expires_at = models.DateTimeField()

    def __str__(self) -> str:
        return f"{self.name}: {self.holder} ({self.epoch})"


class SweepClock(models.Model):
    """When a sweep last ran, on the machine's own clock: how late a sweep is must not depend on the test clock."""

    name = models.CharField(max_length=40, primary_key=True)
    ran_at_seconds = models.FloatField()

    def __str__(self) -> str:
        return self.name


class Group(models.Model):
    """Things scaled together. `target_type` and `target_id` name what `targets` has been told how to drive."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    name = models.CharField(max_length=120, unique=True)
    target_type = models.CharField(max_length=40)
    target_id = models.CharField(max_length=120, blank=True)
    policy_type = models.CharField(
        max_length=20, choices=[(kind.value, kind.value) for kind in policy.Kind], default=policy.Kind.TARGET_TRACKING
    )
    min_size = models.PositiveIntegerField(default=2)
    max_size = models.PositiveIntegerField(default=20)
    scale_up_cpu_threshold = models.FloatField(default=0.75)
    scale_down_cpu_threshold = models.FloatField(default=0.25)
    scale_up_memory_threshold = models.FloatField(default=0.75)
    scale_down_memory_threshold = models.FloatField(default=0.25)
    target_utilisation = models.FloatField(default=0.7)
    target_backlog_seconds = models.FloatField(default=30)
    tolerance = models.FloatField(default=0.1)
    cooldown_seconds = models.FloatField(default=300)
    violations = models.PositiveSmallIntegerField(default=3)
    up_window_seconds = models.FloatField(default=0)
    down_window_seconds = models.FloatField(default=300)
    step = models.PositiveIntegerField(null=True, blank=True)
    paused = models.BooleanField(default=False)
    memory = models.JSONField(default=dict, blank=True, editable=False)
    evaluated_at = models.DateTimeField(null=True, blank=True)
    version = models.PositiveIntegerField(default=1)
    created_at = models.DateTimeField(default=timezone.now)

    objects = OperatorsQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["target_type", "target_id"], name="one_group_per_target"),
            models.CheckConstraint(condition=Q(policy_type__in=list(policy.Kind)), name="group_policy_type"),
            models.CheckConstraint(condition=Q(min_size__lte=F("max_size")), name="group_min_at_most_max"),
            models.CheckConstraint(
                condition=Q(scale_down_cpu_threshold__lt=F("scale_up_cpu_threshold")), name="group_cpu_down_below_up"
            ),
            models.CheckConstraint(
                condition=Q(scale_down_memory_threshold__lt=F("scale_up_memory_threshold")),
                name="group_memory_down_below_up",
            ),
            models.CheckConstraint(
                condition=Q(target_utilisation__gt=0, target_utilisation__lte=1, target_backlog_seconds__gt=0),
                name="group_targets_are_positive",
            ),
            models.CheckConstraint(condition=Q(tolerance__gte=0, tolerance__lt=1), name="group_tolerance"),
            models.CheckConstraint(
                condition=Q(cooldown_seconds__gte=0, up_window_seconds__gte=0, down_window_seconds__gte=0),
                name="group_times_are_not_negative",
            ),
            models.CheckConstraint(condition=Q(violations__gte=1), name="group_violations"),
            models.CheckConstraint(condition=Q(step__isnull=True) | Q(step__gte=1), name="group_step"),
        ]

    def __str__(self) -> str:
        return self.name


class Decision(models.Model):
    """One evaluation that acted or was held back; the same answer again only counts up `repeats`."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    group = models.ForeignKey(Group, on_delete=models.CASCADE, related_name="decisions")
    current = models.PositiveIntegerField()
    recommended = models.PositiveIntegerField()
    applied = models.PositiveIntegerField()
    action = models.CharField(max_length=5, choices=[(action.value, action.value) for action in policy.Action])
    reason = models.CharField(max_length=500)
    limited_by = models.CharField(max_length=20, blank=True)
    inputs = models.JSONField(default=dict)
    by = models.CharField(max_length=160)
    repeats = models.PositiveIntegerField(default=0)
    last_at = models.DateTimeField()
    created_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(action__in=list(policy.Action)), name="decision_action"),
            models.CheckConstraint(
                condition=Q(action="up", applied__gt=F("current"))
                | Q(action="down", applied__lt=F("current"))
                | Q(action__in=["none", "held"], applied=F("current")),
                name="decision_applies_what_it_says",
            ),
        ]
        indexes = [models.Index(fields=["group", "-created_at", "-id"], name="decision_of_group")]

    def __str__(self) -> str:
        return f"{self.action} {self.current} -> {self.applied}"


class Balancer(models.Model):
    """Spreads picks over the healthy nodes of a role and region (empty: all)."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    name = models.CharField(max_length=120, unique=True)
    strategy = models.CharField(max_length=24, choices=[(each.value, each.value) for each in Strategy])
    role = models.CharField(max_length=20, blank=True)
    region = models.CharField(max_length=40, blank=True)
    last_pick = models.CharField(max_length=120, blank=True, editable=False)
    owed = models.JSONField(default=dict, editable=False)
    latencies_ms = models.JSONField(default=dict, editable=False)
    created_at = models.DateTimeField(default=timezone.now)

    objects = OperatorsQuerySet.as_manager()

    class Meta:
        constraints = [models.CheckConstraint(condition=Q(strategy__in=list(Strategy)), name="balancer_strategy")]

    def __str__(self) -> str:
        return self.name


class Pick(models.Model):
    """One pick, in flight until it is released or its time is over."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    balancer = models.ForeignKey(Balancer, on_delete=models.CASCADE, related_name="picks")
    node = models.ForeignKey(Node, on_delete=models.CASCADE, related_name="picks")
    key = models.CharField(max_length=200, blank=True)
    created_at = models.DateTimeField()
    expires_at = models.DateTimeField()
    released_at = models.DateTimeField(null=True, blank=True)
    latency_ms = models.FloatField(null=True, blank=True)
    ok = models.BooleanField(null=True)

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(expires_at__gt=F("created_at")), name="pick_ends"),
            models.CheckConstraint(
                condition=Q(released_at__isnull=True, ok__isnull=True) | Q(released_at__isnull=False, ok__isnull=False),
                name="pick_released_says_how",
            ),
        ]
        indexes = [
            models.Index(fields=["balancer", "node"], condition=Q(released_at__isnull=True), name="pick_in_flight"),
            models.Index(fields=["expires_at"], name="pick_expires_at"),
        ]

    def __str__(self) -> str:
        return f"{self.balancer_id} -> {self.node_id}"
