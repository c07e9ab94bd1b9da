"""The live hub: one task per web process that hears every change and tells the sockets that watch it.

    any process --LiveLayer.nudge--> Redis --messages()--> Hub --10 times a second--> sockets

Nudges are coalesced per tick, and a socket with a send under way misses ticks, never blocks others.
A socket that takes nothing for a while is closed (1013: come again), and what it would have got never
piles up: too much data becomes one word to fetch it anew.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from typing import Any, Protocol

from channels.layers import get_channel_layer

TICK_SECONDS = 0.1
RECONNECT_SECONDS = 1.0
MOST_LAG_SECONDS = 15.0
MOST_DATA = 200
TRY_AGAIN = 1013
log = logging.getLogger(__name__)


class Viewer(Protocol):
    """A socket: whose it is, the topics it watches, the accounts it may see (None: all), and how to send."""

    person: str
    topics: set[str]
    accounts: set[str] | None

    async def send_text(self, text: str) -> None: ...
    async def end(self, code: int) -> None: ...


class Hub:
    def __init__(self) -> None:
        self.viewers: set[Viewer] = set()
        self._watching: dict[str, set[Viewer]] = {}
        self._pending: dict[Viewer, dict[str, Any]] = {}
        self._sending: dict[Viewer, float] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._sends: set[asyncio.Task[None]] = set()

    def sockets_of(self, person: str) -> int:
        return sum(viewer.person == person for viewer in self.viewers)

    def join(self, viewer: Viewer) -> None:
        self.viewers.add(viewer)
        loop = asyncio.get_running_loop()
        if not self._tasks or any(task.done() or task.get_loop() is not loop for task in self._tasks):
            self._stop()
            self._tasks = [asyncio.create_task(self._listen()), asyncio.create_task(self._tick())]

    def leave(self, viewer: Viewer) -> None:
        self.watch(viewer, set())
        self.viewers.discard(viewer)
        self._pending.pop(viewer, None)
        if not self.viewers:
            self._stop()

    def _stop(self) -> None:
        for task in self._tasks:
            if not task.get_loop().is_closed():
                task.cancel()
        self._tasks = []

    def watch(self, viewer: Viewer, topics: set[str]) -> None:
        """From now on exactly these topics."""
        for topic in viewer.topics - topics:
            watchers = self._watching.get(topic, set())
            watchers.discard(viewer)
            if not watchers:
                self._watching.pop(topic, None)
        for topic in topics if viewer in self.viewers else ():
            self._watching.setdefault(topic, set()).add(viewer)
        viewer.topics = topics

    def take(self, message: dict[str, Any]) -> None:
        """Note one message for each viewer that watches a topic of it and may see its account."""
        for topic in message["topics"]:
            for viewer in self._watching.get(topic, ()):
                if viewer.accounts is None or message["account"] in viewer.accounts:
                    self._note(viewer, topic, message)

    def _note(self, viewer: Viewer, topic: str, message: dict[str, Any]) -> None:
        pending = self._pending.setdefault(viewer, {"topics": {}, "resync": {}, "data": []})
        if "data" not in message:
            pending["topics"][topic] = None
        elif topic in pending["resync"] or len(pending["data"]) >= MOST_DATA:
            pending["resync"] |= dict.fromkeys([topic, *(item["topic"] for item in pending["data"])])
            pending["data"].clear()
        else:
            pending["data"].append({"topic": topic, "data": message["data"]})

    async def flush(self) -> None:
        for viewer in [viewer for viewer in self._pending if viewer not in self._sending]:
            self._sending[viewer] = time.monotonic()
            send = asyncio.create_task(self._send(viewer, self._pending.pop(viewer)))
            self._sends.add(send)
            send.add_done_callback(self._sends.discard)
        for viewer, since in list(self._sending.items()):
            if time.monotonic() - since > MOST_LAG_SECONDS:
                self._sending.pop(viewer)
                self.leave(viewer)
                await viewer.end(TRY_AGAIN)

    async def _send(self, viewer: Viewer, pending: dict[str, Any]) -> None:
        try:
            if pending["topics"]:
                await viewer.send_text(json.dumps({"t": "nudge", "topics": list(pending["topics"])}))
            for topic in pending["resync"]:
                await viewer.send_text(json.dumps({"t": "resync", "topic": topic}))
            for item in pending["data"]:
                await viewer.send_text(json.dumps({"t": "data", **item}))
        except Exception:  # noqa: BLE001 - whatever it was, this socket is gone and the others are not
            log.debug("socket went away", exc_info=True)
            self.leave(viewer)
        finally:
            self._sending.pop(viewer, None)

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_SECONDS)
            await self.flush()

    async def _listen(self) -> None:
        lost = False
        while True:
            try:
                async for message in get_channel_layer().messages():
                    if lost and message.get("listening"):
                        self._catch_up()
                    self.take(message)
            except asyncio.CancelledError:
                raise
            except Exception as error:  # noqa: BLE001 - the hub outlives any trouble with Redis
                log.warning("live hub lost Redis, retrying: %s", error)
            lost = True
            await asyncio.sleep(RECONNECT_SECONDS)

    def _catch_up(self) -> None:
        """Nobody knows what was missed while Redis was away, so everything watched is fetched anew."""
        for topic, watchers in self._watching.items():
            for viewer in watchers:
                self._note(viewer, topic, {})


hub = Hub()
