"""The agents connected to this process: all looked up by one question, so that whoever lost its membership hears it.

A socket that says nothing would otherwise stay open after its agent was removed, or its token replaced.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from typing import Any, Protocol
from uuid import UUID

from federation import agents
from federation.models import Agent

LOOK_SECONDS = 2.0
log = logging.getLogger(__name__)


class TokenReplaced(Exception):
    """Raised when an agent is connected with a token that is no longer its own."""

    code = "not_authenticated"

    def __init__(self) -> None:
        super().__init__("This agent has another token now. Connect again with that one.")


class Connected(Protocol):
    """A socket: the tokens it came with, and how it is told that one of them ended."""

    tokens: dict[UUID, str]

    async def dismiss(self, agent_id: UUID, why: Exception) -> None: ...


def ended(held: Sequence[tuple[UUID, str]]) -> dict[tuple[UUID, str], Exception]:
    """Which (agent, token) is good no more, and why."""
    present = Agent.objects.linked().filter(pk__in={pk for pk, _ in held}, federation__deleted_at=None)
    digests = dict(present.values_list("pk", "token_digest"))
    return {
        (pk, token): agents.Gone() if pk not in digests else TokenReplaced()
        for pk, token in held
        if digests.get(pk) != agents.digest(token)
    }


class Roll:
    """Who is connected here. One task looks them up, as long as there is anyone."""

    def __init__(self) -> None:
        self.sockets: set[Connected] = set()
        self._task: asyncio.Task[None] | None = None

    def enter(self, socket: Connected, *, run: Callable[..., Any]) -> None:
        """`run` does work with the database, away from the event loop."""
        self.sockets.add(socket)
        loop = asyncio.get_running_loop()
        if self._task is None or self._task.done() or self._task.get_loop() is not loop:
            self._task = asyncio.create_task(self._look(run))

    def leave(self, socket: Connected) -> None:
        self.sockets.discard(socket)
        if not self.sockets and self._task is not None:
            self._task.cancel()
            self._task = None

    async def _look(self, run: Callable[..., Any]) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                await self.look(run)
            except Exception:  # the database is away for a moment; everyone stays meanwhile
                log.exception("could not look up the connected agents")

    async def look(self, run: Callable[..., Any]) -> None:
        """All of them, in one question."""
        held = [(socket, pk, token) for socket in self.sockets for pk, token in socket.tokens.items()]
        gone = await run(ended, [(pk, token) for _, pk, token in held])
        for socket, pk, token in held:
            if (pk, token) in gone and socket.tokens.get(pk) == token:
                with contextlib.suppress(Exception):
                    await socket.dismiss(pk, gone[pk, token])

    async def look_at(self, socket: Connected, run: Callable[..., Any]) -> None:
        """One of them, now: an answer said that something ended."""
        for (pk, _), why in (await run(ended, list(socket.tokens.items()))).items():
            await socket.dismiss(pk, why)


roll = Roll()
