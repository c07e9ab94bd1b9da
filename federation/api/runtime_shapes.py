"""The shapes of what agents run on: handlers of managed ones, MCP servers."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from federation.api.fields import Json, Seconds
from federation.models import Handler, McpServer
from sandboxes.api.fields import Flag, Strict, Text


class HandlerIn(Strict):
    code = Text(
        required=False,
        max_length=262_144,
        help_text="Python; `handle(payload)` returns the result, `on_message(message)` a reply or None",
    )
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
            "id", "version", "template", "types", "timeout_seconds", "limits", "network", "reads_messages",
            "created_at",
        )  # fmt: skip


class HandlerVersionOut(HandlerOut):
    class Meta(HandlerOut.Meta):
        fields = (*HandlerOut.Meta.fields, "code", "created_by")


def secrets(words: str) -> serializers.DictField:
    # What each may be, `credentials` says.
    return serializers.DictField(
        child=Text(max_length=4096, trim_whitespace=False, allow_null=True), required=False, help_text=words
    )


class McpIn(Strict):
    url = Text(required=False, max_length=500, help_text="of a server over streamable HTTP")
    command = serializers.ListField(
        child=Text(max_length=1000), min_length=1, max_length=50, required=False, help_text="or of one in a sandbox"
    )
    files = serializers.DictField(child=Json(most_bytes=8 * 1024 * 1024), required=False, help_text="for the command")
    headers = secrets("for the url: sealed, never shown again; null takes one away, what is left out stays")
    env = secrets("for the command: variables, kept likewise")
    template = Text(required=False, max_length=80)
    network = Flag(required=False)
    timeout_seconds = Seconds(required=False, min_value=1, max_value=300, help_text="of one conversation")


class ToolOut(serializers.Serializer[Any]):
    name = serializers.CharField()
    description = serializers.CharField(allow_blank=True)
    input_schema = Json(read_only=True)


class McpOut(serializers.ModelSerializer[McpServer]):
    """An MCP server and the tools it had when it was last asked; null when it never answered."""

    command = serializers.ListField(child=serializers.CharField())
    headers = serializers.ListField(child=serializers.CharField(), help_text="names of its secrets")
    env = serializers.ListField(child=serializers.CharField(), help_text="names of its secrets")
    tools = ToolOut(many=True, allow_null=True)
    error = serializers.CharField(allow_blank=True, help_text="why it could not be asked the last time")

    class Meta:
        model = McpServer
        fields = (
            "url", "command", "headers", "env", "template", "network", "timeout_seconds", "tools", "tools_read_at",
            "error",
        )  # fmt: skip
