"""The live layer: how a change in any process reaches every web process, as a Redis PUBLISH.

    nudge --> Outbox --20 times a second--> PUBLISH --> messages() of each web process

Apps reach it by `channels.layers.get_channel_layer()`. It is not a group layer: `group_send` to each
socket was measured at 15 times the CPU of one hub per process (see hub.py). What changes often is said once a tick,
by a thread of its own: an execution changes four times in a moment, and a PUBLISH costs as much as a query. So one
PUBLISH has all that a process has to say (a list).
"""

from __future__ import annotations

import asyncio
import atexit
import json
import logging
import os
import threading
import time
from collections.abc import AsyncIterator
from typing import Any

import redis
import redis.asyncio

CHANNEL = "ntd:live"
# Half of the hub's own, so that pages hear of it with the next one.
TICK_SECONDS = 0.05
log = logging.getLogger(__name__)


class Outbox:
    """What this process has to say, merged by account, and sent by a thread that only wakes when there is something."""

    def __init__(self, url: str) -> None:
        self._redis = redis.Redis.from_url(url, socket_timeout=2, socket_connect_timeout=2)
        self._lock = threading.Lock()
        self._filled = threading.Event()
        self._nudges: dict[str | None, dict[str, None]] = {}
        self._data: list[dict[str, Any]] = []
        self._sender = 0
        atexit.register(self.send)

    def put(self, account: str | None, topics: list[str], data: dict[str, Any] | None) -> None:
        with self._lock:
            if data is None:
                self._nudges.setdefault(account, {}).update(dict.fromkeys(topics))
            else:
                self._data.append({"account": account, "topics": topics, "data": data})
            if self._sender != os.getpid():  # also after a fork, which leaves the thread behind
                self._sender = os.getpid()
                threading.Thread(target=self._run, name="live-outbox", daemon=True).start()
        if not self._filled.is_set():  # which is cheaper than to set it again
            self._filled.set()

    def send(self) -> None:
        with self._lock:
            nudges, self._nudges = self._nudges, {}
            data, self._data = self._data, []
        messages = [{"account": account, "topics": list(topics)} for account, topics in nudges.items()] + data
        if not messages:
            return
        try:
            self._redis.publish(CHANNEL, json.dumps(messages, default=str))
        except redis.RedisError as error:
            log.warning("%d live nudges lost: %s", len(messages), error)

    def _run(self) -> None:
        while self._filled.wait():
            time.sleep(TICK_SECONDS)
            self._filled.clear()
            try:
                self.send()
            except Exception:  # noqa: BLE001 - a thread that ended would leave this process silent for good
                log.exception("live nudges were lost")


class LiveLayer:
    """`nudge` says that something changed; `messages` yields what all processes said."""

    extensions: list[str] = []

    def __init__(self, url: str, **_: Any) -> None:
        self.url = url
        self._outbox = Outbox(url)

    def nudge(self, account_id: object, topics: list[str], data: dict[str, Any] | None = None) -> None:
        """Tell the viewers of `topics` in one account (None: staff only), within a tick. A lost nudge costs seconds,
        so a Redis that is away is logged, never raised."""
        self._outbox.put(str(account_id) if account_id else None, topics, data)

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
                        for message in json.loads(item["data"]):
                            yield message
        finally:
            await client.aclose()
