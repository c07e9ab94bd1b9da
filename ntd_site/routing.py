"""Which ASGI application answers what, beside Django."""

from __future__ import annotations

from typing import Any

from channels.auth import AuthMiddlewareStack
from channels.routing import URLRouter
from django.urls import path, re_path

from ntd_site.consumers import LiveConsumer
from sandboxes import streams

websockets = [path("ws/live/", LiveConsumer.as_asgi())]
execution_events = AuthMiddlewareStack(streams.execution_events)


def http_streams(*, otherwise: Any) -> Any:
    return URLRouter(
        [
            path("api/v1/executions/<uuid:pk>/events", execution_events),
            path("api/v1/executions/<uuid:pk>/events/", execution_events),
            re_path(r"", otherwise),
        ]
    )
