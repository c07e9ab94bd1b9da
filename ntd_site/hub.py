"""The live hub: one task per web process that hears every change and tells the sockets that watch it.

    any process --LiveLayer.nudge--> Redis --messages()--> Hub --10 times a second--> sockets

Nudges are coalesced per tick, and a socket with a send under way misses ticks, never blocks others.
"""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any, Protocol

from channels.layers import get_channel_layer

TICK_SECONDS = 0.1
RECONNECT_SECONDS = 1.0
log = logging.getLogger(__name__)


class Viewer(Protocol):
    """A socket: the topics it watches, the accounts it may see (None: all), and how to send."""

    topics: set[str]
    accounts: set[str] | None

    async def send_text(self, text: str) -> None: ...


class Hub:
    def __init__(self) -> None:
        self.viewers: set[Viewer] = set()
        self._pending: dict[Viewer, dict[str, Any]] = {}
        self._sending: set[Viewer] = set()
        self._tasks: list[asyncio.Task[None]] = []

    def join(self, viewer: Viewer) -> None:
        self.viewers.add(viewer)
        if not self._tasks or any(task.done() for task in self._tasks):
            for task in self._tasks:
                task.cancel()
            self._tasks = [asyncio.create_task(self._listen()), asyncio.create_task(self._tick())]

    def leave(self, viewer: Viewer) -> None:
        self.viewers.discard(viewer)
        self._pending.pop(viewer, None)
        if not self.viewers:
            for task in self._tasks:
                task.cancel()
            self._tasks = []

    def take(self, message: dict[str, Any]) -> None:
        """Note one message for each viewer that watches a topic of it and may see its account."""
        account, topics = message["account"], message["topics"]
        for viewer in self.viewers:
            if viewer.accounts is not None and account not in viewer.accounts:
                continue
            watched = [topic for topic in topics if topic in viewer.topics]
            if not watched:
                continue
            pending = self._pending.setdefault(viewer, {"topics": {}, "data": []})
            if "data" in message:
                pending["data"] += [{"topic": topic, "data": message["data"]} for topic in watched]
            else:
                pending["topics"] |= dict.fromkeys(watched)

    async def flush(self) -> None:
        for viewer in [viewer for viewer in self._pending if viewer not in self._sending]:
            pending = self._pending.pop(viewer)
            self._sending.add(viewer)
            asyncio.create_task(self._send(viewer, pending))

    async def _send(self, viewer: Viewer, pending: dict[str, Any]) -> None:
        try:
            if pending["topics"]:
                await viewer.send_text(json.dumps({"t": "nudge", "topics": list(pending["topics"])}))
            for item in pending["data"]:
                await viewer.send_text(json.dumps({"t": "data", **item}))
        except Exception:  # noqa: BLE001 - whatever it was, this socket is gone and the others are not
            log.debug("socket went away", exc_info=True)
            self.leave(viewer)
        finally:
            self._sending.discard(viewer)

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_SECONDS)
            await self.flush()

    async def _listen(self) -> None:
        while True:
            try:
                async for message in get_channel_layer().messages():
                    self.take(message)
            except asyncio.CancelledError:
                raise
            except Exception as error:  # noqa: BLE001 - the hub outlives any trouble with Redis
                log.warning("live hub lost Redis, retrying: %s", error)
                await asyncio.sleep(RECONNECT_SECONDS)


hub = Hub()
