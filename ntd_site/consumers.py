"""The live socket of a page: /ws/live/. It only subscribes; every act goes over HTTP.

Nudges carry only names, and only of accounts the person may see, so a topic needs no check of its own.
What the person may see is looked up at connect and again every minute: whoever signed out, was
deactivated or left the account hears no more. Closes for good: 4401 signed out, 4429 too many sockets.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from typing import Any

from channels.auth import get_user
from channels.db import database_sync_to_async
from channels.generic.websocket import AsyncWebsocketConsumer

from billing.models import Account
from ntd_site.hub import hub

MOST_TOPICS = 200
MOST_SOCKETS = 20
MOST_BYTES = 64 * 1024
RECHECK_SECONDS = 60.0
TOPIC = re.compile(r"[a-z_]{1,40}(-[0-9a-zA-Z-]{1,80})?")
SIGNED_OUT, TOO_MANY, TOO_BIG = 4401, 4429, 1009


class LiveConsumer(AsyncWebsocketConsumer):
    # The hub brings the messages. Ours is no group layer, so Channels must not ask it for a channel of its own.
    channel_layer_alias = "none"

    topics: set[str]
    accounts: set[str] | None
    person: str
    _recheck: asyncio.Task[None] | None = None

    async def connect(self) -> None:
        self.topics, self.accounts = set(), set()
        await self.accept()
        user = self.scope["user"]
        if not user.is_authenticated or not user.is_active:
            await self._end(SIGNED_OUT)
            return
        self.person = str(user.pk)
        if hub.sockets_of(self.person) >= MOST_SOCKETS:
            await self._end(TOO_MANY)
            return
        hub.join(self)
        self.accounts = await _accounts(user)
        self._recheck = asyncio.create_task(self._look_again())

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        if len(text_data or "") + len(bytes_data or b"") > MOST_BYTES:
            await self.close(TOO_BIG)
            return
        said = _read(text_data)
        topics = {topic for topic in said.get("topics", []) if isinstance(topic, str) and TOPIC.fullmatch(topic)}
        if said.get("op") == "sub":
            hub.watch(self, set(sorted(self.topics | topics)[:MOST_TOPICS]))
        elif said.get("op") == "unsub":
            hub.watch(self, self.topics - topics)
        elif said.get("op") == "set":
            hub.watch(self, set(sorted(topics)[:MOST_TOPICS]))

    async def disconnect(self, code: int) -> None:
        if self._recheck is not None:
            self._recheck.cancel()
        hub.leave(self)

    async def send_text(self, text: str) -> None:
        await self.send(text_data=text)

    async def end(self, code: int) -> None:
        """Close from outside (the hub gives up on a socket that takes nothing)."""
        with contextlib.suppress(Exception):
            await self.close(code)

    async def _look_again(self) -> None:
        while True:
            await asyncio.sleep(RECHECK_SECONDS)
            # The session anew, from where it is stored: a sign-out elsewhere ends this socket too.
            user = await get_user(self.scope) if await _session_lives(self.scope["session"]) else None
            if user is None or not user.is_authenticated or not user.is_active:
                await self._end(SIGNED_OUT)
                return
            self.accounts = await _accounts(user)

    async def _end(self, code: int) -> None:
        await self.send_text(json.dumps({"t": "bye", "code": code}))
        await self.close(code)


def _read(text: str | None) -> dict[str, Any]:
    try:
        said = json.loads(text or "")
    except (ValueError, RecursionError):
        return {}
    return said if isinstance(said, dict) and isinstance(said.get("topics"), list) else {}


@database_sync_to_async
def _accounts(user: Any) -> set[str] | None:
    """The accounts the person may see; None for staff, who see all."""
    if user.is_staff:
        return None
    return {str(pk) for pk in Account.objects.visible_to(user).values_list("pk", flat=True)}


@database_sync_to_async
def _session_lives(session: Any) -> bool:
    return bool(session.session_key) and session.exists(session.session_key)
