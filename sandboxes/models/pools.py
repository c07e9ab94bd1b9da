"""Templates (what a sandbox starts from) and pools (the sandboxes kept ready, and how many may run at once)."""

from __future__ import annotations

import itertools
from typing import Any

from django.apps import apps
from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import Count, F, OuterRef, Q, Subquery, Sum
from django.db.models.functions import Coalesce
from django.utils import timezone
from uuid_utils.compat import uuid7

from billing import rows
from billing.models import Account
from sandboxes import lifecycle, limits
from sandboxes.models.builds import Build, Language
from sandboxes.runtimes import LABELS, NAMES

BUILT_IN = "select (found.pool).*, (found.template).* from sandboxes_built_in(%s) found"


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

    def changeable_by(self, principal: Any) -> Any:
        """Those of accounts where one is an editor; and everybody's, which only staff are then allowed to change."""
        if principal.is_staff:
            return self
        return self.filter(Q(account=None) | Q(account__in=Account.objects.editable_by(principal)))

    def usable_by(self, account: Account) -> Any:
        return self.filter(Q(account=None) | Q(account=account))

    def named(self, name: str) -> Any:
        """The row of that name, an account's own before everybody's; else of that id; else None."""
        if "\0" in name:
            return None
        found = self.filter(name=name).order_by("account").first()
        if found is not None:
            return found
        return self.with_id(name)

    def with_id(self, text: str) -> Any:
        """The row of that id, or None; any text may be asked."""
        try:
            return self.filter(pk=text).first()
        except ValidationError:
            return None


class TemplateQuerySet(_SharedQuerySet):
    def with_users(self, account: Account) -> Any:
        """Adds how many `pool_count` of the account start from each, and how many `waiting` executions of it."""
        final = Q(state__in=lifecycle.FINAL)
        rows = apps.get_model("sandboxes", "Execution").objects.exclude(final).filter(account=account)
        waiting = rows.filter(template=OuterRef("pk")).order_by().values("template").annotate(n=Count("*")).values("n")
        return self.annotate(
            pool_count=Count("pools", filter=Q(pools__account=account)), waiting=Coalesce(Subquery(waiting), 0)
        )

    def hold(self, template: Template) -> bool:
        """This will keep it from being deleted until the transaction ends; False when it is gone already."""
        if template.is_built_in:
            return True
        return self.select_for_update(no_key=True).filter(pk=template.pk).values_list("pk").first() is not None


class Template(models.Model):
    """What a sandbox starts from: a language and packages. `address` names its built content ("" = built in).

    Its `state` is its build's, kept here so that looking for a template needs no other table.
    """

    State = Build.State

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    account = models.ForeignKey(Account, on_delete=models.CASCADE, null=True, blank=True, related_name="+")
    name = models.CharField(max_length=80)
    language = models.CharField(max_length=10, choices=Language.choices)
    packages = models.JSONField(default=list)
    build = models.ForeignKey(Build, on_delete=models.PROTECT, null=True, blank=True, related_name="templates")
    state = models.CharField(max_length=10, choices=State.choices, default=State.BUILDING)
    address = models.CharField(max_length=80, blank=True)
    created_at = models.DateTimeField(default=timezone.now)

    objects = TemplateQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["account", "name"], name="one_template_per_name_and_account", nulls_distinct=False
            ),
            models.CheckConstraint(condition=Q(language__in=Language.values), name="template_language"),
            models.CheckConstraint(condition=Q(state__in=["building", "ready", "failed"]), name="template_state"),
            models.CheckConstraint(
                condition=Q(account=None, build=None) | Q(account__isnull=False, build__isnull=False),
                name="template_of_an_account_has_a_build",
            ),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def is_built_in(self) -> bool:
        return self.account_id is None

    @property
    def log(self) -> str:
        return self.build.log if self.build else ""

    @property
    def error(self) -> str:
        return self.build.error if self.build else ""

    @property
    def size_bytes(self) -> int | None:
        return self.build.size_bytes if self.build else None


def runs_on(name: str) -> Q:
    """Pools whose executions may run on this runtime."""
    listed = Q(runtimes__contains=[name])
    return listed | Q(runtimes=[]) if name in settings.DEFAULT_RUNTIMES else listed


class PoolQuerySet(_SharedQuerySet):
    def with_counts(self) -> Any:
        """Adds how many executions of each pool are `running`, `starting` and `queued`."""
        return self.annotate(
            running=_count(lifecycle.RUNNING), starting=_count(lifecycle.STARTING), queued=_count(lifecycle.QUEUED)
        )

    def built_in(self, name: str) -> Pool | None:
        """Everybody's pool of that name, with its template. Almost every execution asks for it, and to compile it takes
        the ORM longer than to run it: so it is written, and planned, once."""
        both = rows.pair(BUILT_IN, [name], Pool, Template)
        if both is None:
            return None
        pool: Pool = both[0]
        pool.template = both[1]
        return pool


def _count(state: str) -> Any:
    """A look into the index of live or queued executions; joining would count all that ever ran."""
    rows = apps.get_model("sandboxes", "Execution").objects.filter(pool=OuterRef("pk"), state=state)
    counted = rows.order_by().values("pool").annotate(n=Count("*")).values("n")
    return Coalesce(Subquery(counted), 0)


# Every order in which a pool may prefer runtimes, each named once.
RUNTIME_ORDERS = [list(some) for number in range(len(NAMES) + 1) for some in itertools.permutations(NAMES, number)]


class Pool(models.Model):
    """Sandboxes of one template: how many are kept ready, and how many executions run at once.

    `size` is how many may run now. It begins at `max_size`; where a scaling group watches, it follows the load.
    """

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    account = models.ForeignKey(Account, on_delete=models.CASCADE, null=True, blank=True, related_name="+")
    name = models.CharField(max_length=80)
    template = models.ForeignKey(Template, on_delete=models.PROTECT, related_name="pools")
    min_size = models.PositiveIntegerField(default=2)
    max_size = models.PositiveIntegerField(default=10)
    size = models.PositiveIntegerField()
    idle_timeout_seconds = models.PositiveIntegerField(default=300)
    max_age_seconds = models.PositiveIntegerField(default=3600)
    max_executions = models.PositiveIntegerField(default=1)
    limits = models.JSONField(default=dict, blank=True)
    # In order of preference; none: as the setting says.
    runtimes = ArrayField(models.CharField(max_length=40), default=list, blank=True)
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
                condition=Q(size__gte=1) & Q(size__gte=F("min_size"), size__lte=F("max_size")),
                name="pool_size_is_between_min_and_max",
            ),
            models.CheckConstraint(
                condition=Q(idle_timeout_seconds__gte=1, max_age_seconds__gte=1, max_executions__gte=1),
                name="pool_times_are_positive",
            ),
            models.CheckConstraint(condition=Q(runtimes__in=RUNTIME_ORDERS), name="pool_runtimes"),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def is_built_in(self) -> bool:
        return self.account_id is None

    @property
    def all_runtimes(self) -> list[str]:
        """Where its executions run, the first that has room: its own list, else the setting's."""
        return list(self.runtimes or settings.DEFAULT_RUNTIMES)

    @property
    def runtimes_in_words(self) -> str:
        return ", then ".join(LABELS[name] for name in self.all_runtimes)

    def totals(self, account: Account) -> dict[str, Any]:
        """What an account's executions here used, over all time."""
        ran = self.executions.filter(account=account, started_at__isnull=False)
        return ran.aggregate(
            executions=Count("pk"),
            cpu_ms=Coalesce(Sum("cpu_ms"), 0.0),
            memory_bytes=Coalesce(Sum("peak_memory_bytes"), 0, output_field=models.BigIntegerField()),
        )

    @property
    def all_limits(self) -> dict[str, float | int]:
        return limits.Limits.parse(self.limits).as_dict()
