"""Django, which is WSGI, inside the ASGI server: a request crosses into a thread once and its answer comes back once.

a2wsgi hands over every piece of body and answer by a coroutine of its own, each waiting for the other side, and
that took longer than most views. It still carries the large bodies, which should not be read before Django asks.
"""

from __future__ import annotations

import asyncio
import contextvars
import io
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import Any

from a2wsgi import WSGIMiddleware
from a2wsgi.wsgi import build_environ

SMALL_BYTES = 256 * 1024
Scope = dict[str, Any]
Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class Bridge:
    """An ASGI application of a WSGI one."""

    def __init__(self, wsgi: Callable[..., Iterable[bytes]], *, threads: int) -> None:
        self._wsgi = wsgi
        self._large = WSGIMiddleware(wsgi, workers=threads)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not _is_small(scope):
            await self._large(scope, receive, send)
            return
        loop = asyncio.get_running_loop()

        def tell(message: Message) -> None:
            asyncio.run_coroutine_threadsafe(send(message), loop).result()

        environ = build_environ(scope, io.BytesIO(await _read(receive)))
        ask = partial(contextvars.copy_context().run, self._ask, environ, tell)
        for message in await loop.run_in_executor(self._large.executor, ask):
            await send(message)

    def _ask(self, environ: Any, tell: Callable[[Message], None]) -> list[Message]:
        """The messages of the answer; of a stream only the last one, the others having been told meanwhile."""
        start: Message = {"type": "http.response.start"}

        def start_response(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> None:
            start["status"] = int(status.split(" ", 1)[0])
            start["headers"] = [_header(*header) for header in headers]

        found = self._wsgi(environ, start_response)
        try:
            if not getattr(found, "streaming", False):
                return [start, {"type": "http.response.body", "body": b"".join(found)}]
            tell(start)
            for piece in found:
                tell({"type": "http.response.body", "body": piece, "more_body": True})
            return [{"type": "http.response.body", "body": b""}]
        finally:
            # Here, in the thread of the request: it gives back the connection to the database.
            getattr(found, "close", lambda: None)()


def _header(name: str, value: str) -> tuple[bytes, bytes]:
    return name.strip().lower().encode("latin1"), value.strip().encode("latin1")


def _is_small(scope: Scope) -> bool:
    """By its own word; the server reads no more of a body than its Content-Length."""
    headers = dict(scope["headers"])
    length = headers.get(b"content-length", b"0")
    return b"transfer-encoding" not in headers and length.isdigit() and int(length) <= SMALL_BYTES


async def _read(receive: Receive) -> bytes:
    body = bytearray()
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):  # also when the client has gone
            return bytes(body)
