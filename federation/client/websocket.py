"""The agent's questions as frames on one socket. It is opened when something is asked, and again after it broke."""

from __future__ import annotations

import asyncio
import itertools
import json
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidURI

from federation.client.transport import Problem, Unreachable
from federation.client.verbs import PLACES

PATIENCE_SECONDS = 15.0
LARGEST_BYTES = 64 * 1024 * 1024


class WebSocket:
    name = "websocket"

    def __init__(self, url: str, token: str) -> None:
        scheme, _, rest = url.rstrip("/").partition("://")
        self._url = f"{'wss' if scheme == 'https' else 'ws'}://{rest}/ws/agents/"
        self._token = token
        self._numbers = itertools.count(1)
        self._asked: dict[int, asyncio.Future[Any]] = {}
        self._opening = asyncio.Lock()
        self._connection: ClientConnection | None = None
        self._reader: asyncio.Task[None] | None = None
        self._bye: Problem | None = None

    async def ask(self, verb: str, *, of: str, body: Any = None, wait: float = 0, **query: Any) -> Any:
        number = next(self._numbers)
        frame = {"id": number, "verb": verb, PLACES[verb].of: of, **query} | ({"wait": wait} if wait else {})
        connection = await self._open()
        self._asked[number] = asyncio.get_running_loop().create_future()
        try:
            await connection.send(json.dumps([frame | ({"body": body} if body is not None else {})]))
            return await asyncio.wait_for(self._asked[number], PATIENCE_SECONDS + wait)
        except (ConnectionClosed, TimeoutError) as failed:
            await connection.close()
            raise self._bye or Unreachable(
                f"{self._url} gives no answer: {failed or type(failed).__name__}"
            ) from failed
        finally:
            del self._asked[number]

    async def _open(self) -> ClientConnection:
        async with self._opening:
            if self._bye is not None:
                raise self._bye
            if self._connection is None:
                headers = {"Authorization": f"Bearer {self._token}"}
                try:
                    self._connection = await connect(
                        self._url, additional_headers=headers, max_size=LARGEST_BYTES, compression=None
                    )
                except (OSError, InvalidHandshake, InvalidURI, TimeoutError) as failed:
                    raise Unreachable(f"{self._url} cannot be reached: {failed}") from failed
                self._reader = asyncio.create_task(self._read(self._connection))
            return self._connection

    async def _read(self, connection: ClientConnection) -> None:
        try:
            async for text in connection:
                for answer in json.loads(text):
                    self._hear(answer)
        except ConnectionClosed:
            pass
        finally:
            if self._connection is connection:
                self._connection = None
            for waiting in self._asked.values():
                if not waiting.done():
                    waiting.set_exception(self._bye or Unreachable(f"{self._url} closed the connection."))

    def _hear(self, answer: dict[str, Any]) -> None:
        if answer.get("verb") == "bye":
            self._bye = Problem(answer["status"], answer["body"])
            return
        waiting = self._asked.get(answer["id"])
        if waiting is None or waiting.done():
            return
        if answer["status"] >= 400:
            waits = {"retry_after": answer["retry_after"]} if "retry_after" in answer else {}
            waiting.set_exception(Problem(answer["status"], {**answer["body"], **waits}))
        else:
            waiting.set_result(answer["body"])

    async def close(self) -> None:
        if self._connection is not None:
            await self._connection.close()
        if self._reader is not None:
            await self._reader
