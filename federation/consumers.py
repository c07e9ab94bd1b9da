"""The socket of remote agents: /ws/agents/. Arrays of frames come in, arrays of answers go out.

    [{"id": 1, "verb": "hello", "token": "nta_..."}]             a socket may carry several agents
    [{"id": 2, "verb": "claim", "wait": 20}, {"id": 3, "verb": "heartbeat", "body": {...}}]

Frames are answered in order, but a claim or a look into the inbox that waits, which holds up none behind it.
Heartbeats are written together, with those of other sockets (`pulse`), and are not counted by the rate limit.
Nothing more is read while an array is being answered or its answers are not taken: the sender feels it.
Closes for good: 4401 the token is unknown or replaced, 4410 gone, 4408 nobody said hello; the last frame says why.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID

from channels.generic.websocket import AsyncWebsocketConsumer
from django.db import close_old_connections
from rest_framework import exceptions
from rest_framework.utils.encoders import JSONEncoder

from federation import pulse, store
from federation.api import verbs
from federation.api.verbs import WAITING, Answer, BadFrame, Frame
from federation.connections import roll

THREADS = 8
MOST_FRAMES = 100
MOST_AGENTS = 500
MOST_WAITING = 2  # for each agent: one claim, one look into the inbox
HELLO_SECONDS = 10.0
SILENT = 4408
CLOSES = {401: 4401, 410: 4410}
executor = ThreadPoolExecutor(THREADS, thread_name_prefix="agents")


class TooMany(Exception):
    """Raised when one connection asks for more at once than it may."""

    code = "resource_limit_exceeded"
    retry_after = 1

    def __init__(self, what: str, limit: int) -> None:
        super().__init__(f"A connection may have {limit} {what}.")
        self.extras = {"limit": limit}


async def run(work: Callable[..., Any], *given: Any) -> Any:
    """In a thread of this module's own: Channels has one for all consumers together."""
    return await asyncio.get_running_loop().run_in_executor(executor, _with_connection, work, given)


def _with_connection(work: Callable[..., Any], given: tuple[Any, ...]) -> Any:
    try:
        return work(*given)
    finally:
        close_old_connections()


class AgentConsumer(AsyncWebsocketConsumer):
    channel_layer_alias = "none"

    tokens: dict[UUID, str]
    federation: UUID | None = None
    _waiting: set[asyncio.Task[None]]
    _patience: asyncio.Task[None] | None = None

    async def connect(self) -> None:
        self.tokens, self._waiting = {}, set()
        await self.accept()
        self._patience = asyncio.create_task(self._lose_patience())
        roll.enter(self, run=run)

    async def disconnect(self, code: int) -> None:
        roll.leave(self)
        for task in (self._patience, *self._waiting):
            if task is not None:
                task.cancel()

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        try:
            said = _array(text_data)
        except BadFrame as bad:
            await self._say([await run(verbs.refusal, None, bad)])
            return
        beats = [self._beat(each) for each in said]
        if beats and all(beats):
            answers = await pulse.pulse.beat(beats, run=run)
            await self._say(answers)
            await self._see_out(answers)
            return
        answers, to_wait = await run(self._answer_all, said)
        await self._say(answers)
        for frame in to_wait:
            task = asyncio.create_task(self._wait(frame))
            self._waiting.add(task)
            task.add_done_callback(self._waiting.discard)
        await self._see_out(answers)

    def _answer_all(self, said: list[Any]) -> tuple[list[Answer], list[Frame]]:
        answers: list[Answer] = []
        to_wait: list[Frame] = []
        beats: list[pulse.Told] = []
        for each in said:
            if (beat := self._beat(each)) is not None:
                beats.append(beat)
                continue
            answers += pulse.answer_all(beats)
            beats.clear()
            try:
                frame = verbs.parse(each, agent=self._only(), federation=self.federation)
                self._check_seats(frame)
                found = verbs.answer(frame, token=self._token(frame), address=self._address)
                self._learn(frame, found)
                if frame.wait and frame.verb in WAITING and found.is_nothing:
                    self._check_room(to_wait)
                    to_wait.append(frame)
                else:
                    answers.append(found)
            except (BadFrame, TooMany, exceptions.APIException) as refused:
                answers.append(verbs.refusal(verbs.ident(each.get("id")) if isinstance(each, dict) else None, refused))
        return answers + pulse.answer_all(beats), to_wait

    def _beat(self, said: Any) -> pulse.Told | None:
        """A heartbeat of an agent that said hello here; None for all else, which its endpoint answers."""
        if not isinstance(said, dict) or said.get("verb") != "heartbeat":
            return None
        try:
            frame = verbs.parse(said, agent=self._only(), federation=self.federation)
        except BadFrame:
            return None
        token = self.tokens.get(frame.of)
        return pulse.told(frame, token) if token else None

    def _only(self) -> UUID | None:
        return next(iter(self.tokens)) if len(self.tokens) == 1 else None

    @property
    def _address(self) -> str:
        return str((self.scope.get("client") or ["local"])[0])

    def _token(self, frame: Frame) -> str:
        """The frame's own, that of its agent, or the header's that the connection was opened with."""
        if frame.token:
            return frame.token
        if frame.agent in self.tokens:
            return self.tokens[frame.agent]
        given = next((value for name, value in self.scope["headers"] if name == b"authorization"), b"").decode(
            "latin-1"
        )
        kind, _, token = given.partition(" ")
        if kind.lower() != "bearer" or not token:
            raise exceptions.NotAuthenticated("Say hello with this agent's token first.")
        return token.strip()

    def _learn(self, frame: Frame, found: Answer) -> None:
        """Who says hello belongs to this connection from then on; so does whoever registers on it."""
        if found.status not in (200, 201):
            return
        if frame.verb == "register" and found.body["token"]:
            self._enter(UUID(found.body["id"]), found.body["token"], UUID(found.body["federation"]))
        elif frame.verb == "hello":
            self._enter(frame.of, self._token(frame), UUID(found.body["agent"]["federation"]))
        elif frame.verb == "rotate" and frame.of in self.tokens:
            self.tokens[frame.of] = found.body["token"]

    def _enter(self, agent_id: UUID, token: str, federation_id: UUID) -> None:
        self.tokens[agent_id] = token
        self.federation = federation_id

    def _check_seats(self, frame: Frame) -> None:
        """Before it is answered: what it makes could not be kept here."""
        is_another = frame.verb == "register" or (frame.verb == "hello" and frame.of not in self.tokens)
        if is_another and len(self.tokens) >= MOST_AGENTS:
            raise TooMany("agents", MOST_AGENTS)

    def _check_room(self, to_wait: list[Frame]) -> None:
        limit = MOST_WAITING * max(len(self.tokens), 1)
        if len(self._waiting) + len(to_wait) >= limit:
            raise TooMany("frames waiting", limit)

    async def _wait(self, frame: Frame) -> None:
        loop = asyncio.get_running_loop()
        end = loop.time() + frame.wait
        while True:
            left = end - loop.time()
            woken = store.woken if frame.verb == "claim" else store.mail
            if left > 0:
                await woken(frame.of, seconds=min(left, 20.0))
            found = await run(self._again, frame)
            if not found.is_nothing or left <= 0:
                break
        await self._say([found])
        await self._see_out([found])

    def _again(self, frame: Frame) -> Answer:
        return verbs.answer(frame, token=self._token(frame), address=self._address, is_repeat=True)

    async def _say(self, answers: list[Answer]) -> None:
        if answers:
            frames = [answer.as_frame() for answer in answers]
            await self.send(text_data=json.dumps(frames, cls=JSONEncoder, separators=(",", ":")))

    async def _see_out(self, answers: list[Answer]) -> None:
        """An answer that says a token is good no more ends its agent here."""
        if not any(answer.status in CLOSES for answer in answers):
            return
        if self.tokens:
            await roll.look_at(self, run)
        else:
            await self._end(next(answer for answer in answers if answer.status in CLOSES))

    async def dismiss(self, agent_id: UUID, why: Exception) -> None:
        if self.tokens.pop(agent_id, None) is None:
            return
        bye = await run(verbs.refusal, None, why)
        if self.tokens:
            await self._farewell(bye, agent_id)
        else:
            await self._end(bye, agent_id)

    async def _end(self, bye: Answer, agent_id: UUID | None = None) -> None:
        await self._farewell(bye, agent_id)
        await self.close(CLOSES[bye.status])

    async def _farewell(self, bye: Answer, agent_id: UUID | None) -> None:
        frame = {**bye.as_frame(), "id": None, "verb": "bye", "agent": str(agent_id) if agent_id else None}
        await self.send(text_data=json.dumps([frame], cls=JSONEncoder))

    async def _lose_patience(self) -> None:
        await asyncio.sleep(HELLO_SECONDS)
        if not self.tokens:
            await self.close(SILENT)


def _array(text: str | None) -> list[Any]:
    try:
        said = json.loads(text or "")
    except (ValueError, RecursionError):
        raise BadFrame(frames="This is not JSON. Send an array of frames, as text.") from None
    if not isinstance(said, list):
        raise BadFrame(frames="Send an array of frames.")
    if len(said) > MOST_FRAMES:
        raise BadFrame(frames=f"An array may have {MOST_FRAMES} frames.")
    return said
