"""The shapes of tasks: what is asked for, what is answered, what agents say about them."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from federation import dependencies
from federation.api.fields import Json, Moment, Share, TaskName
from federation.api.serializers import BATCH_MOST, AgentOut, capabilities
from federation.assignment import STRATEGIES
from federation.models import Attempt, Task
from federation.submission import MOST_NEEDED
from sandboxes.api.fields import Flag, Strict, Text, Whole


class TaskIn(Strict):
    type = Text(max_length=60)
    payload = Json(required=False)
    priority = Whole(required=False, min_value=0, max_value=9)
    required_capabilities = capabilities(required=False)
    deadline = Moment(required=False, allow_null=True)
    max_attempts = Whole(required=False, min_value=1, max_value=100)
    strategy = serializers.ChoiceField(STRATEGIES, required=False)
    queue_if_empty = Flag(required=False)
    depends_on = serializers.ListField(
        child=TaskName(),
        required=False,
        max_length=MOST_NEEDED,
        help_text="tasks that must have succeeded before: ids; in a batch also an item's place (from 0) or `key`",
    )


class TaskItemIn(TaskIn):
    """A task of a batch."""

    key = Text(required=False, max_length=60, help_text="by which other items of the batch name it")


class TaskBatchIn(Strict):
    tasks = serializers.ListField(child=Json(), min_length=1, max_length=BATCH_MOST)


class AttemptOut(serializers.ModelSerializer[Attempt]):
    agent = serializers.UUIDField(source="agent_id")
    execution = serializers.UUIDField(source="execution_id", allow_null=True)
    cost_credits = serializers.SerializerMethodField()

    class Meta:
        model = Attempt
        fields = (
            "epoch", "agent", "state", "execution", "assigned_at", "started_at", "ended_at", "lease_expires_at",
            "error", "is_late", "cost_credits",
        )  # fmt: skip

    @extend_schema_field(serializers.CharField())
    def get_cost_credits(self, attempt: Attempt) -> str:
        return _credits(attempt.cost_ucr)


def _credits(ucr: int) -> str:
    return f"{ucr // 1_000_000}.{ucr % 1_000_000:06d}"


class TaskRow(serializers.ModelSerializer[Task]):
    """A task in a list: without what may be large."""

    federation = serializers.UUIDField(source="federation_id")
    assigned_to = serializers.UUIDField(source="assigned_to_id", allow_null=True)
    required_capabilities = serializers.ListField(child=serializers.CharField())
    reason = serializers.CharField(allow_blank=True, help_text="why it is still queued")

    class Meta:
        model = Task
        fields: tuple[str, ...] = (
            "id", "federation", "type", "label", "priority", "required_capabilities", "deadline", "max_attempts",
            "strategy", "state", "reason", "assigned_to", "epoch", "progress", "progress_note", "error", "created_at",
            "started_at", "finished_at",
        )  # fmt: skip


class TaskOut(TaskRow):
    payload = Json(read_only=True)
    result = Json(read_only=True)
    attempts = serializers.SerializerMethodField()
    depends_on = serializers.SerializerMethodField()
    cost_credits = serializers.SerializerMethodField()

    class Meta(TaskRow.Meta):
        fields = (*TaskRow.Meta.fields, "depends_on", "payload", "result", "attempts", "cost_credits")

    @extend_schema_field({"type": "array", "items": {"type": "string", "format": "uuid"}})
    def get_depends_on(self, task: Task) -> list[str]:
        needed = sorted(task.dependencies.all(), key=lambda dependency: dependency.position)
        return [str(dependency.needs_id) for dependency in needed]

    def _attempts(self, task: Task) -> list[Attempt]:
        return sorted(task.attempts.all(), key=lambda attempt: attempt.epoch)

    @extend_schema_field(AttemptOut(many=True))
    def get_attempts(self, task: Task) -> Any:
        return AttemptOut(self._attempts(task), many=True).data

    @extend_schema_field({"type": "string", "description": "What its attempts' time and executions cost."})
    def get_cost_credits(self, task: Task) -> str:
        return _credits(sum(attempt.full_cost_ucr for attempt in self._attempts(task)))


class ClaimedTaskOut(TaskOut):
    """A task as its agent gets it: the payload of one that depends on others has their results."""

    payload = serializers.SerializerMethodField()

    @extend_schema_field({"description": "With `dependencies`, the results by task id, when it depends on others."})
    def get_payload(self, task: Task) -> Any:
        return dependencies.payload_of(task)


class ClaimOut(serializers.Serializer[Any]):
    task = ClaimedTaskOut()
    epoch = serializers.IntegerField()
    lease_expires_at = serializers.DateTimeField()


class ClaimBatchIn(Strict):
    max = Whole(required=False, min_value=1, max_value=BATCH_MOST, help_text="100 when left out")


class ClaimBatchOut(serializers.Serializer[Any]):
    results = ClaimOut(many=True)


class HelloOut(serializers.Serializer[Any]):
    """What a remote agent keeps to, and what it has under way."""

    agent = AgentOut()
    running = ClaimOut(many=True)
    heartbeat_seconds = serializers.IntegerField()
    agent_timeout_seconds = serializers.IntegerField()
    lease_seconds = serializers.IntegerField()
    redelivery_seconds = serializers.IntegerField()
    topology_version = serializers.IntegerField()
    epoch = serializers.IntegerField()


class ExtendIn(Strict):
    epoch = Whole(min_value=0, max_value=2_000_000_000)
    progress = Share(required=False, allow_null=True)
    note = Text(required=False, allow_null=True, allow_blank=True, max_length=200, help_text="where it is, in words")


class ExtendOut(serializers.Serializer[Any]):
    epoch = serializers.IntegerField()
    lease_expires_at = serializers.DateTimeField()


class CompleteIn(Strict):
    epoch = Whole(min_value=0, max_value=2_000_000_000)
    result = Json(required=False)


class CompleteItemIn(CompleteIn):
    task = serializers.UUIDField()


class CompleteBatchIn(Strict):
    tasks = serializers.ListField(child=Json(), min_length=1, max_length=BATCH_MOST)


class FailIn(Strict):
    epoch = Whole(min_value=0, max_value=2_000_000_000)
    error = Text(max_length=10_000)
    retryable = Flag(required=False)
