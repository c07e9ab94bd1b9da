"""The live socket of a page: /ws/live/. It only subscribes; every act goes over HTTP."""

from __future__ import annotations

import json
import re
from typing import Any

from asgiref.sync import sync_to_async
from channels.generic.websocket import AsyncWebsocketConsumer

from billing.models import Account
from ntd_site.hub import hub

MOST_TOPICS = 200
TOPIC = re.compile(r"[a-z_]+(-[0-9a-zA-Z-]+)*")
SIGNED_OUT = 4401


class LiveConsumer(AsyncWebsocketConsumer):
    """Nudges carry only names, and only of accounts the user may see, so a topic needs no check of its own."""

    topics: set[str]
    accounts: set[str] | None

    async def connect(self) -> None:
        self.topics = set()
        self.accounts = set()
        await self.accept()
        user = self.scope["user"]
        if not user.is_authenticated:
            await self.close(SIGNED_OUT)
            return
        self.accounts = None if user.is_staff else await _accounts(user)
        hub.join(self)

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        try:
            said = json.loads(text_data or "")
        except ValueError:
            return
        if not isinstance(said, dict) or not isinstance(said.get("topics"), list):
            return
        topics = {topic for topic in said["topics"] if isinstance(topic, str) and TOPIC.fullmatch(topic)}
        if said.get("op") == "sub":
            self.topics = set(sorted(self.topics | topics)[:MOST_TOPICS])
        elif said.get("op") == "unsub":
            self.topics -= topics
        elif said.get("op") == "set":
            self.topics = set(sorted(topics)[:MOST_TOPICS])

    async def disconnect(self, code: int) -> None:
        hub.leave(self)

    async def send_text(self, text: str) -> None:
        await self.send(text_data=text)


@sync_to_async
def _accounts(user: Any) -> set[str]:
    return {str(pk) for pk in Account.objects.visible_to(user).values_list("pk", flat=True)}
