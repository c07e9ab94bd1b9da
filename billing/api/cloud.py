"""How CloudEvents reach a view: the same strict JSON, as `{"events": [...]}`."""

from __future__ import annotations

import io
from typing import Any

from rest_framework import exceptions, serializers
from rest_framework.request import Request
from rest_framework.settings import api_settings

from billing import cloud_events

# Ours, named in settings: apps import nothing of ntd_site.
_StrictJSON: Any = api_settings.DEFAULT_PARSER_CLASSES[0]


class BatchParser(_StrictJSON):
    """`application/cloudevents-batch+json`: a list of events."""

    media_type = cloud_events.BATCH

    def parse(self, stream: Any, media_type: str | None = None, parser_context: Any = None) -> Any:
        return self.events(b'{"events": %b}', stream, media_type, parser_context)

    def events(self, frame: bytes, stream: Any, media_type: str | None, parser_context: Any) -> Any:
        body = super().parse(io.BytesIO(frame % stream.read()), media_type, parser_context)
        if len(body) != 1:
            raise exceptions.ParseError("The body is not valid JSON: it goes on after its end.")
        return body


class SingleParser(BatchParser):
    """`application/cloudevents+json`: one event."""

    media_type = cloud_events.SINGLE

    def parse(self, stream: Any, media_type: str | None = None, parser_context: Any = None) -> Any:
        body = self.events(b'{"events": [%b]}', stream, media_type, parser_context)
        if len(body["events"]) != 1:
            raise exceptions.ParseError("The body is not one CloudEvent.")
        return body


PARSERS = [*api_settings.DEFAULT_PARSER_CLASSES, SingleParser, BatchParser]


def kind_of(request: Request) -> str:
    """The media type of a body of CloudEvents; empty for any other."""
    sent = str(request.content_type or "").partition(";")[0].strip().lower()
    return sent if sent in (cloud_events.SINGLE, cloud_events.BATCH) else ""


class CloudEvent(serializers.Serializer[Any]):
    """A CloudEvent in structured mode; extension attributes may be there and are not kept."""

    specversion = serializers.ChoiceField(choices=["1.0"])
    id = serializers.CharField(max_length=255)
    source = serializers.CharField(max_length=190)
    type = serializers.CharField(help_text="The meter, or a name that ends in `.<meter>`.")
    time = serializers.DateTimeField(required=False)
    subject = serializers.CharField(required=False, max_length=100, help_text="The agent.")
    datacontenttype = serializers.CharField(required=False)
    data = serializers.DictField(required=False, help_text="`quantity` (1 if missing), `agent`, `properties`.")
