"""Heartbeats over sockets: those of an array, and those that reach this process at about the same time from many
sockets, are written together (`agents.heartbeat_many`) and answered as the endpoint would.

A frame whose body is not plainly right is left to the endpoint, which says what is wrong with it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.utils import timezone
from rest_framework.exceptions import ValidationError

from federation import connections, remote
from federation.agents import Reply
from federation.api import serializers, verbs
from federation.api.verbs import Answer, Frame
from federation.beats import Beat

# So long a heartbeat waits for others. Its sender has a second for the next one at the least.
WINDOW_SECONDS = 0.05
PLAIN = frozenset({"status", "load"})
STATUSES = frozenset({"idle", "busy", "unavailable"})


@dataclass(frozen=True, slots=True)
class Told:
    """A heartbeat as it came, and the token that its agent said hello with."""

    frame_id: Any
    token: str
    beat: Beat


def told(frame: Frame, token: str) -> Told | None:
    """The heartbeat in a frame; None where it is another verb, or is not plainly right."""
    if frame.verb != "heartbeat" or frame.token or frame.wait:
        return None
    asked = _asked(frame.body)
    if asked is None:
        return None
    status, load, running = asked.get("status", "idle"), asked.get("load"), asked.get("running", [])
    return Told(frame.id, token, Beat(frame.of, status, load, running))


def _asked(body: Any) -> dict[str, Any] | None:
    if body.keys() <= PLAIN:
        status, load = body.get("status", "idle"), body.get("load")
        is_share = load is None or (type(load) in (int, float) and 0 <= load <= 1)
        return dict(body) if type(status) is str and status in STATUSES and is_share else None
    try:
        return dict(serializers.HeartbeatIn().run_validation(body))
    except ValidationError:
        return None


def answer_all(many: Sequence[Told]) -> list[Answer]:
    """In the order given. Each token is looked at again: it may have been replaced since hello."""
    if not many:
        return []
    ended = connections.ended(list({(each.beat.agent_id, each.token) for each in many}))
    good = [each for each in many if (each.beat.agent_id, each.token) not in ended]
    said = remote.heartbeat_many(beats=[each.beat for each in good], now=timezone.now()) if good else []
    replies = dict(zip(map(id, good), said, strict=True))
    return [_answer(each, replies.get(id(each)) or ended[each.beat.agent_id, each.token]) for each in many]


def _answer(each: Told, reply: Reply | Exception) -> Answer:
    if isinstance(reply, Exception):
        return verbs.refusal(each.frame_id, reply)
    # What `HeartbeatOut` says, for one of very many.
    said = {
        "topology_version": reply.topology_version,
        "epoch": reply.epoch,
        "cancel": _texts(reply.cancel),
        "neighbours": _texts(reply.neighbours),
    }
    return Answer(each.frame_id, 200, said)


def _texts(ids: Sequence[UUID]) -> list[str]:
    return [str(each) for each in ids]


class Pulse:
    """What came within the window, from any socket of this process."""

    def __init__(self) -> None:
        self._waiting: list[tuple[list[Told], asyncio.Future[list[Answer]]]] = []
        self._loop: asyncio.AbstractEventLoop | None = None

    async def beat(self, many: list[Told], *, run: Callable[..., Any]) -> list[Answer]:
        """The answers to these; `run` does work with the database, away from the event loop."""
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            self._loop, self._waiting = loop, []
        answered: asyncio.Future[list[Answer]] = loop.create_future()
        self._waiting.append((many, answered))
        if len(self._waiting) == 1:
            loop.call_later(WINDOW_SECONDS, lambda: asyncio.ensure_future(self._write(run)))
        return await answered

    async def _write(self, run: Callable[..., Any]) -> None:
        waiting, self._waiting = self._waiting, []
        try:
            answers = iter(await run(answer_all, [each for many, _ in waiting for each in many]))
        except Exception as wrong:  # noqa: BLE001 - whoever waits for an answer raises it
            for _, answered in waiting:
                if not answered.done():
                    answered.set_exception(wrong)
            return
        for many, answered in waiting:
            own = [next(answers) for _ in many]
            if not answered.done():
                answered.set_result(own)


pulse = Pulse()
