"""Messages as the API is asked for them, as drafts; and receipts as it answers them.

The plainest messages are most of a busy batch: they are read here in a few steps (a serializer takes ten times as
long). Whatever is not plain goes to the serializer, which also says what is wrong with it.
"""

from __future__ import annotations

import re
from datetime import datetime
from functools import lru_cache
from typing import Any
from uuid import UUID

from rest_framework import exceptions
from rest_framework.fields import DateTimeField

from federation import bus
from federation.api import serializers
from federation.models import Agent
from federation.models.traffic import MESSAGE_TYPES

PLAIN = frozenset({"from", "to", "type", "payload", "priority", "ttl_seconds"})
ID = re.compile("[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
TYPES = frozenset(MESSAGE_TYPES)
_written = DateTimeField().to_representation


class NotItself(Exception):
    """Raised when an agent's token sends as somebody else."""

    code = "missing_scope"

    def __init__(self) -> None:
        super().__init__("An agent's token sends only as that agent.")


def draft(asked: dict[str, Any], agent: Agent | None) -> bus.Draft:
    """What a serializer found valid, sent by `agent` where its token asks."""
    if agent is None and "sender" not in asked:
        raise exceptions.ValidationError({"from": ["This field is required."]})
    if agent is not None and asked.setdefault("sender", agent.pk) != agent.pk:
        raise NotItself
    return bus.Draft(**{"recipient": None, **asked})


def plain(item: Any, agent: Agent | None) -> bus.Draft | None:
    """A message that is valid as it stands; None is no refusal but asks for a closer look."""
    if type(item) is not dict or not item.keys() <= PLAIN:
        return None
    sender = _ident(item.get("from")) if agent is None else agent.pk
    recipient, kind = _ident(item.get("to")), item.get("type", "custom")
    priority, ttl_seconds = item.get("priority", 5), item.get("ttl_seconds", 300)
    if sender is None or recipient is None or (agent is not None and "from" in item):
        return None
    if type(kind) is not str or kind not in TYPES or type(priority) is not int or type(ttl_seconds) is not int:
        return None
    if not (0 <= priority <= 9 and 1 <= ttl_seconds <= serializers.LONGEST_TTL_SECONDS):
        return None
    return bus.Draft(sender, recipient, kind, item.get("payload"), priority, ttl_seconds)


def _ident(value: Any) -> UUID | None:
    return _known(value) if type(value) is str else None


@lru_cache(maxsize=10_000)
def _known(text: str) -> UUID | None:
    return UUID(text) if ID.fullmatch(text) else None


def row(receipt: bus.Receipt) -> dict[str, Any]:
    """What `ReceiptOut` says, for one of many."""
    return {
        "id": receipt.text_id,
        "path": receipt.path,
        "hops": receipt.hops,
        "recipients": receipt.recipients,
        "expires_at": _moment(receipt.expires_at),
        "correlation_id": receipt.correlation_id,
    }


@lru_cache(maxsize=1000)
def _moment(at: datetime) -> str:
    return str(_written(at))


def item_row(item: bus.Item) -> dict[str, Any]:
    """What `ItemOut` reads."""
    return {
        **item.message,
        "sender": item.message["from"],
        "path": item.path,
        "hops": item.hops,
        "delivery_count": item.delivery_count,
        "expires_at": item.expires_at,
        "relay_to": item.relay_to,
    }
