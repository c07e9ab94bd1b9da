"""The shapes of requests and answers."""

from __future__ import annotations

import base64
import binascii
from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from federation.api.fields import Json, Seconds, Share, Unread
from federation.api.runtime_shapes import HandlerIn, HandlerOut, McpIn, McpOut
from federation.assignment import STRATEGIES
from federation.models import Agent, DeadLetter, Event, Federation, Message, TopologyVersion
from federation.models.traffic import MESSAGE_TYPES, OUTCOMES
from federation.topology import SHAPES
from sandboxes.api.fields import Flag, Strict, Text, Whole

BATCH_MOST = 1000
LONGEST_TTL_SECONDS = 7 * 24 * 3600
LONGEST_REPLY_SECONDS = 24 * 3600


class NotBuilt(Exception):
    """Raised for a choice the contract names and this version does not have."""

    code = "not_implemented"


class Nothing(serializers.Serializer[Any]):
    """A request without a body."""


def capabilities(**options: Any) -> serializers.ListField:
    return serializers.ListField(child=Text(max_length=60), max_length=100, **options)


class AcceptedBatchOut(serializers.Serializer[Any]):
    results = serializers.ListField(child=serializers.DictField(), help_text="in order: an id or a problem each")


# Federations


class FederationChange(Strict):
    name = Text(required=False, max_length=120)
    topology = serializers.ChoiceField(SHAPES, required=False)
    strategy = serializers.ChoiceField(STRATEGIES, required=False)
    max_agents = Whole(required=False, min_value=1, max_value=2000)
    fan_out = Whole(required=False, min_value=2, max_value=64)
    max_hops = Whole(required=False, min_value=0, max_value=1000, help_text="0 is no limit, or 5 where relayed")
    lease_seconds = Whole(required=False, min_value=2, max_value=3600)
    ageing_seconds = Whole(required=False, min_value=1, max_value=86_400)
    redelivery_seconds = Whole(required=False, min_value=1, max_value=3600)
    inbox_limit = Whole(required=False, min_value=1, max_value=1_000_000)
    delivery = serializers.ChoiceField(Federation.Delivery.values, required=False)
    heartbeat_seconds = Whole(required=False, min_value=1, max_value=300)
    agent_timeout_seconds = Whole(required=False, min_value=2, max_value=3600)
    region = Text(required=False, allow_blank=True, max_length=60)


class FederationIn(FederationChange):
    name = Text(max_length=120)


class FederationOut(serializers.ModelSerializer[Federation]):
    effective_topology = serializers.SerializerMethodField()
    leader = serializers.UUIDField(source="leader_id", allow_null=True)
    delivery = serializers.ChoiceField(Federation.Delivery.values)
    agents = serializers.SerializerMethodField()
    tasks = serializers.SerializerMethodField()

    class Meta:
        model = Federation
        fields = (
            "id", "name", "topology", "effective_topology", "strategy", "max_agents", "fan_out", "max_hops",
            "lease_seconds", "ageing_seconds", "redelivery_seconds", "inbox_limit", "delivery", "heartbeat_seconds",
            "agent_timeout_seconds", "region", "topology_version", "leader", "epoch", "agents", "tasks", "version",
            "created_at",
        )  # fmt: skip

    def _standing(self, federation: Federation) -> Any:
        return self.context["standings"][federation.pk]

    @extend_schema_field(serializers.ChoiceField([shape for shape in SHAPES if shape != "adaptive"]))
    def get_effective_topology(self, federation: Federation) -> str:
        standing = self._standing(federation)
        return federation.effective_topology(standing.agents - standing.lost)

    @extend_schema_field({"type": "integer", "description": "Members, lost ones included."})
    def get_agents(self, federation: Federation) -> int:
        return int(self._standing(federation).agents)

    @extend_schema_field({"type": "object", "additionalProperties": {"type": "integer"}, "description": "By state."})
    def get_tasks(self, federation: Federation) -> dict[str, int]:
        return {str(state): count for state, count in self._standing(federation).tasks.items()}


class TopologyNodeOut(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    name = serializers.CharField()
    role = serializers.CharField()
    status = serializers.CharField()
    load = serializers.FloatField()
    level = serializers.IntegerField()


class MetricsOut(serializers.Serializer[Any]):
    links = serializers.IntegerField()
    diameter = serializers.IntegerField()
    mean_hops = serializers.FloatField()


class EventOut(serializers.ModelSerializer[Event]):
    agent = serializers.UUIDField(source="agent_id", allow_null=True)
    task = serializers.UUIDField(source="task_id", allow_null=True)

    class Meta:
        model = Event
        fields = ("id", "kind", "text", "agent", "task", "created_at")


class TopologyVersionOut(serializers.ModelSerializer[TopologyVersion]):
    at = serializers.DateTimeField(source="created_at")
    figures = Json(read_only=True, help_text="of a change by measurement: the windows that led to it")

    class Meta:
        model = TopologyVersion
        fields = ("version", "shape", "members", "epoch", "reason", "figures", "at")


class TopologyOut(serializers.Serializer[Any]):
    topology = serializers.CharField()
    effective_topology = serializers.CharField()
    topology_version = serializers.IntegerField()
    leader = serializers.UUIDField(allow_null=True)
    epoch = serializers.IntegerField()
    nodes = TopologyNodeOut(many=True)
    links = serializers.ListField(child=serializers.ListField(child=serializers.UUIDField()))
    metrics = MetricsOut()
    history = TopologyVersionOut(many=True, help_text="the versions stored last, the newest first")


class RouteOut(serializers.Serializer[Any]):
    path = serializers.ListField(child=serializers.UUIDField())
    hops = serializers.IntegerField()


# Agents


class AgentChange(Strict):
    name = Text(required=False, max_length=120)
    type = Text(required=False, allow_blank=True, max_length=60)
    capabilities = capabilities(required=False)
    weight = Whole(required=False, min_value=0, max_value=1_000_000)
    max_concurrent_tasks = Whole(required=False, min_value=1, max_value=1000)
    public_key = Text(required=False, allow_blank=True, max_length=64, help_text="Ed25519, base64")
    region = Text(required=False, allow_blank=True, max_length=60)
    metadata = Json(required=False, allow_null=False, most_bytes=16 * 1024)
    draining = Flag(required=False, help_text="true: no new work, what it runs it finishes")
    handler = HandlerIn(required=False, allow_null=True, help_text="of a managed agent, for tasks of your own types")
    mcp = McpIn(required=False, help_text="of an agent that is an MCP server")

    def validate_public_key(self, value: str) -> str:
        try:
            is_key = not value or len(base64.b64decode(value, validate=True)) == 32
        except (binascii.Error, ValueError):
            is_key = False
        if not is_key:
            raise serializers.ValidationError("Give the 32 bytes of an Ed25519 public key as base64.")
        return value

    def validate_metadata(self, value: Any) -> Any:
        if not isinstance(value, dict):
            raise serializers.ValidationError("Give an object.")
        return value


class AgentIn(AgentChange):
    draining = None  # a new one is taken on to work
    name = Text(max_length=120)
    runtime = serializers.ChoiceField(Agent.Runtime.values, required=False)


class AgentOut(serializers.ModelSerializer[Agent]):
    federation = serializers.UUIDField(source="federation_id")
    status = serializers.ChoiceField(Agent.STATUSES)
    load = serializers.FloatField()
    running = serializers.IntegerField()
    draining = serializers.BooleanField(source="is_draining", help_text="no new work; it finishes what it runs")
    capabilities = serializers.ListField(child=serializers.CharField())
    connection = serializers.ChoiceField(Agent.Connection.values, allow_blank=True, help_text="of a remote agent")
    handler = HandlerOut(allow_null=True)
    mcp = serializers.SerializerMethodField()

    class Meta:
        model = Agent
        fields = (
            "id", "federation", "name", "type", "runtime", "capabilities", "weight", "max_concurrent_tasks",
            "public_key", "region", "metadata", "status", "draining", "load", "running", "connection", "handler", "mcp",
            "last_heartbeat_at", "created_at",
        )  # fmt: skip

    @extend_schema_field(McpOut(allow_null=True))
    def get_mcp(self, agent: Agent) -> Any:
        return McpOut(agent.mcp).data if hasattr(agent, "mcp") else None


class NewAgentOut(AgentOut):
    token = serializers.CharField(allow_null=True, help_text="of a remote agent; shown this once")

    class Meta(AgentOut.Meta):
        fields = (*AgentOut.Meta.fields, "token")


class RunningIn(Strict):
    task = serializers.UUIDField()
    epoch = Whole(min_value=0, max_value=2_000_000_000)
    progress = Share(required=False, allow_null=True)
    note = Text(required=False, allow_null=True, allow_blank=True, max_length=200)


class HeartbeatIn(Strict):
    status = serializers.ChoiceField(("idle", "busy", "unavailable"), required=False)
    load = Share(required=False, allow_null=True)
    running = RunningIn(many=True, required=False, max_length=1000)


class HeartbeatOfIn(HeartbeatIn):
    agent = serializers.UUIDField()


class HeartbeatBatchIn(Strict):
    heartbeats = serializers.ListField(child=Json(), min_length=1, max_length=BATCH_MOST)


class HeartbeatBatchOut(serializers.Serializer[Any]):
    results = serializers.ListField(child=serializers.DictField(), help_text="in order: an answer or a problem each")


class HeartbeatOut(serializers.Serializer[Any]):
    topology_version = serializers.IntegerField()
    epoch = serializers.IntegerField()
    cancel = serializers.ListField(child=serializers.UUIDField())
    neighbours = serializers.ListField(child=serializers.UUIDField())


class HelloIn(Strict):
    connection = serializers.ChoiceField(Agent.Connection.values, required=False)


class TokenOut(serializers.Serializer[Any]):
    token = serializers.CharField(help_text="shown this once")


# Messages


class MessageIn(Strict):
    to = serializers.UUIDField(source="recipient", required=False, allow_null=True, help_text="null: broadcast")
    type = serializers.ChoiceField(MESSAGE_TYPES, required=False)
    payload = Json(required=False)
    priority = Whole(required=False, min_value=0, max_value=9)
    ttl_seconds = Whole(required=False, min_value=1, max_value=LONGEST_TTL_SECONDS)
    correlation_id = Text(required=False, allow_blank=True, max_length=200)
    message_id = Text(required=False, max_length=200, help_text="the same one again within 24 hours is sent once")
    durable = Flag(required=False)
    reply_timeout_seconds = Seconds(
        required=False, max_value=LONGEST_REPLY_SECONDS, help_text="asks for a reply; one that comes later is history"
    )

    def get_fields(self) -> dict[str, Any]:
        # `from` cannot be the name of a class attribute.
        sender = serializers.UUIDField(source="sender", required=False, help_text="an agent's token sends as itself")
        return {"from": sender, **super().get_fields()}


class MessageBatchIn(Strict):
    messages = serializers.ListField(child=Unread(), min_length=1, max_length=BATCH_MOST)


class ReceiptOut(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    path = serializers.ListField(child=serializers.UUIDField())
    hops = serializers.IntegerField()
    recipients = serializers.IntegerField()
    expires_at = serializers.DateTimeField()
    correlation_id = serializers.CharField(allow_blank=True)


class MessageOut(serializers.ModelSerializer[Message]):
    to = serializers.UUIDField(source="recipient", allow_null=True)
    payload = Json(read_only=True)
    path = serializers.ListField(child=serializers.UUIDField())
    outcome = serializers.ChoiceField(OUTCOMES)

    class Meta:
        model = Message
        fields = (
            "id", "to", "type", "payload", "priority", "ttl_seconds", "correlation_id", "path", "hops", "recipients",
            "delivered", "expired", "dead", "outcome", "created_at",
        )  # fmt: skip

    def get_fields(self) -> dict[str, Any]:
        return {"from": serializers.UUIDField(source="sender"), **super().get_fields()}


class ItemOut(serializers.Serializer[Any]):
    """A message in an inbox."""

    id = serializers.UUIDField()
    to = serializers.UUIDField(allow_null=True)
    type = serializers.CharField()
    payload = Json(read_only=True)
    priority = serializers.IntegerField()
    correlation_id = serializers.CharField(allow_blank=True)
    path = serializers.ListField(child=serializers.UUIDField())
    hops = serializers.IntegerField()
    delivery_count = serializers.IntegerField()
    created_at = serializers.DateTimeField()
    expires_at = serializers.DateTimeField()
    relay_to = serializers.UUIDField(
        allow_null=True, help_text="who it is for, where this agent only passes it on: acknowledging it does"
    )

    def get_fields(self) -> dict[str, Any]:
        return {"from": serializers.UUIDField(source="sender"), **super().get_fields()}


class AnsweredOut(ReceiptOut):
    """A receipt; of a request somebody waited for, with its reply."""

    reply = ItemOut(allow_null=True)


class InboxOut(serializers.Serializer[Any]):
    results = ItemOut(many=True)


class AcknowledgeIn(Strict):
    ids = serializers.ListField(child=serializers.UUIDField(), min_length=1, max_length=BATCH_MOST)


class AcknowledgeOut(serializers.Serializer[Any]):
    acknowledged = serializers.IntegerField()


class AccountingOut(serializers.Serializer[Any]):
    accepted = serializers.IntegerField()
    delivered = serializers.IntegerField()
    expired = serializers.IntegerField()
    dead = serializers.IntegerField()
    queued = serializers.IntegerField()


class DeadLetterOut(serializers.ModelSerializer[DeadLetter]):
    kind = serializers.ChoiceField(("message", "task"))
    message = Json(read_only=True)
    task = serializers.UUIDField(source="task_id", allow_null=True)
    agent = serializers.UUIDField(source="agent_id", allow_null=True)
    at = serializers.DateTimeField(source="created_at")

    class Meta:
        model = DeadLetter
        fields = ("id", "kind", "message", "task", "agent", "reason", "error", "at", "replayed_at")


class ReplayOut(serializers.Serializer[Any]):
    kind = serializers.ChoiceField(("message", "task"))
    id = serializers.UUIDField(help_text="of the task, or of the new message")


class ReplayAllIn(Strict):
    reason = serializers.ChoiceField(DeadLetter.Reason.values, required=False)


class ReplaysOut(serializers.Serializer[Any]):
    replayed = serializers.IntegerField()
    refused = serializers.IntegerField(help_text="such as to agents that left, or into full inboxes")
