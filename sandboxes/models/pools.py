"""Templates (what a sandbox starts from) and pools (the sandboxes kept ready, and how many may run at once)."""

from __future__ import annotations

from typing import Any

from django.db import models
from django.db.models import Count, F, Q, Sum
from django.db.models.functions import Coalesce
from django.utils import timezone
from uuid_utils.compat import uuid7

from billing.models import Account
from sandboxes import lifecycle, limits


class Language(models.TextChoices):
    PYTHON = "python", "Python"
    NODE = "node", "Node"


class _SharedQuerySet(models.QuerySet[Any]):
    """Rows of an account, or everybody's: those that came with the product have no account."""

    def visible_to(self, principal: Any) -> Any:
        if not principal.is_authenticated:
            return self.none()
        if principal.is_staff:
            return self
        return self.filter(Q(account=None) | Q(account__in=Account.objects.visible_to(principal)))

    def editable_by(self, principal: Any) -> Any:
        if not principal.is_authenticated:
            return self.none()
        if principal.is_staff:
            return self
        return self.filter(account__in=Account.objects.editable_by(principal))

    def usable_by(self, account: Account) -> Any:
        return self.filter(Q(account=None) | Q(account=account))


class TemplateQuerySet(_SharedQuerySet):
    pass


class Template(models.Model):
    """What a sandbox starts from: a language and packages. `address` names its built content ("" = built in)."""

    class State(models.TextChoices):
        BUILDING = "building"
        READY = "ready"
        FAILED = "failed"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    account = models.ForeignKey(Account, on_delete=models.CASCADE, null=True, blank=True, related_name="+")
    name = models.CharField(max_length=80)
    language = models.CharField(max_length=10, choices=Language.choices)
    packages = models.JSONField(default=list)
    state = models.CharField(max_length=10, choices=State.choices, default=State.BUILDING)
    address = models.CharField(max_length=80, blank=True)
    log = models.TextField(blank=True)
    created_at = models.DateTimeField(default=timezone.now)

    objects = TemplateQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["account", "name"], name="one_template_per_name_and_account", nulls_distinct=False
            ),
            models.CheckConstraint(condition=Q(language__in=Language.values), name="template_language"),
            models.CheckConstraint(condition=Q(state__in=["building", "ready", "failed"]), name="template_state"),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def is_built_in(self) -> bool:
        return self.account_id is None


class PoolQuerySet(_SharedQuerySet):
    def with_totals(self) -> Any:
        """Adds what ran here: `total_executions`, `total_cpu_ms`, `total_memory_bytes`, and what runs now."""
        live = Q(executions__state__in=lifecycle.LIVE)
        return self.annotate(
            total_executions=Count("executions", filter=Q(executions__started_at__isnull=False)),
            total_cpu_ms=Coalesce(Sum("executions__cpu_ms"), 0.0),
            total_memory_bytes=Coalesce(
                Sum("executions__peak_memory_bytes"), 0, output_field=models.BigIntegerField()
            ),
            running=Count("executions", filter=live & Q(executions__state=lifecycle.RUNNING)),
            starting=Count("executions", filter=live & Q(executions__state=lifecycle.STARTING)),
            queued=Count("executions", filter=Q(executions__state=lifecycle.QUEUED)),
        )


class Pool(models.Model):
    """Sandboxes of one template: how many are kept ready, and how many executions run at once."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    account = models.ForeignKey(Account, on_delete=models.CASCADE, null=True, blank=True, related_name="+")
    name = models.CharField(max_length=80)
    template = models.ForeignKey(Template, on_delete=models.PROTECT, related_name="pools")
    min_size = models.PositiveIntegerField(default=2)
    max_size = models.PositiveIntegerField(default=10)
    idle_timeout_seconds = models.PositiveIntegerField(default=300)
    max_age_seconds = models.PositiveIntegerField(default=3600)
    max_executions = models.PositiveIntegerField(default=1)
    limits = models.JSONField(default=dict, blank=True)
    created_at = models.DateTimeField(default=timezone.now)
    version = models.PositiveIntegerField(default=1)

    objects = PoolQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["account", "name"], name="one_pool_per_name_and_account", nulls_distinct=False
            ),
            models.CheckConstraint(
                condition=Q(max_size__gte=1, min_size__lte=F("max_size")), name="pool_min_is_at_most_max"
            ),
            models.CheckConstraint(
                condition=Q(idle_timeout_seconds__gte=1, max_age_seconds__gte=1, max_executions__gte=1),
                name="pool_times_are_positive",
            ),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def is_built_in(self) -> bool:
        return self.account_id is None

    @property
    def all_limits(self) -> dict[str, float | int]:
        return limits.Limits.parse(self.limits).as_dict()
