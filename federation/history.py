"""Brings what the bus noted in Redis into the database, in bulk and exactly once.

The cursor moves in the transaction that writes the rows; entries are dropped from Redis only after it.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import connection, transaction

from federation import live, store
from federation.models import Agent, BusCursor, DeadLetter, Federation, Message

ROUND = 1000
NAME = "history"
Entry = dict[str, str]
SETTLE = """
update federation_message m
set delivered = m.delivered + v.delivered, expired = m.expired + v.expired, dead = m.dead + v.dead
from unnest(%s::uuid[], %s::int[], %s::int[], %s::int[]) as v (id, delivered, expired, dead)
where m.id = v.id
"""


def flush_all(*, now: datetime) -> int:
    """Everything noted so far."""
    total = 0
    while moved := flush(now=now):
        total += moved
        if moved < ROUND:
            break
    return total


def flush(*, now: datetime) -> int:
    """One round; returns how many entries it moved."""
    if not store.client().xlen(store.key(NAME)):
        return 0
    with transaction.atomic():
        BusCursor.objects.get_or_create(name=NAME, defaults={"last_id": "0-0"})
        cursor = BusCursor.objects.select_for_update().get(name=NAME)
        raw = store.client().xrange(store.key(NAME), min=f"({cursor.last_id}", count=ROUND)
        if not raw:
            return 0
        _write([{name.decode(): value.decode() for name, value in fields.items()} for _, fields in raw], now)
        cursor.last_id = raw[-1][0].decode()
        cursor.save(update_fields=["last_id"])
    store.client().xdel(store.key(NAME), *(entry_id for entry_id, _ in raw))
    return len(raw)


def _write(entries: Sequence[Entry], now: datetime) -> None:
    wanted = {UUID(entry["f"]) for entry in entries}
    present = {federation.pk: federation for federation in Federation.objects.filter(pk__in=wanted)}
    kept = [entry for entry in entries if UUID(entry["f"]) in present]
    Message.objects.bulk_create(
        [_message(entry) for entry in kept if entry["k"] == "m"], batch_size=500, ignore_conflicts=True
    )
    _settle([entry for entry in kept if entry["k"] != "m"])
    _bury([entry for entry in kept if entry["k"] in "ed"], now)
    for federation in present.values():
        live.messages_moved(federation)


def _message(entry: Entry) -> Message:
    body = json.loads(entry["b"])
    return Message(
        id=body["id"],
        federation_id=entry["f"],
        sender=body["from"],
        recipient=body["to"],
        type=body["type"],
        payload=body["payload"],
        priority=body["priority"],
        ttl_seconds=body["ttl_seconds"],
        correlation_id=body["correlation_id"],
        path=body["path"],
        hops=body["hops"],
        topology_version=body["topology_version"],
        recipients=body["recipients"],
        created_at=datetime.fromisoformat(body["created_at"]),
    )


def _settle(entries: Sequence[Entry]) -> None:
    """Adds to each message how many recipients it ended with, and how."""
    ends: dict[str, Counter[str]] = {}
    for entry in entries:
        ends.setdefault(entry["i"], Counter())[entry["k"]] += 1
    if not ends:
        return
    columns: list[list[Any]] = [list(ends), *([counts[kind] for counts in ends.values()] for kind in "aed")]
    with connection.cursor() as cursor:
        cursor.execute(SETTLE, columns)


def _bury(entries: Sequence[Entry], now: datetime) -> None:
    agents = set(Agent.objects.filter(pk__in={entry["a"] for entry in entries}).values_list("pk", flat=True))
    DeadLetter.objects.bulk_create(
        [
            DeadLetter(
                federation_id=entry["f"],
                message=json.loads(entry["b"]),
                agent_id=entry["a"] if UUID(entry["a"]) in agents else None,
                reason=entry["r"],
                created_at=now,
            )
            for entry in entries
        ],
        batch_size=500,
    )
