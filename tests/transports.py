"""The two ways of remote agents to the product, as one: REST by Django's client, and the socket by its consumer.

Both are asked by verb, so that one table of promises is tried over each.
"""

from __future__ import annotations

import asyncio
import json
from concurrent.futures import Executor, Future
from typing import Any

from asgiref.testing import ApplicationCommunicator
from rest_framework.test import APIClient

from federation.client.verbs import PLACES
from federation.consumers import AgentConsumer


class Here(Executor):
    """Works at once in the caller's thread, which sees what the test has not committed.

    Django gives a thread with a running loop another connection, so the loop is out of sight meanwhile.
    """

    def submit(self, work: Any, /, *given: Any, **named: Any) -> Future[Any]:
        future: Future[Any] = Future()
        loop = asyncio.get_running_loop()
        asyncio._set_running_loop(None)
        try:
            future.set_result(work(*given, **named))
        except BaseException as wrong:  # noqa: BLE001 - the future's reader gets it
            future.set_exception(wrong)
        finally:
            asyncio._set_running_loop(loop)
        return future


class Rest:
    """An agent with a token, by HTTP."""

    def __init__(self, agent: Any, token: str) -> None:
        self.named = {"agent": agent.pk, "federation": agent.federation_id, "task": None}
        self.client = APIClient()
        self.client.credentials(HTTP_AUTHORIZATION=f"Bearer {token}")

    def ask(self, verb: str, body: Any = None, *, wait: float = 0, **named: Any) -> tuple[int, Any]:
        found = PLACES[verb]
        query = {name: named.pop(name) for name in found.query if name in named} | ({"wait": wait} if wait else {})
        path = "/api/v1/" + found.path.format({**self.named, **named}[found.of])
        if found.method == "get":
            answer = self.client.get(path, query)
        else:
            path += f"?wait={wait}" if wait else ""
            answer = getattr(self.client, found.method)(path, body or {}, format="json")
        return answer.status_code, answer.json() if answer.content else None

    def close(self) -> None:
        """HTTP has nothing open."""


class Socket:
    """An agent with a token, by the socket."""

    def __init__(self, agent: Any, token: str, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.token = token
        self.agent = agent
        self.federation = agent.federation_id
        self.number = 0
        self.other: list[Any] = []
        self.open()

    def open(self) -> None:
        self.end = self.do(self._open())

    async def _open(self) -> ApplicationCommunicator:
        headers = [(b"authorization", f"Bearer {self.token}".encode())]
        scope = {
            "type": "websocket",
            "path": "/ws/agents/",
            "headers": headers,
            "client": ["127.0.0.1", 1],
            "query_string": b"",
        }
        end = ApplicationCommunicator(AgentConsumer.as_asgi(), scope)
        await end.send_input({"type": "websocket.connect"})
        assert (await end.receive_output(5))["type"] == "websocket.accept"
        return end

    def do(self, work: Any) -> Any:
        return self.loop.run_until_complete(work)

    def frame(self, verb: str, body: Any = None, **named: Any) -> dict[str, Any]:
        self.number += 1
        known = {"agent": str(self.agent.pk), "federation": str(self.federation)}
        parts = {
            name: str(value) if name in ("agent", "task", "federation") else value for name, value in named.items()
        }
        return {"id": self.number, "verb": verb, **known, **parts} | ({"body": body} if body is not None else {})

    def ask(self, verb: str, body: Any = None, **named: Any) -> tuple[int, Any]:
        frame = self.frame(verb, body, **named)
        self.send([frame])
        while True:
            for answer in (heard := self.hear()):
                if answer["id"] == frame["id"]:
                    self.other += [each for each in heard if each is not answer]
                    return answer["status"], answer["body"]
            self.other += heard

    def send(self, frames: Any) -> None:
        text = frames if isinstance(frames, str) else json.dumps(frames)
        self.do(self.end.send_input({"type": "websocket.receive", "text": text}))

    def hear(self, seconds: float = 5) -> Any:
        """The next array, or the code that the socket is closed with."""
        message = self.do(self.end.receive_output(seconds))
        return message["code"] if message["type"] == "websocket.close" else json.loads(message["text"])

    def is_quiet(self) -> bool:
        return bool(self.do(self.end.receive_nothing(0.05)))

    def close(self) -> None:
        async def leave() -> None:
            await self.end.send_input({"type": "websocket.disconnect", "code": 1000})
            await self.end.wait(5)

        self.do(leave())
