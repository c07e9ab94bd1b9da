"""Long-lived sandboxes: a customer's own place, which keeps its files from one execution to the next until it ends.

creating -> ready -> gone      its time was over, it was closed, or nobody paid
    |         '--> failed      it was lost
    '--> failed, gone          it could not be made; it was closed before

`running` is a ready one with an execution in it: asked of the executions, never stored.
It is paid by the second in windows: [charged_until, held_until) is the present one, whose credits are on hold.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from django.apps import apps
from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import Exists, F, OuterRef, Q, Subquery
from django.db.models.functions import Now
from django.utils import timezone
from uuid_utils.compat import uuid7

from billing.models import Account
from sandboxes import lifecycle
from sandboxes.models.pools import Language, Template

LONGEST = timedelta(days=1)
# A living node is heard every few seconds.
HEARD_WITHIN = timedelta(seconds=10)


class SandboxQuerySet(models.QuerySet["Sandbox"]):
    def visible_to(self, principal: Any) -> SandboxQuerySet:
        if not principal.is_authenticated:
            return self.none()
        if principal.is_staff:
            return self
        return self.filter(account__in=Account.objects.visible_to(principal))

    def editable_by(self, principal: Any) -> SandboxQuerySet:
        if not principal.is_authenticated:
            return self.none()
        if principal.is_staff:
            return self
        return self.filter(account__in=Account.objects.editable_by(principal))

    def open(self) -> SandboxQuerySet:
        return self.filter(state__in=lifecycle.SANDBOX_OPEN)

    def ready_on(self, node: str) -> SandboxQuerySet:
        return self.filter(state=lifecycle.READY, node=node)

    def expired(self, now: datetime) -> SandboxQuerySet:
        return self.open().filter(expires_at__lte=now)

    def heard(self) -> SandboxQuerySet:
        """Those that their node had a moment ago, by the database's clock: no test moves that one."""
        return self.filter(heard_at__gt=Now() - HEARD_WITHIN)

    def with_activity(self) -> SandboxQuerySet:
        """Adds `is_busy`, and `last_execution` by its id; both are looks into an index."""
        return self.annotate(
            is_busy=Exists(_executions().filter(lease_expires_at__isnull=False)),
            last_execution=Subquery(_executions().order_by("-created_at", "-pk").values("pk")[:1]),
        )

    def in_state(self, state: str) -> SandboxQuerySet:
        """By the state that people see. Expects rows of `with_activity`."""
        if state == lifecycle.RUNNING:
            return self.filter(state=lifecycle.READY, is_busy=True)
        if state == lifecycle.READY:
            return self.filter(state=lifecycle.READY, is_busy=False)
        return self.filter(state=state)

    def with_id(self, text: str) -> Sandbox | None:
        """The row of that id, or None; any text may be asked."""
        try:
            return self.filter(pk=text).first()
        except ValidationError:
            return None


def _executions() -> Any:
    return apps.get_model("sandboxes", "Execution").objects.filter(kept_sandbox=OuterRef("pk"))


class Sandbox(models.Model):
    """One long-lived sandbox of an account."""

    class State(models.TextChoices):
        CREATING = lifecycle.CREATING
        READY = lifecycle.READY
        FAILED = lifecycle.FAILED
        GONE = lifecycle.GONE

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    account = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="+", db_index=False)
    # Gone when it was deleted after the sandbox's end; before that, it cannot be.
    template = models.ForeignKey(Template, on_delete=models.SET_NULL, null=True, related_name="+")
    language = models.CharField(max_length=10, choices=Language.choices)
    # The key that opened it, if one did: its minutes are recorded for that key.
    api_key = models.UUIDField(null=True, blank=True)
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, blank=True, related_name="+"
    )
    limits = models.JSONField(default=dict)
    network = models.BooleanField(default=False)
    env = models.JSONField(default=dict)
    metadata = models.JSONField(default=dict)

    state = models.CharField(max_length=10, choices=State.choices, default=State.CREATING)
    node = models.CharField(max_length=120, blank=True)
    runtime = models.CharField(max_length=40, blank=True)
    error = models.TextField(blank=True)
    ttl_seconds = models.FloatField(default=300)
    created_at = models.DateTimeField(default=timezone.now)
    opened_at = models.DateTimeField(null=True, blank=True)
    expires_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True, blank=True)

    # Who opens it, until when; how often somebody tried, and what each node said that could not.
    claimed_by = models.CharField(max_length=80, blank=True)
    lease_expires_at = models.DateTimeField(null=True, blank=True)
    tries = models.PositiveSmallIntegerField(default=0)
    refusals = models.JSONField(default=dict)
    # When its node last had it, and how many sweeps there were since.
    heard_at = models.DateTimeField(null=True, blank=True)
    unheard = models.PositiveIntegerField(default=0)

    window = models.PositiveIntegerField(default=0)
    charged_until = models.DateTimeField()
    held_until = models.DateTimeField()
    cost_ucr = models.BigIntegerField(default=0)

    objects = SandboxQuerySet.as_manager()

    class Meta:
        indexes = [
            models.Index(fields=["account", "-created_at", "-id"], name="sandbox_newest"),
            models.Index(fields=["node"], condition=Q(state="ready"), name="sandbox_ready_on_node"),
            models.Index(fields=["expires_at"], condition=Q(ended_at__isnull=True), name="sandbox_expiry"),
        ]
        constraints = [
            models.CheckConstraint(
                condition=Q(state__in=["creating", "ready", "failed", "gone"]), name="sandbox_state"
            ),
            models.CheckConstraint(
                condition=Q(state__in=["creating", "ready"], ended_at__isnull=True)
                | Q(state__in=["failed", "gone"], ended_at__isnull=False),
                name="sandbox_ended_has_an_end",
            ),
            models.CheckConstraint(
                condition=~Q(state="ready")
                | (Q(opened_at__isnull=False, heard_at__isnull=False) & ~Q(node="") & ~Q(runtime="")),
                name="sandbox_ready_is_somewhere",
            ),
            models.CheckConstraint(
                condition=~Q(state="creating") | Q(opened_at__isnull=True, cost_ucr=0),
                name="sandbox_creating_is_not_open",
            ),
            models.CheckConstraint(
                condition=Q(state="creating") | Q(lease_expires_at__isnull=True), name="sandbox_lease_is_for_opening"
            ),
            models.CheckConstraint(condition=Q(language__in=Language.values), name="sandbox_language"),
            models.CheckConstraint(
                condition=Q(state__in=["failed", "gone"]) | Q(template__isnull=False),
                name="sandbox_open_has_a_template",
            ),
            models.CheckConstraint(condition=~Q(state="failed") | ~Q(error=""), name="sandbox_failed_says_why"),
            models.CheckConstraint(
                condition=Q(expires_at__gt=F("created_at"), expires_at__lte=F("created_at") + LONGEST),
                name="sandbox_lives_a_day_at_most",
            ),
            models.CheckConstraint(condition=Q(ttl_seconds__gt=0, ttl_seconds__lte=86_400), name="sandbox_ttl"),
            models.CheckConstraint(condition=Q(held_until__gt=F("charged_until")), name="sandbox_window_is_ahead"),
            models.CheckConstraint(condition=Q(cost_ucr__gte=0), name="sandbox_cost_is_not_negative"),
        ]

    def __str__(self) -> str:
        return f"sandbox {self.pk}"

    @property
    def is_open(self) -> bool:
        return self.state in lifecycle.SANDBOX_OPEN

    @property
    def shown_state(self) -> str:
        """The state that people see. Expects a row of `with_activity`."""
        return lifecycle.RUNNING if self.state == lifecycle.READY and self.is_busy else str(self.state)

    @property
    def name(self) -> str:
        """What people call it: the name its maker gave it, else the end of its id, which is its random part."""
        return str(self.metadata.get("name") or f"…{str(self.pk)[-8:]}")

    @property
    def why_ended(self) -> str:
        """A sentence; nothing while it is open."""
        if self.ended_at is None:
            return ""
        if self.error:
            return str(self.error)
        return "Its time-to-live is over." if self.ended_at >= self.expires_at else "It was closed."

    @property
    def hold_key(self) -> str:
        """The present window's: what is on hold for it, and what it is charged by."""
        return f"sandbox:{self.pk}:{self.window}"
