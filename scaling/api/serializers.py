"""What goes in and out of the scaling API."""

from __future__ import annotations

import json
from typing import Any

from django.core.validators import MinLengthValidator
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from scaling import autoscaler, health, targets
from scaling.balancer import Strategy
from scaling.models import NAME, Balancer, Decision, Group, HealthReport, Node, Pick, StatusChange
from scaling.policy import Action, Kind


def _share(**options: Any) -> serializers.FloatField:
    return serializers.FloatField(min_value=0, max_value=1, allow_null=True, required=False, **options)


MOST_METADATA_BYTES = 16 * 1024
OWN_METADATA = {"processes", "told"}


def _storable(metadata: dict[str, Any]) -> dict[str, Any]:
    """What a machine's own processes say is theirs alone; a NUL is what no database takes."""
    written = json.dumps(metadata)
    for name in OWN_METADATA & metadata.keys():
        raise serializers.ValidationError(f"`{name}` is filled by the product's own processes.")
    if len(written) > MOST_METADATA_BYTES:
        raise serializers.ValidationError(f"At most {MOST_METADATA_BYTES} bytes.")
    if "\\u0000" in written:
        raise serializers.ValidationError("NUL characters are not allowed.")
    return metadata


class Empty(serializers.Serializer[Any]):
    """A request without a body."""


# --- nodes


class NodeIn(serializers.Serializer[Any]):
    name = serializers.CharField(max_length=120, validators=[NAME])
    role = serializers.CharField(max_length=20, required=False, allow_blank=True, default="")
    region = serializers.CharField(max_length=40, required=False, allow_blank=True, default="")
    weight = serializers.IntegerField(min_value=0, max_value=256, required=False, default=1)
    beat_seconds = serializers.FloatField(min_value=0.1, max_value=3600, required=False, default=1.0)
    metadata = serializers.DictField(required=False, default=dict)

    def validate_metadata(self, metadata: dict[str, Any]) -> dict[str, Any]:
        return _storable(metadata)


class NodeOut(serializers.ModelSerializer[Node]):
    status = serializers.ChoiceField(choices=list(health.Status), help_text="healthy, degraded, unhealthy or unknown")
    metadata = serializers.DictField()

    class Meta:
        model = Node
        fields = [
            "id",
            "name",
            "role",
            "region",
            "status",
            "status_reason",
            "cpu",
            "memory",
            "disk",
            "in_flight",
            "latency_ms",
            "error_rate",
            "last_seen_at",
            "weight",
            "draining",
            "beat_seconds",
            "metadata",
            "created_at",
        ]
        read_only_fields = fields


class NodeMade(NodeOut):
    token = serializers.CharField(help_text="The node's own token, shown only now.")

    class Meta(NodeOut.Meta):
        fields = [*NodeOut.Meta.fields, "token"]
        read_only_fields = fields


class ReportIn(serializers.Serializer[Any]):
    cpu = _share()
    memory = _share()
    disk = _share()
    error_rate = _share()
    latency_ms = serializers.FloatField(min_value=0, max_value=1e9, allow_null=True, required=False)
    in_flight = serializers.IntegerField(min_value=0, max_value=2**31 - 1, allow_null=True, required=False)
    observed_at = serializers.DateTimeField(required=False)
    metadata = serializers.DictField(required=False)

    def validate_metadata(self, metadata: dict[str, Any]) -> dict[str, Any]:
        return _storable(metadata)


class ReportAnswer(serializers.Serializer[Any]):
    status = serializers.ChoiceField(choices=list(health.Status))
    draining = serializers.BooleanField()
    weight = serializers.IntegerField()


class HealthReportOut(serializers.ModelSerializer[HealthReport]):
    status = serializers.ChoiceField(choices=list(health.Status))

    class Meta:
        model = HealthReport
        fields = ["at", "status", "cpu", "memory", "disk", "in_flight", "latency_ms", "error_rate"]


class StatusChangeOut(serializers.ModelSerializer[StatusChange]):
    before = serializers.ChoiceField(choices=list(health.Status))
    after = serializers.ChoiceField(choices=list(health.Status))

    class Meta:
        model = StatusChange
        fields = ["at", "before", "after", "reason"]


class HealthHistory(serializers.Serializer[Any]):
    reports = HealthReportOut(many=True)
    changes = StatusChangeOut(many=True)


# --- groups


class TargetIn(serializers.Serializer[Any]):
    type = serializers.CharField(max_length=40)
    id = serializers.CharField(max_length=120, required=False, allow_blank=True, default="")


class TargetOut(serializers.Serializer[Any]):
    type = serializers.CharField()
    id = serializers.CharField()
    name = serializers.CharField()


class PolicyFields(serializers.Serializer[Any]):
    type = serializers.ChoiceField(choices=list(Kind), required=False)
    min = serializers.IntegerField(min_value=0, max_value=10_000, required=False)
    max = serializers.IntegerField(min_value=0, max_value=10_000, required=False)
    scale_up_cpu_threshold = serializers.FloatField(min_value=0, max_value=1, required=False)
    scale_down_cpu_threshold = serializers.FloatField(min_value=0, max_value=1, required=False)
    scale_up_memory_threshold = serializers.FloatField(min_value=0, max_value=1, required=False)
    scale_down_memory_threshold = serializers.FloatField(min_value=0, max_value=1, required=False)
    target_utilisation = serializers.FloatField(min_value=0.01, max_value=1, required=False)
    target_backlog_seconds = serializers.FloatField(min_value=0.1, max_value=86_400, required=False)
    tolerance = serializers.FloatField(min_value=0, max_value=0.99, required=False)
    cooldown_seconds = serializers.FloatField(min_value=0, max_value=86_400, required=False)
    violations = serializers.IntegerField(min_value=1, max_value=100, required=False)
    up_window_seconds = serializers.FloatField(min_value=0, max_value=3600, required=False)
    down_window_seconds = serializers.FloatField(min_value=0, max_value=3600, required=False)
    step = serializers.IntegerField(min_value=1, max_value=10_000, allow_null=True, required=False)


class GroupIn(serializers.Serializer[Any]):
    name = serializers.CharField(max_length=120)
    target = TargetIn()
    policy = PolicyFields(required=False)


class GroupChange(serializers.Serializer[Any]):
    name = serializers.CharField(max_length=120, required=False)
    policy = PolicyFields(required=False)


class GroupOut(serializers.ModelSerializer[Group]):
    target = serializers.SerializerMethodField()
    policy = serializers.SerializerMethodField()

    class Meta:
        model = Group
        fields = ["id", "name", "target", "policy", "paused", "evaluated_at", "version", "created_at"]

    @extend_schema_field(TargetOut)
    def get_target(self, group: Group) -> dict[str, str]:
        name = targets.named(group.target_type, group.target_id)
        return {"type": group.target_type, "id": group.target_id, "name": name}

    @extend_schema_field(PolicyFields)
    def get_policy(self, group: Group) -> dict[str, Any]:
        return vars(autoscaler.policy_of(group))


class MetricsIn(serializers.Serializer[Any]):
    """A metric that is null was asked for and failed; one that is left out stays unknown."""

    cpu = serializers.FloatField(min_value=0, max_value=1, allow_null=True, required=False)
    memory = serializers.FloatField(min_value=0, max_value=1, allow_null=True, required=False)
    queue = serializers.FloatField(min_value=0, max_value=1e9, allow_null=True, required=False)
    observed_at = serializers.DateTimeField(required=False)


class EvaluateIn(serializers.Serializer[Any]):
    metrics = MetricsIn(required=False)


class DecisionOut(serializers.ModelSerializer[Decision]):
    at = serializers.DateTimeField(source="created_at")
    action = serializers.ChoiceField(choices=list(Action))
    inputs = serializers.DictField()

    class Meta:
        model = Decision
        fields = [
            "id",
            "at",
            "current",
            "recommended",
            "applied",
            "action",
            "reason",
            "limited_by",
            "inputs",
            "by",
            "repeats",
            "last_at",
        ]


# --- balancers


class BalancerIn(serializers.Serializer[Any]):
    name = serializers.CharField(max_length=120, validators=[MinLengthValidator(1)])
    strategy = serializers.ChoiceField(choices=list(Strategy))
    role = serializers.CharField(max_length=20, required=False, allow_blank=True)
    region = serializers.CharField(max_length=40, required=False, allow_blank=True)


class BalancerOut(serializers.ModelSerializer[Balancer]):
    strategy = serializers.ChoiceField(choices=list(Strategy))

    class Meta:
        model = Balancer
        fields = ["id", "name", "strategy", "role", "region", "created_at"]


class PickIn(serializers.Serializer[Any]):
    key = serializers.CharField(max_length=200, required=False, allow_blank=True, default="")


class PickOut(serializers.Serializer[Any]):
    pick = serializers.UUIDField(source="pk")
    target = serializers.UUIDField(source="node_id")
    target_name = serializers.CharField(source="node.name")
    in_flight = serializers.SerializerMethodField()
    expires_at = serializers.DateTimeField()

    @extend_schema_field(int)
    def get_in_flight(self, pick: Pick) -> int:
        flying: dict[Any, int] = self.context["in_flight"]
        return flying.get(pick.node_id, 0)


class ReleaseIn(serializers.Serializer[Any]):
    pick = serializers.UUIDField()
    latency_ms = serializers.FloatField(min_value=0, max_value=1e9, required=False, allow_null=True, default=None)
    ok = serializers.BooleanField(required=False, default=True)
