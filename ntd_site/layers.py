"""The live layer: how a change in any process reaches every web process, as one Redis PUBLISH.

Apps reach it by `channels.layers.get_channel_layer()`. It is not a group layer: `group_send` to each
socket was measured at 15 times the CPU of one hub per process (see hub.py).
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from typing import Any

import redis
import redis.asyncio

CHANNEL = "ntd:live"
log = logging.getLogger(__name__)


class LiveLayer:
    """`nudge` says that something changed; `messages` yields what all processes said."""

    extensions: list[str] = []

    def __init__(self, url: str, **_: Any) -> None:
        self.url = url
        self._redis = redis.Redis.from_url(url, socket_timeout=2, socket_connect_timeout=2)

    def nudge(self, account_id: object, topics: list[str], data: dict[str, Any] | None = None) -> None:
        """Tell the viewers of `topics` in one account (None: staff only). A lost nudge costs seconds, so
        a Redis that is away is logged, never raised."""
        message = {"account": str(account_id) if account_id else None, "topics": topics}
        if data is not None:
            message["data"] = data
        try:
            self._redis.publish(CHANNEL, json.dumps(message, default=str))
        except redis.RedisError as error:
            log.warning("live nudge lost: %s", error)

    async def new_channel(self, prefix: str = "") -> str:
        """Channels asks this for consumers of its own (the one that refuses foreign origins)."""
        return "nobody"

    async def receive(self, channel: str) -> dict[str, Any]:
        """Nothing is ever sent to one channel here."""
        await asyncio.Event().wait()
        return {}

    async def messages(self) -> AsyncIterator[dict[str, Any]]:
        """Every message of every process, for as long as the connection lasts; first that it listens."""
        # redis-py 8 drops idle sockets after 5 s unless told otherwise.
        client = redis.asyncio.Redis.from_url(self.url, socket_timeout=None, health_check_interval=15)
        try:
            async with client.pubsub() as listener:
                await listener.subscribe(CHANNEL)
                async for item in listener.listen():
                    if item["type"] == "subscribe":
                        yield {"account": None, "topics": [], "listening": True}
                    elif item["type"] == "message":
                        yield json.loads(item["data"])
        finally:
            await client.aclose()
