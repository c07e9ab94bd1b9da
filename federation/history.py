"""Brings what the bus noted in Redis into the database, in bulk and exactly once.

The cursor moves in the transaction that writes the rows; entries are dropped from Redis only after it. An entry is
a pack of messages (k = m), or the end of some of a pack for one recipient: a acknowledged, e expired, d dead. The
database takes a pack apart itself: no message is touched one by one here.
"""

from __future__ import annotations

import json
import logging
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import DataError, IntegrityError, connection, transaction

from federation import live, packs, store
from federation.models import Agent, BusCursor, DeadLetter, Federation, Message

# Entries of one transaction; each may be a pack of a thousand messages.
ROUND = 200
NAME = "history"
LATE = "late"
log = logging.getLogger(__name__)
Entry = dict[str, str]
Ends = dict[tuple[str, int, int], Counter[str]]
INSERT = """
insert into federation_message (
    id, federation_id, sender, recipient, type, payload, priority, ttl_seconds, correlation_id, path, hops,
    topology_version, recipients, delivered, expired, dead, late_reply, created_at)
select
    (pack.id || lpad(to_hex(message.number - 1), 3, '0'))::uuid, pack.federation, pack.sender, pack.recipient,
    message.body ->> 0, nullif(message.body -> 1, 'null'), pack.priority, pack.ttl_seconds, message.body ->> 2,
    pack.path, pack.hops, pack.topology_version, pack.recipients, pack.delivered, pack.expired, pack.dead, false,
    pack.created_at
from rows from (
    unnest(
        %s::text[], %s::uuid[], %s::uuid[], %s::uuid[], %s::int[], %s::int[], %s::jsonb[], %s::int[], %s::int[],
        %s::int[], %s::int[], %s::int[], %s::int[], %s::timestamptz[]),
    json_array_elements(%s::json)
) as pack (
    id, federation, sender, recipient, priority, ttl_seconds, path, hops, topology_version, recipients, delivered,
    expired, dead, created_at, bodies)
cross join lateral jsonb_array_elements(pack.bodies::jsonb) with ordinality as message (body, number)
"""
SETTLE = """
update federation_message message
set delivered = message.delivered + ends.delivered, expired = message.expired + ends.expired,
    dead = message.dead + ends.dead, late_reply = message.late_reply or ends.late
from (
    select found.id, sum(run.delivered) delivered, sum(run.expired) expired, sum(run.dead) dead, bool_or(run.late) late
    from unnest(%s::uuid[], %s::uuid[], %s::int[], %s::int[], %s::int[], %s::bool[])
        as run (first, last, delivered, expired, dead, late)
    join federation_message found on found.id between run.first and run.last
    group by found.id
) ends
where message.id = ends.id
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
    if not store.client().xlen(store.bus_key(NAME)):
        return 0
    with transaction.atomic():
        BusCursor.objects.get_or_create(name=NAME, defaults={"last_id": "0-0"})
        cursor = BusCursor.objects.select_for_update().get(name=NAME)
        raw = store.client().xrange(store.bus_key(NAME), min=f"({cursor.last_id}", count=ROUND)
        if raw:
            _write_all([{name.decode(): value.decode() for name, value in fields.items()} for _, fields in raw], now)
            cursor.last_id = raw[-1][0].decode()
            cursor.save(update_fields=["last_id"])
    # Also what a flush that was killed between its commit and this left behind.
    store.client().xtrim(store.bus_key(NAME), minid=_after(cursor.last_id), approximate=False)
    return len(raw)


def _after(entry_id: str) -> str:
    milliseconds, number = entry_id.split("-")
    return f"{milliseconds}-{int(number) + 1}"


def _write_all(entries: Sequence[Entry], now: datetime) -> None:
    """What the database refuses is logged and left out: it must not hold up what comes after it for ever."""
    try:
        with transaction.atomic():
            _write(entries, now)
    except (DataError, IntegrityError):
        if len(entries) == 1:
            log.exception("the history of pack %s cannot be written", entries[0]["i"])
            return
        half = len(entries) // 2
        _write_all(entries[:half], now)
        _write_all(entries[half:], now)


def _write(entries: Sequence[Entry], now: datetime) -> None:
    wanted = {UUID(entry["f"]) for entry in entries}
    present = {str(federation.pk): federation for federation in Federation.objects.filter(pk__in=wanted)}
    kept = [entry for entry in entries if entry["f"] in present]
    new = [entry for entry in kept if entry["k"] == "m"]
    ended = [entry for entry in kept if entry["k"] != "m"]
    ends = _ends(ended)
    _insert(new, ends)
    _settle(ends)
    _bury([entry for entry in ended if entry["k"] in "ed" and entry["r"] != LATE], now)
    for federation in present.values():
        live.messages_moved(federation)


def _ends(entries: Iterable[Entry]) -> Ends:
    """How often each run of messages ended, and how."""
    found: Ends = defaultdict(Counter)
    for entry in entries:
        for first, last in packs.runs(int(entry["o"]), entry["x"]):
            run = found[entry["i"], first, last]
            run[entry["k"]] += 1
            run[LATE] += entry["r"] == LATE
    return found


def _insert(entries: Sequence[Entry], ends: Ends) -> None:
    """The messages of each pack, with the ends that all of them had already (those are taken out of `ends`)."""
    if not entries:
        return
    rows = [_row(entry, ends.pop((entry["i"], 0, int(entry["n"]) - 1), Counter()), ends) for entry in entries]
    # What they say is one text: as an array of texts it would cost more to write down than to insert.
    bodies = ",".join("[" + entry["b"].replace("\n", ",") + "]" for entry in entries)
    with connection.cursor() as cursor:
        cursor.execute(INSERT, [*(list(column) for column in zip(*rows, strict=True)), f"[{bodies}]"])


def _row(entry: Entry, whole: Counter[str], ends: Ends) -> tuple[Any, ...]:
    shared = json.loads(entry["h"])
    if whole[LATE]:
        ends[entry["i"], 0, int(entry["n"]) - 1] = whole
        whole = Counter()
    return (
        *(entry["i"], entry["f"], shared["from"], shared["to"], shared["priority"], shared["ttl_seconds"]),
        *(json.dumps(shared["path"]), shared["hops"], shared["topology_version"], shared["recipients"]),
        *(whole["a"], whole["e"], whole["d"], datetime.fromisoformat(shared["created_at"])),
    )


def _settle(ends: Ends) -> None:
    """Adds to messages that are there already how many recipients they ended with, and how."""
    if not ends:
        return
    rows = [
        (packs.message_id(pack, first), packs.message_id(pack, last), run["a"], run["e"], run["d"], bool(run[LATE]))
        for (pack, first, last), run in ends.items()
    ]
    with connection.cursor() as cursor:
        cursor.execute(SETTLE, [list(column) for column in zip(*rows, strict=True)])


def _bury(entries: Sequence[Entry], now: datetime) -> None:
    """A dead letter for each recipient that a message did not reach."""
    if not entries:
        return
    lost = [(pk, entry) for entry in entries for pk in _ids(entry)]
    agents = set(Agent.objects.filter(pk__in={entry["a"] for entry in entries}).values_list("pk", flat=True))
    bodies = {str(pk): message.as_sent() for pk, message in Message.objects.in_bulk([pk for pk, _ in lost]).items()}
    letters = [
        DeadLetter(
            federation_id=entry["f"],
            message=bodies[pk],
            agent_id=entry["a"] if UUID(entry["a"]) in agents else None,
            reason=entry["r"],
            error=entry.get("w", ""),
            created_at=now,
        )
        for pk, entry in lost
        if pk in bodies
    ]
    DeadLetter.objects.bulk_create(letters, batch_size=500)


def _ids(entry: Entry) -> list[str]:
    runs = packs.runs(int(entry["o"]), entry["x"])
    return [packs.message_id(entry["i"], place) for first, last in runs for place in range(first, last + 1)]
