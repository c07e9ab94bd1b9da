"""The shapes of requests and answers."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from django.urls import reverse
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from billing import amounts
from sandboxes import executions, keeping, lifecycle, packages, pools, programs
from sandboxes.api.fields import AnyText, Files, Flag, Number, Strict, Text, Whole
from sandboxes.limits import BREACHES, RANGES
from sandboxes.models import Artifact, Execution, Pool, Sandbox, Template
from sandboxes.runtimes import NAMES

BATCH_MOST = 1000


class Nothing(serializers.Serializer[Any]):
    """A request without a body."""


class LimitsIn(Strict):
    cpu = Number(required=False, min_value=RANGES["cpu"][0], max_value=RANGES["cpu"][1])
    memory_mb = Whole(required=False, min_value=int(RANGES["memory_mb"][0]), max_value=int(RANGES["memory_mb"][1]))
    disk_mb = Whole(required=False, min_value=int(RANGES["disk_mb"][0]), max_value=int(RANGES["disk_mb"][1]))
    processes = Whole(required=False, min_value=int(RANGES["processes"][0]), max_value=int(RANGES["processes"][1]))
    output_kb = Whole(required=False, min_value=int(RANGES["output_kb"][0]), max_value=int(RANGES["output_kb"][1]))


class ExecutionIn(Strict):
    """Exactly one of `language`, `template`, `pool`, `sandbox` says where the code runs."""

    language = Text(required=False, help_text="python or node")
    template = Text(required=False, help_text="name or id")
    pool = Text(required=False, help_text="name or id")
    sandbox = Text(required=False, help_text="id of a long-lived sandbox of your own; its limits and network hold")
    code = Text()
    input = AnyText(required=False, allow_null=True, allow_blank=True, help_text="what the program reads from stdin")
    args = serializers.ListField(child=Text(allow_blank=True), required=False)
    env = serializers.DictField(child=Text(allow_blank=True), required=False)
    files = Files(required=False)
    timeout_seconds = Number(
        required=False, min_value=programs.SHORTEST_SECONDS, max_value=programs.LONGEST_SECONDS, help_text="default 60"
    )
    limits = LimitsIn(required=False)
    network = Flag(
        required=False,
        help_text="Lets the program reach outward, where the operator allows it (else 403 `network_not_allowed`). "
        "The way out is a proxy on 127.0.0.1, which `HTTP_PROXY`, `HTTPS_PROXY` and `ALL_PROXY` name: it takes "
        "HTTP, CONNECT and SOCKS5, and resolves names. Programs that honour no proxy reach nothing.",
    )
    metadata = serializers.DictField(child=Text(allow_blank=True), required=False)
    queue = Flag(required=False, help_text="with `sandbox`: wait while it is busy, instead of 409")


class BatchIn(serializers.Serializer[Any]):
    executions = serializers.ListField(
        child=serializers.JSONField(allow_null=True),
        min_length=1,
        max_length=BATCH_MOST,
        help_text="Bodies as for `POST executions`; each is accepted or refused by itself.",
    )


class BatchOut(serializers.Serializer[Any]):
    results = serializers.ListField(child=serializers.DictField(), help_text="In order: the execution, or a problem.")


class UsageOut(serializers.Serializer[Any]):
    cpu_ms = serializers.FloatField()
    peak_memory_bytes = serializers.IntegerField()
    disk_bytes = serializers.IntegerField()
    network_sent_bytes = serializers.IntegerField()
    network_received_bytes = serializers.IntegerField()


class LimitsOut(serializers.Serializer[Any]):
    cpu = serializers.FloatField()
    memory_mb = serializers.IntegerField()
    disk_mb = serializers.IntegerField()
    processes = serializers.IntegerField()
    output_kb = serializers.IntegerField()


class ArtifactOut(serializers.ModelSerializer[Artifact]):
    url = serializers.SerializerMethodField()

    class Meta:
        model = Artifact
        fields = ("path", "size", "content_type", "url")

    def get_url(self, artifact: Artifact) -> str:
        place = {"pk": artifact.execution_id, "path": artifact.path}
        return reverse("api-execution-artifact", kwargs=place)


class ExecutionRow(serializers.ModelSerializer[Execution]):
    """An execution in a list: everything but what it wrote and left."""

    sandbox = serializers.SerializerMethodField()
    node = serializers.SerializerMethodField()
    runtime = serializers.SerializerMethodField()
    pool = serializers.UUIDField(source="pool_id", allow_null=True)
    template = serializers.UUIDField(source="template_id", allow_null=True)
    rerun_of = serializers.UUIDField(source="rerun_of_id", allow_null=True)
    attempts = serializers.IntegerField(source="attempt")
    breach = serializers.SerializerMethodField()
    error = serializers.SerializerMethodField()
    reason = serializers.SerializerMethodField(help_text="Why it still waits, while it is queued.")
    limits = LimitsOut()
    usage = UsageOut()
    cost_credits = serializers.SerializerMethodField()
    metadata = serializers.DictField(child=serializers.CharField())
    artifacts_truncated = serializers.ListField(child=serializers.CharField())

    class Meta:
        model = Execution
        fields = (
            "id",
            "state",
            "language",
            "template",
            "pool",
            "sandbox",
            "node",
            "runtime",
            "attempts",
            "created_at",
            "started_at",
            "finished_at",
            "exit_code",
            "signal",
            "stdout_truncated",
            "stderr_truncated",
            "duration_ms",
            "startup_ms",
            "breach",
            "error",
            "reason",
            "usage",
            "limits",
            "timeout_seconds",
            "network",
            "cost_credits",
            "artifacts_truncated",
            "metadata",
            "rerun_of",
        )

    def get_sandbox(self, execution: Execution) -> str | None:
        return execution.sandbox or None

    def get_node(self, execution: Execution) -> str | None:
        return execution.node or None

    def get_runtime(self, execution: Execution) -> str | None:
        return execution.runtime or None

    @extend_schema_field({"type": ["string", "null"], "enum": [*BREACHES, None]})
    def get_breach(self, execution: Execution) -> str | None:
        return execution.breach or None

    def get_error(self, execution: Execution) -> str | None:
        return execution.error or None

    def get_reason(self, execution: Execution) -> str | None:
        return executions.why_queued(execution) or None

    def get_cost_credits(self, execution: Execution) -> str:
        return amounts.six_places(execution.cost_ucr)


class ExecutionOut(ExecutionRow):
    stdout = serializers.CharField()
    stderr = serializers.CharField()
    artifacts = ArtifactOut(many=True, source="kept_artifacts")

    class Meta(ExecutionRow.Meta):
        fields = (*ExecutionRow.Meta.fields, "stdout", "stderr", "artifacts")


# Making a serializer copies all its fields, which takes longer than using it. These two keep nothing of a request.
_IN = ExecutionIn()
_OUT = ExecutionOut()


def asked_of(body: Any) -> dict[str, Any]:
    """What a body asks of an execution; raises ValidationError."""
    asked: dict[str, Any] = _IN.run_validation(body)
    return asked


def shown(execution: Execution, *, address: Callable[[str], str]) -> dict[str, Any]:
    """An execution as the API shows it; `address` makes whole addresses of paths."""
    answer: dict[str, Any] = _OUT.to_representation(execution)
    for artifact in answer["artifacts"]:
        artifact["url"] = address(artifact["url"])
    return answer


class TemplateIn(Strict):
    name = Text(min_length=1, max_length=80)
    language = Text(help_text="python or node")
    packages = serializers.ListField(
        child=Text(allow_blank=True, max_length=packages.LONGEST),
        max_length=packages.MOST,
        help_text="Names with exact versions: `six==1.17.0` for python, `left-pad@1.3.0` or `@scope/name@1.2.3` for "
        "node. Only wheels are installed, and no script of a package is run. A template has these and what they need.",
    )


class SandboxIn(Strict):
    template = Text(help_text="name or id")
    ttl_seconds = Number(
        required=False,
        min_value=1,
        max_value=keeping.LONGEST_SECONDS,
        help_text=f"how long it lives from now on; default {keeping.USUAL_SECONDS}",
    )
    limits = LimitsIn(required=False)
    network = Flag(required=False)
    env = serializers.DictField(child=Text(allow_blank=True), required=False, help_text="for every execution in it")
    metadata = serializers.DictField(child=Text(allow_blank=True), required=False)


class SandboxChange(Strict):
    ttl_seconds = Number(
        min_value=1,
        max_value=keeping.LONGEST_SECONDS,
        help_text="It lives at least so long from now on, and a day at most in all. It is never shortened.",
    )


class SandboxOut(serializers.ModelSerializer[Sandbox]):
    """A long-lived sandbox. `charged_until` is the moment up to which `cost_credits` is charged."""

    state = serializers.ChoiceField(source="shown_state", choices=lifecycle.KEPT_STATES)
    template = serializers.CharField(source="template.name", default=None, allow_null=True)
    node = serializers.SerializerMethodField()
    runtime = serializers.SerializerMethodField()
    limits = LimitsOut()
    metadata = serializers.DictField(child=serializers.CharField())
    error = serializers.SerializerMethodField()
    charged_until = serializers.SerializerMethodField()
    cost_credits = serializers.SerializerMethodField()
    last_execution = serializers.UUIDField(allow_null=True)

    class Meta:
        model = Sandbox
        fields = (
            "id",
            "state",
            "template",
            "language",
            "node",
            "runtime",
            "limits",
            "network",
            "metadata",
            "ttl_seconds",
            "created_at",
            "opened_at",
            "expires_at",
            "ended_at",
            "error",
            "last_execution",
            "cost_credits",
            "charged_until",
        )

    def get_node(self, sandbox: Sandbox) -> str | None:
        return sandbox.node or None

    def get_runtime(self, sandbox: Sandbox) -> str | None:
        return sandbox.runtime or None

    def get_error(self, sandbox: Sandbox) -> str | None:
        return sandbox.error or None

    @extend_schema_field({"type": ["string", "null"], "format": "date-time"})
    def get_charged_until(self, sandbox: Sandbox) -> datetime | None:
        return sandbox.charged_until if sandbox.opened_at else None

    def get_cost_credits(self, sandbox: Sandbox) -> str:
        return amounts.six_places(sandbox.cost_ucr)


class TemplateOut(serializers.ModelSerializer[Template]):
    packages = serializers.ListField(child=serializers.CharField())
    log = serializers.CharField(help_text="what the package tool said, while it builds and afterwards")
    error = serializers.SerializerMethodField(help_text="why the build failed")
    size_bytes = serializers.IntegerField(allow_null=True)
    built_in = serializers.BooleanField(source="is_built_in")

    class Meta:
        model = Template
        fields = (
            "id",
            "name",
            "language",
            "packages",
            "state",
            "log",
            "error",
            "size_bytes",
            "built_in",
            "created_at",
        )

    def get_error(self, template: Template) -> str | None:
        return template.error or None


@extend_schema_field(
    {
        "type": "array",
        "items": {"type": "string", "enum": list(NAMES)},
        "uniqueItems": True,
        "description": "Where its executions run, the first that has room. None: as the operator's setting says.",
    }
)
class Runtimes(serializers.ListField):
    child = Text(max_length=40)


class PoolIn(Strict):
    name = Text(min_length=1, max_length=80)
    template = Text(help_text="name or id")
    min_size = Whole(required=False, min_value=0, max_value=1000)
    max_size = Whole(required=False, min_value=1, max_value=1000)
    idle_timeout_seconds = Whole(required=False, min_value=1, max_value=86_400)
    max_age_seconds = Whole(required=False, min_value=1, max_value=86_400)
    max_executions = Whole(required=False, min_value=1, max_value=1000)
    limits = LimitsIn(required=False)
    runtimes = Runtimes(required=False)


class PoolChange(PoolIn):
    name = Text(required=False, min_length=1, max_length=80)
    template = Text(required=False, help_text="name or id")
    version = Whole(required=False, min_value=1, help_text="the version you read; another one is 409")


class CountsOut(serializers.Serializer[Any]):
    starting = serializers.IntegerField()
    ready = serializers.IntegerField()
    running = serializers.IntegerField()
    draining = serializers.IntegerField()
    failed = serializers.IntegerField()


class TotalsOut(serializers.Serializer[Any]):
    executions = serializers.IntegerField()
    cpu_ms = serializers.FloatField()
    memory_bytes = serializers.IntegerField()


class PoolOut(serializers.ModelSerializer[Pool]):
    template = serializers.CharField(source="template.name")
    language = serializers.CharField(source="template.language")
    limits = LimitsOut(source="all_limits")
    runtimes = serializers.ListField(child=serializers.CharField(), source="all_runtimes")
    counts = serializers.SerializerMethodField()
    queued = serializers.IntegerField()
    built_in = serializers.BooleanField(source="is_built_in")

    class Meta:
        model = Pool
        fields = (
            "id",
            "name",
            "template",
            "language",
            "min_size",
            "max_size",
            "size",
            "idle_timeout_seconds",
            "max_age_seconds",
            "max_executions",
            "limits",
            "runtimes",
            "counts",
            "queued",
            "built_in",
            "created_at",
            "version",
        )

    @extend_schema_field(CountsOut)
    def get_counts(self, pool: Pool) -> dict[str, int]:
        return pools.counts(pool)


class PoolDetail(PoolOut):
    """A pool with what the account's executions in it used over all time."""

    totals = serializers.SerializerMethodField()

    class Meta(PoolOut.Meta):
        fields = (*PoolOut.Meta.fields, "totals")

    @extend_schema_field(TotalsOut)
    def get_totals(self, pool: Pool) -> dict[str, Any]:
        return pool.totals(self.context["account"])
