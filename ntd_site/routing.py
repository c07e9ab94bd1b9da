"""Which ASGI application answers what, beside Django."""

from __future__ import annotations

from typing import Any

from channels.auth import AuthMiddlewareStack
from channels.routing import URLRouter
from channels.security.websocket import AllowedHostsOriginValidator
from django.urls import path, re_path

from federation.consumers import AgentConsumer
from ntd_site.consumers import LiveConsumer
from sandboxes import streams

# A page's socket is the browser's session; an agent is no browser, and brings a token that no browser adds by itself.
pages = AllowedHostsOriginValidator(AuthMiddlewareStack(LiveConsumer.as_asgi()))
websockets = URLRouter([path("ws/live/", pages), path("ws/agents/", AgentConsumer.as_asgi())])
execution_events = AuthMiddlewareStack(streams.execution_events)


def http_streams(*, otherwise: Any) -> Any:
    return URLRouter(
        [
            path("api/v1/executions/<uuid:pk>/events", execution_events),
            path("api/v1/executions/<uuid:pk>/events/", execution_events),
            re_path(r"", otherwise),
        ]
    )
