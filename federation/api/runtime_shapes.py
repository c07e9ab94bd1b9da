"""The shapes of what agents run on: handlers of managed ones."""

from __future__ import annotations

from rest_framework import serializers

from federation.api.fields import Flag, Json, Seconds, Strict, Text
from federation.models import Handler


class HandlerIn(Strict):
    code = Text(required=False, max_length=262_144, help_text="Python; `handle(payload)` returns the result")
    template = Text(required=False, max_length=80)
    types = serializers.ListField(child=Text(max_length=60), max_length=100, required=False, help_text="none: any")
    timeout_seconds = Seconds(required=False, min_value=1, max_value=3600)
    limits = serializers.DictField(child=Json(), required=False)
    network = Flag(required=False)


class HandlerOut(serializers.ModelSerializer[Handler]):
    """A version of an agent's handler, without its code."""

    types = serializers.ListField(child=serializers.CharField())
    limits = serializers.DictField(child=serializers.FloatField())

    class Meta:
        model = Handler
        fields: tuple[str, ...] = (
            "id", "version", "template", "types", "timeout_seconds", "limits", "network", "created_at",
        )  # fmt: skip


class HandlerVersionOut(HandlerOut):
    class Meta(HandlerOut.Meta):
        fields = (*HandlerOut.Meta.fields, "code", "created_by")
