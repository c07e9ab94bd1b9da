"""The events of an execution, live, as Server-Sent Events: a raw ASGI application.

While it runs, frames come from its Redis stream; once it is settled, from the database. Both say the same
bytes under the same numbers, so `Last-Event-ID` resumes anywhere.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Any
from uuid import UUID

import redis
import redis.asyncio
from channels.db import database_sync_to_async
from django.conf import settings
from django.utils import timezone

from billing import keys
from sandboxes import frames, transcript
from sandboxes.api import serializers
from sandboxes.models import Execution

SCOPE = "sandboxes:read"
QUIET_SECONDS = 15.0
BLOCK_MS = 5000
PAGE = 100
HIGHEST = 2**62
RETRY_MS = 1000
HEADERS = [
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
    (b"x-content-type-options", b"nosniff"),
]
Send = Callable[[dict[str, Any]], Awaitable[None]]
Receive = Callable[[], Awaitable[dict[str, Any]]]
log = logging.getLogger(__name__)


class Refused(Exception):
    """Raised when there is nothing to stream for this caller."""

    def __init__(self, status: int, code: str, detail: str, **extras: Any) -> None:
        self.status, self.code, self.extras = status, code, extras
        super().__init__(detail)


async def execution_events(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    try:
        after = _last_seen(scope)
        pk: UUID = scope["url_route"]["kwargs"]["pk"]
        execution = await _visible(scope, pk)
    except Refused as refused:
        await _refuse(send, refused)
        return
    await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
    talking = asyncio.create_task(_talk(scope, execution, after, send))
    leaving = asyncio.create_task(_until_gone(receive))
    await asyncio.wait({talking, leaving}, return_when=asyncio.FIRST_COMPLETED)
    for task in (talking, leaving):
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _talk(scope: dict[str, Any], execution: Execution, after: int, send: Send) -> None:
    await _say(send, f"retry: {RETRY_MS}\n\n".encode())
    async for block in _events(scope, execution, after):
        await _say(send, block)
    await send({"type": "http.response.body", "body": b""})


async def _say(send: Send, body: bytes) -> None:
    await send({"type": "http.response.body", "body": body, "more_body": True})


async def _events(scope: dict[str, Any], execution: Execution, after: int) -> AsyncIterator[bytes]:
    """Encoded frames past `after`, to the end of the execution; comments while nothing happens."""
    client = redis.asyncio.Redis.from_url(settings.REDIS_URL, socket_timeout=None, health_check_interval=15)
    try:
        quiet = 0.0
        first = frames.state_frame(attempt=1, state="queued")
        if not execution.is_settled and after < first.number:
            after = first.number
            with suppress(redis.RedisError):
                await client.ping()  # Who hears the first word may act on it at once, so we listen by then.
            yield first.encode()
        while not execution.is_settled:
            found, is_over = await _heard(client, execution, after)
            for frame in found:
                after = frame.number
                yield frame.encode()
            quiet = 0.0 if found else quiet + BLOCK_MS / 1000
            if is_over or not found:
                execution = await _reread(execution)
            if quiet >= QUIET_SECONDS:
                quiet = 0.0
                yield b": still running\n\n"
    finally:
        await client.aclose()
    async for frame in _replayed(scope, execution, after):
        yield frame.encode()


async def _heard(client: Any, execution: Execution, after: int) -> tuple[list[frames.Frame], bool]:
    """(the next frames, whether the end was among them); blocks a while when there is none."""
    key = transcript.stream_key(execution.pk)
    try:
        answer = await client.xread({key: transcript.entry_id(after)}, count=PAGE, block=BLOCK_MS)
    except redis.RedisError as error:
        log.warning("events of execution %s without Redis: %s", execution.pk, error)
        await asyncio.sleep(1)
        return [], False
    if not answer:
        return [], False
    read = [transcript.as_frame(entry, fields) for entry, fields in answer[0][1]]
    found = [frame for frame in read if frame is not None]
    if found and found[0].number > after + 1:
        # What is no longer in Redis was moved into the database.
        found = await _stored_between(execution, after, found[0].number) + found
    return found, len(found) < len(read) or None in read


@database_sync_to_async
def _stored_between(execution: Execution, after: int, before: int) -> list[frames.Frame]:
    row = Execution.objects.light().get(pk=execution.pk)
    return [frame for frame in transcript.stored(row, after=after) if frame.number < before]


@database_sync_to_async
def _reread(execution: Execution) -> Execution:
    return Execution.objects.light().get(pk=execution.pk)


async def _replayed(scope: dict[str, Any], execution: Execution, after: int) -> AsyncIterator[frames.Frame]:
    """Page by page, so that a large output is neither held whole nor reads the database in the event loop."""
    end = await _final(scope, execution)
    replay = transcript.replay(execution, after=after, end=end)
    while page := await _page(replay):
        for frame in page:
            yield frame


@database_sync_to_async
def _final(scope: dict[str, Any], execution: Execution) -> dict[str, Any]:
    return json.loads(json.dumps(serializers.shown(execution, address=_addresses(scope)), default=str))


@database_sync_to_async
def _page(replay: Any) -> list[frames.Frame]:
    return [frame for _, frame in zip(range(PAGE), replay, strict=False)]


def _addresses(scope: dict[str, Any]) -> Callable[[str], str]:
    """What makes whole addresses of paths."""
    host = _header(scope, b"host") or "localhost"
    start = f"{scope.get('scheme', 'http')}://{host}"
    return lambda path: start + path


def _header(scope: dict[str, Any], name: bytes) -> str:
    return next((value.decode("latin-1") for key, value in scope["headers"] if key == name), "")


def _last_seen(scope: dict[str, Any]) -> int:
    if scope["method"] not in ("GET", "HEAD"):
        raise Refused(405, "method_not_allowed", "Events can only be read.")
    given = _header(scope, b"last-event-id").strip()
    if not given:
        return 0
    if not (given.isascii() and given.isdecimal() and int(given[:20]) < HIGHEST):
        errors = {"Last-Event-ID": ["Give the number of the last event you saw."]}
        raise Refused(400, "validation_error", "Some fields are not valid.", errors=errors)
    return int(given)


@database_sync_to_async
def _visible(scope: dict[str, Any], pk: UUID) -> Execution:
    principal = _principal(scope)
    if not principal.is_authenticated:
        raise Refused(401, "not_authenticated", "Send an API key as `Authorization: Bearer ntd_...`, or sign in.")
    if not principal.has_scope(SCOPE):
        raise Refused(403, "missing_scope", f"This needs the scope {SCOPE}.")
    execution = Execution.objects.visible_to(principal).light().filter(pk=pk).first()
    if execution is None:
        raise Refused(404, "not_found", "There is nothing here, or not for you.")
    return execution


def _principal(scope: dict[str, Any]) -> Any:
    kind, _, secret = _header(scope, b"authorization").partition(" ")
    if not kind:
        return scope["user"]
    found = keys.authenticate(secret.strip(), now=timezone.now()) if kind.lower() == "bearer" else None
    if found is None:
        raise Refused(401, "not_authenticated", "This API key is unknown, revoked or expired.")
    return found


async def _refuse(send: Send, refused: Refused) -> None:
    fixed = {
        "type": f"/api/docs/#problem-{refused.code}",
        "title": refused.code.replace("_", " ").capitalize(),
        "status": refused.status,
        "detail": str(refused),
        "code": refused.code,
    }
    headers = [(b"content-type", b"application/problem+json"), (b"cache-control", b"no-store")]
    if refused.status == 401:
        headers.append((b"www-authenticate", b'Bearer realm="ntd"'))
    if refused.status == 405:
        headers.append((b"allow", b"GET"))
    await send({"type": "http.response.start", "status": refused.status, "headers": headers})
    await send({"type": "http.response.body", "body": json.dumps({**refused.extras, **fixed}).encode()})
