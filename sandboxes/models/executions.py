"""Executions, every attempt at them, what they wrote and what they left behind.

A row with a lease belongs to a worker: while it is starting or running, and, after a person cancelled it,
until that worker has written down what it used. No lease and a final state: everything is known.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from datetime import datetime
from functools import cache, cached_property
from typing import Any
from uuid import UUID

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q
from django.utils import timezone
from uuid_utils.compat import uuid7

from billing.models import Account
from sandboxes import frames, lifecycle, limits
from sandboxes.models.pools import Language, Pool, Template
from sandboxes.models.sandboxes import Sandbox
from sandboxes.runtimes import LABELS, LOCAL, NAMES

# No runtime samples a shorter run.
FIRST_SAMPLE_MS = 250
# What lists do not need: it may be megabytes a row.
HEAVY = ("code", "stdin", "args", "env", "files", "samples")


def local_only() -> list[str]:
    return [LOCAL]


@cache
def _light_one() -> str:
    names = [field.attname for field in Execution._meta.concrete_fields if field.name not in HEAVY]
    return f"select {', '.join(names)} from sandboxes_one(%s)"


class ExecutionQuerySet(models.QuerySet["Execution"]):
    def visible_to(self, principal: Any) -> ExecutionQuerySet:
        if not principal.is_authenticated:
            return self.none()
        if principal.is_staff:
            return self
        return self.filter(account__in=Account.objects.visible_to(principal))

    def editable_by(self, principal: Any) -> ExecutionQuerySet:
        if not principal.is_authenticated:
            return self.none()
        if principal.is_staff:
            return self
        return self.filter(account__in=Account.objects.editable_by(principal))

    def light(self) -> ExecutionQuerySet:
        return self.defer(*HEAVY)

    def light_one(self, pk: UUID) -> Execution:
        """As `light().get(pk=pk)`; asked for every execution, so it is written and planned once."""
        found: Execution = self.raw(_light_one(), [pk])[0]
        return found

    def live(self) -> ExecutionQuerySet:
        return self.filter(state__in=lifecycle.LIVE)

    def waiting(self, now: datetime) -> ExecutionQuerySet:
        return self.filter(state=lifecycle.QUEUED, available_at__lte=now)

    def lease_expired(self, now: datetime) -> ExecutionQuerySet:
        return self.filter(lease_expires_at__lt=now)


class Execution(models.Model):
    """One run of one piece of code, for one account."""

    class State(models.TextChoices):
        QUEUED = lifecycle.QUEUED
        STARTING = lifecycle.STARTING
        RUNNING = lifecycle.RUNNING
        SUCCEEDED = lifecycle.SUCCEEDED
        FAILED = lifecycle.FAILED
        TIMED_OUT = lifecycle.TIMED_OUT
        CANCELLED = lifecycle.CANCELLED

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    account = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="+", db_index=False)
    pool = models.ForeignKey(Pool, on_delete=models.SET_NULL, null=True, related_name="executions")
    # Gone when it was deleted afterwards; while the execution waits or runs, it cannot be.
    template = models.ForeignKey(Template, on_delete=models.SET_NULL, null=True, related_name="+")
    # The customer's own sandbox it runs in, if it does; `sandbox` is the name of whichever it got.
    kept_sandbox = models.ForeignKey(
        Sandbox, on_delete=models.PROTECT, null=True, blank=True, related_name="executions", db_index=False
    )
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, blank=True, related_name="+"
    )
    rerun_of = models.ForeignKey("self", on_delete=models.SET_NULL, null=True, blank=True, related_name="reruns")
    agent = models.CharField(max_length=80, blank=True)

    language = models.CharField(max_length=10, choices=Language.choices)
    code = models.TextField()
    stdin = models.BinaryField(null=True)
    args = models.JSONField(default=list)
    env = models.JSONField(default=dict)
    files = models.JSONField(default=dict)
    timeout_seconds = models.FloatField(default=60)
    limits = models.JSONField(default=dict)
    network = models.BooleanField(default=False)
    metadata = models.JSONField(default=dict)

    state = models.CharField(max_length=10, choices=State.choices, default=State.QUEUED)
    turn = models.BigIntegerField(default=1)
    available_at = models.DateTimeField(default=timezone.now)
    attempt = models.PositiveSmallIntegerField(default=0)
    claimed_by = models.CharField(max_length=80, blank=True)
    lease_expires_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(default=timezone.now)
    claimed_at = models.DateTimeField(null=True, blank=True)
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)

    sandbox = models.CharField(max_length=80, blank=True)
    node = models.CharField(max_length=120, blank=True)
    runtime = models.CharField(max_length=40, blank=True)
    # Those that could keep its limits; its pool says which of them it may use.
    runtimes = ArrayField(models.CharField(max_length=40), default=local_only)
    is_warm = models.BooleanField(default=False)

    exit_code = models.IntegerField(null=True, blank=True)
    signal = models.IntegerField(null=True, blank=True)
    breach = models.CharField(max_length=10, blank=True)
    error = models.TextField(blank=True)
    stdout_bytes = models.BigIntegerField(default=0)
    stderr_bytes = models.BigIntegerField(default=0)
    artifact_count = models.PositiveSmallIntegerField(default=0)
    stdout_truncated = models.BooleanField(default=False)
    stderr_truncated = models.BooleanField(default=False)
    artifacts_truncated = models.JSONField(default=list)
    duration_ms = models.FloatField(null=True, blank=True)
    startup_ms = models.FloatField(null=True, blank=True)
    cpu_ms = models.FloatField(default=0)
    peak_memory_bytes = models.BigIntegerField(default=0)
    disk_bytes = models.BigIntegerField(default=0)
    network_sent_bytes = models.BigIntegerField(default=0)
    network_received_bytes = models.BigIntegerField(default=0)
    cost_ucr = models.BigIntegerField(default=0)
    samples = models.JSONField(default=list)

    objects = ExecutionQuerySet.as_manager()

    class Meta:
        indexes = [
            models.Index(fields=["account", "-created_at", "-id"], name="execution_newest"),
            models.Index(fields=["account", "state", "-created_at", "-id"], name="execution_newest_in_state"),
            models.Index(fields=["turn", "id"], condition=Q(state="queued"), name="execution_next"),
            models.Index(fields=["pool"], condition=Q(state="queued"), name="execution_queued_in_pool"),
            models.Index(fields=["account", "-turn"], condition=Q(state="queued"), name="execution_last_turn"),
            models.Index(fields=["-turn", "pool"], condition=Q(state__in=lifecycle.LIVE), name="execution_live"),
            models.Index(
                fields=["lease_expires_at"], condition=Q(lease_expires_at__isnull=False), name="execution_lease_end"
            ),
            models.Index(
                fields=["kept_sandbox", "-created_at", "-id"],
                condition=Q(kept_sandbox__isnull=False),
                name="execution_newest_in_sandbox",
            ),
            models.Index(
                fields=["kept_sandbox", "turn", "id"],
                condition=Q(kept_sandbox__isnull=False, state="queued"),
                name="execution_next_in_sandbox",
            ),
        ]
        constraints = [
            models.UniqueConstraint(
                fields=["kept_sandbox"],
                condition=Q(lease_expires_at__isnull=False),
                name="one_execution_at_once_in_a_sandbox",
            ),
            models.CheckConstraint(
                # All but what goes over the network.
                condition=Q(kept_sandbox__isnull=True) | (Q(pool__isnull=True) & (Q(cost_ucr=0) | Q(network=True))),
                name="execution_in_a_sandbox_is_paid_by_it",
            ),
            models.CheckConstraint(condition=Q(state__in=lifecycle.EXECUTION_STATES), name="execution_state"),
            models.CheckConstraint(condition=Q(language__in=Language.values), name="execution_language"),
            models.CheckConstraint(
                condition=Q(runtimes__len__gte=1, runtimes__contained_by=list(NAMES)), name="execution_runtimes"
            ),
            models.CheckConstraint(condition=Q(breach__in=["", *limits.BREACHES]), name="execution_breach"),
            models.CheckConstraint(
                condition=Q(attempt__gte=0, attempt__lte=lifecycle.MOST_ATTEMPTS), name="execution_attempts"
            ),
            models.CheckConstraint(
                condition=Q(timeout_seconds__gte=1, timeout_seconds__lte=3600), name="execution_timeout"
            ),
            models.CheckConstraint(
                condition=~Q(state__in=lifecycle.LIVE) | Q(lease_expires_at__isnull=False),
                name="execution_live_has_a_lease",
            ),
            models.CheckConstraint(
                condition=~Q(state="queued") | Q(lease_expires_at__isnull=True), name="execution_queued_has_no_lease"
            ),
            models.CheckConstraint(
                condition=Q(state__in=lifecycle.FINAL, finished_at__isnull=False)
                | (~Q(state__in=lifecycle.FINAL) & Q(finished_at__isnull=True)),
                name="execution_final_has_an_end",
            ),
            models.CheckConstraint(
                condition=~Q(state="running") | Q(started_at__isnull=False), name="execution_running_has_a_start"
            ),
            models.CheckConstraint(
                condition=~Q(state="succeeded") | Q(exit_code=0, breach=""), name="execution_success_is_exit_zero"
            ),
            models.CheckConstraint(
                condition=Q(
                    cost_ucr__gte=0,
                    cpu_ms__gte=0,
                    peak_memory_bytes__gte=0,
                    disk_bytes__gte=0,
                    network_sent_bytes__gte=0,
                    network_received_bytes__gte=0,
                ),
                name="execution_usage_is_not_negative",
            ),
        ]

    def __str__(self) -> str:
        return f"execution {self.pk}"

    @property
    def is_final(self) -> bool:
        return self.state in lifecycle.FINAL

    @property
    def is_settled(self) -> bool:
        """Final, and its output, usage and cost are written down."""
        return self.is_final and self.lease_expires_at is None

    @property
    def all_runtimes(self) -> list[str]:
        """Where it may run: those of its pool that could keep its limits. What runs in a sandbox runs on its node."""
        listed = self.pool.all_runtimes if self.pool else [LOCAL]
        return [name for name in listed if name in self.runtimes] or listed

    @property
    def runtime_in_words(self) -> str:
        return LABELS.get(self.runtime, self.runtime)

    @property
    def hold_key(self) -> str:
        return f"execution:{self.pk}"

    @property
    def request_id(self) -> str:
        """What the runtime knows the present attempt by."""
        return f"{self.pk}-{self.attempt}"

    @property
    def frames_attempt(self) -> int:
        """The attempt whose frames are told: while the execution waits, the coming one."""
        return self.attempt if self.claimed_at else self.attempt + 1

    @property
    def first_frame(self) -> int:
        return frames.first_number(self.frames_attempt)

    @property
    def usage(self) -> dict[str, float | int]:
        return {
            "cpu_ms": self.cpu_ms,
            "peak_memory_bytes": self.peak_memory_bytes,
            "disk_bytes": self.disk_bytes,
            "network_sent_bytes": self.network_sent_bytes,
            "network_received_bytes": self.network_received_bytes,
        }

    @property
    def name(self) -> str:
        """What people call it: the name its sender gave it, else the end of its id, which is its random part."""
        return str(self.metadata.get("name") or f"…{str(self.pk)[-8:]}")

    def stages(self) -> list[tuple[str, float]]:
        """Where the time of the last attempt went: (what, milliseconds), as far as it came."""
        moments = [
            ("queued", self.created_at),
            ("starting", self.claimed_at),
            ("running", self.started_at),
            ("end", self.finished_at),
        ]
        passed = [(state, moment) for state, moment in moments if moment is not None]
        steps = zip(passed, passed[1:], strict=False)
        return [(state, (end - start).total_seconds() * 1000) for (state, start), (_, end) in steps]

    def file_contents(self) -> dict[str, bytes]:
        return {path: base64.b64decode(content) for path, content in self.files.items()}

    def chunks(self) -> Iterator[frames.Chunk]:
        """The stored output of the last attempt, in order; no query when there is none."""
        if self.state == lifecycle.QUEUED or (self.is_settled and not self.stdout_bytes + self.stderr_bytes):
            return
        at = self.first_frame
        # One chunk is a few megabytes, so each is fetched when its turn comes, by a query of its own: a cursor
        # would need the same connection until the end, and a stream of events takes minutes.
        while True:
            chunk = self.output_chunks.filter(number__gt=at).order_by("number").first()
            if chunk is None:
                return
            yield chunk.as_chunk()
            at = chunk.number
            if self.is_settled and (chunk.stdout_end, chunk.stderr_end) == (self.stdout_bytes, self.stderr_bytes):
                return

    def kept_samples(self) -> list[list[int]]:
        """What it used while it ran, as frames.Sample; no query when it was over in a moment."""
        return self.samples if self.duration_ms and self.duration_ms >= FIRST_SAMPLE_MS else []

    def kept_artifacts(self) -> list[Artifact]:
        """What it left, without the contents; no query when there is nothing."""
        if not self.artifact_count:
            return []
        return list(self.artifacts.defer("content").order_by("path"))

    @cached_property
    def output(self) -> dict[str, bytes]:
        """Both streams, whole."""
        found = {"stdout": bytearray(), "stderr": bytearray()}
        for chunk in self.chunks():
            for _, stream, _, content in frames.cut(chunk):
                found[stream] += content
        return {stream: bytes(content) for stream, content in found.items()}

    @property
    def stdout(self) -> str:
        return self.output["stdout"].decode(errors="replace")

    @property
    def stderr(self) -> str:
        return self.output["stderr"].decode(errors="replace")


class Attempt(models.Model):
    """One ended attempt at an execution, on one sandbox."""

    class Outcome(models.TextChoices):
        FINISHED = "finished"
        CANCELLED = "cancelled"
        LOST = "lost"
        EXPIRED = "expired"
        REFUSED = "refused"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    execution = models.ForeignKey(Execution, on_delete=models.CASCADE, related_name="attempts", db_index=False)
    number = models.PositiveSmallIntegerField()
    outcome = models.CharField(max_length=10, choices=Outcome.choices)
    error = models.TextField(blank=True)
    sandbox = models.CharField(max_length=80, blank=True)
    node = models.CharField(max_length=120, blank=True)
    runtime = models.CharField(max_length=40, blank=True)
    is_warm = models.BooleanField(default=False)
    startup_ms = models.FloatField(null=True, blank=True)
    duration_ms = models.FloatField(null=True, blank=True)
    claimed_at = models.DateTimeField()
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["execution", "number"], name="one_attempt_per_number"),
            models.CheckConstraint(condition=Q(number__gte=1), name="attempt_number_from_one"),
            models.CheckConstraint(
                condition=Q(outcome__in=["finished", "cancelled", "lost", "expired", "refused"]),
                name="attempt_outcome",
            ),
        ]

    def __str__(self) -> str:
        return f"attempt {self.number} at {self.execution_id}"


class OutputChunk(models.Model):
    """A piece of an execution's output: up to a few megabytes, in the order the bytes came."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    execution = models.ForeignKey(Execution, on_delete=models.CASCADE, related_name="output_chunks", db_index=False)
    number = models.BigIntegerField()
    stdout_offset = models.BigIntegerField()
    stderr_offset = models.BigIntegerField()
    stdout_end = models.BigIntegerField()
    stderr_end = models.BigIntegerField()
    journal = models.TextField()
    content = models.BinaryField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["execution", "number"], name="one_chunk_per_number"),
            models.CheckConstraint(
                condition=Q(
                    stdout_offset__gte=0,
                    stderr_offset__gte=0,
                    stdout_end__gte=models.F("stdout_offset"),
                    stderr_end__gte=models.F("stderr_offset"),
                ),
                name="chunk_offsets_go_forward",
            ),
        ]

    def __str__(self) -> str:
        return f"output of {self.execution_id} from {self.number}"

    def as_chunk(self) -> frames.Chunk:
        return frames.Chunk(self.number, self.stdout_offset, self.stderr_offset, self.journal, bytes(self.content))


class Artifact(models.Model):
    """A file the code left in /workspace/artifacts."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    execution = models.ForeignKey(Execution, on_delete=models.CASCADE, related_name="artifacts", db_index=False)
    path = models.CharField(max_length=1024)
    content_type = models.CharField(max_length=120)
    size = models.BigIntegerField()
    content = models.BinaryField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["execution", "path"], name="one_artifact_per_path"),
            models.CheckConstraint(condition=Q(size__gte=0), name="artifact_size_is_not_negative"),
        ]

    def __str__(self) -> str:
        return self.path
