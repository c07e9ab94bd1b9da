"""Which ASGI application answers what, beside Django."""

from __future__ import annotations

from typing import Any

from channels.routing import URLRouter
from django.urls import path, re_path

from ntd_site.consumers import LiveConsumer

websockets = [path("ws/live/", LiveConsumer.as_asgi())]


def http_streams(*, otherwise: Any) -> Any:
    return URLRouter([re_path(r"", otherwise)])
