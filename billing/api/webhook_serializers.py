"""Webhook endpoints, deliveries and attempts, as the API takes and shows them."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from billing.api.fields import MomentField
from billing.api.serializers import ListQuery
from billing.models import WebhookAttempt, WebhookDelivery, WebhookEndpoint
from billing.outgoing import addresses, endpoints, event_types

EVENT_CHOICES = [event_types.EVERYTHING, *event_types.NAMES]
OVERLAP_HOURS = int(endpoints.OVERLAP.total_seconds() // 3600)
LONGEST_OVERLAP_HOURS = int(endpoints.LONGEST_OVERLAP.total_seconds() // 3600)


class EventTypeAnswer(serializers.Serializer[Any]):
    name = serializers.CharField()
    description = serializers.CharField(source="sentence")
    example = serializers.DictField(help_text="`data` of such an event.")
    staff_only = serializers.BooleanField(source="is_operator")


class EventTypeList(serializers.Serializer[Any]):
    results = EventTypeAnswer(many=True)
    next = serializers.CharField(allow_null=True)
    previous = serializers.CharField(allow_null=True)


def _events(**options: Any) -> serializers.ListField:
    return serializers.ListField(
        child=serializers.ChoiceField(choices=EVENT_CHOICES), min_length=1, max_length=len(EVENT_CHOICES), **options
    )


class EndpointRequest(serializers.Serializer[Any]):
    url = serializers.CharField(max_length=addresses.LONGEST_URL)
    events = _events(help_text='Types of events; `["*"]` is all of them, also those yet to come.')
    description = serializers.CharField(max_length=200, required=False, default="", allow_blank=True)


class EndpointChange(serializers.Serializer[Any]):
    url = serializers.CharField(max_length=addresses.LONGEST_URL, required=False)
    events = _events(required=False)
    description = serializers.CharField(max_length=200, required=False, allow_blank=True)
    enabled = serializers.BooleanField(required=False)


class EndpointAnswer(serializers.ModelSerializer[WebhookEndpoint]):
    events = serializers.ListField(child=serializers.CharField())
    enabled = serializers.BooleanField(source="is_on")
    disabled_reason = serializers.SerializerMethodField()
    disabled_at = serializers.DateTimeField(source="off_at", allow_null=True)
    secret_hint = serializers.CharField(source="hint")

    class Meta:
        model = WebhookEndpoint
        fields = [
            "id",
            "url",
            "description",
            "events",
            "enabled",
            "disabled_reason",
            "disabled_at",
            "failing_since",
            "secret_hint",
            "old_secret_until",
            "created_at",
        ]

    @extend_schema_field(serializers.ChoiceField(choices=["owner", "failing", "gone"], allow_null=True))
    def get_disabled_reason(self, endpoint: WebhookEndpoint) -> str | None:
        return endpoint.off or None


class NewEndpointAnswer(EndpointAnswer):
    secret = serializers.CharField(
        allow_null=True, help_text="What signs: in this answer only, and null when it is replayed."
    )

    class Meta(EndpointAnswer.Meta):
        fields = [*EndpointAnswer.Meta.fields, "secret"]


class RotateRequest(serializers.Serializer[Any]):
    overlap_hours = serializers.IntegerField(
        min_value=0,
        max_value=LONGEST_OVERLAP_HOURS,
        required=False,
        default=OVERLAP_HOURS,
        help_text="How long the old secret signs too.",
    )


class ReplayRequest(serializers.Serializer[Any]):
    since = MomentField(help_text="Every event from then on, up to 10,000, is sent again.")


class ReplayAnswer(serializers.Serializer[Any]):
    events = serializers.IntegerField(help_text="How many are sent again.")


class DeliveryQuery(ListQuery):
    state = serializers.ChoiceField(choices=WebhookDelivery.State.choices, required=False)
    type = serializers.ChoiceField(choices=event_types.NAMES, required=False)


class DeliveryAnswer(serializers.ModelSerializer[WebhookDelivery]):
    endpoint = serializers.UUIDField(source="endpoint_id")
    event = serializers.CharField(source="event.message_id", help_text="The `webhook-id` it is sent with, always.")
    type = serializers.CharField(source="event.type")
    status = serializers.IntegerField(allow_null=True, help_text="Of the last answer; null when none came.")
    next_attempt_at = serializers.DateTimeField(source="due_at", allow_null=True)

    class Meta:
        model = WebhookDelivery
        fields = [
            "id",
            "endpoint",
            "event",
            "type",
            "state",
            "is_replay",
            "attempts",
            "status",
            "error",
            "next_attempt_at",
            "created_at",
            "finished_at",
        ]


class AttemptAnswer(serializers.ModelSerializer[WebhookAttempt]):
    status = serializers.IntegerField(allow_null=True)
    duration_ms = serializers.IntegerField()

    class Meta:
        model = WebhookAttempt
        fields = ["number", "status", "duration_ms", "excerpt", "error", "created_at"]


class DeliveryDetail(DeliveryAnswer):
    data = serializers.DictField(source="event.data")
    log = AttemptAnswer(many=True, source="attempts_in_order")

    class Meta(DeliveryAnswer.Meta):
        fields = [*DeliveryAnswer.Meta.fields, "data", "log"]
