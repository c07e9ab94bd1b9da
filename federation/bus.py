"""Messages between agents: sent along the topology, kept in an inbox per agent, acknowledged, counted.

An inbox is a Redis stream. What is offered and not acknowledged within `redelivery_seconds` is offered again.
Each step is one script, so that at every instant
    accepted = delivered + expired + dead + queued        (one for each recipient of a message)
`history` brings what happened into the database.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any
from uuid import UUID

import redis
from redis.commands.core import Script
from uuid_utils.compat import uuid7

from federation import history, live, maps, store
from federation.models import Agent, Federation
from federation.topology import Topology

SCRIPTS = Path(__file__).parent / "lua"
DEDUP_SECONDS = 24 * 3600
MAX_PAYLOAD_BYTES = 256 * 1024
FULL_RETRY_SECONDS = 5


class UnknownAgent(Exception):
    """Raised when a sender or recipient is not a member of the federation."""

    code = "not_found"

    def __init__(self, field: str) -> None:
        self.extras = {"errors": {field: ["This is no member of the federation."]}}
        super().__init__(f"`{field}` is no member of the federation.")


class ToOneself(Exception):
    """Raised when an agent sends a message to itself."""

    code = "validation_error"
    extras = {"errors": {"to": ["An agent cannot send to itself."]}}

    def __init__(self) -> None:
        super().__init__("An agent cannot send to itself.")


class PayloadTooLarge(Exception):
    """Raised for a message beyond the size that inboxes take."""

    code = "payload_too_large"
    extras = {"limit": MAX_PAYLOAD_BYTES}

    def __init__(self) -> None:
        super().__init__(f"A message's payload may have {MAX_PAYLOAD_BYTES:,} bytes.")


class InboxFull(Exception):
    """Raised when no recipient has room; the message was not accepted."""

    code = "resource_limit_exceeded"
    retry_after = FULL_RETRY_SECONDS

    def __init__(self, limit: int) -> None:
        super().__init__(f"The inbox is full: {limit:,} messages wait in it. Send again when some are acknowledged.")
        self.extras = {"limit": limit}


class BusUnavailable(Exception):
    """Raised when Redis does not answer; whether a message was accepted is then unknown."""

    code = "federation_error"
    retry_after = 5

    def __init__(self) -> None:
        super().__init__("The message bus does not answer at the moment. Try again with the same message_id.")


@dataclass(frozen=True, slots=True)
class Draft:
    """A message to be sent. `recipient` None is a broadcast."""

    sender: UUID
    recipient: UUID | None
    type: str = "custom"
    payload: Any = None
    priority: int = 5
    ttl_seconds: int = 300
    correlation_id: str = ""
    message_id: str = ""
    durable: bool = False


@dataclass(frozen=True, slots=True)
class Receipt:
    """What was accepted: for a broadcast `path` is empty and `hops` the longest way."""

    id: UUID
    path: list[UUID]
    hops: int
    recipients: int
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Item:
    """A message as an agent finds it in its inbox."""

    message: dict[str, Any]
    path: list[str]
    expires_at: datetime
    delivery_count: int

    @property
    def hops(self) -> int:
        return max(len(self.path) - 1, 0)


@dataclass(frozen=True, slots=True)
class Accounting:
    accepted: int
    delivered: int
    expired: int
    dead: int

    @property
    def queued(self) -> int:
        return self.accepted - self.delivered - self.expired - self.dead


# Sending


def send(*, federation: Federation, draft: Draft, now: datetime) -> Receipt:
    """Accept a message for everyone it is for, or raise and accept nothing."""
    answer = send_many(federation=federation, drafts=[draft], now=now)[0]
    if isinstance(answer, Exception):
        raise answer
    return answer


def send_many(*, federation: Federation, drafts: Sequence[Draft], now: datetime) -> list[Receipt | Exception]:
    """Each draft for itself; the answers are in the order asked."""
    shape = maps.shape(federation)
    with answering(), store.client().pipeline(transaction=False) as pipeline:
        plans = [_plan(federation, shape, draft, now, pipeline) for draft in drafts]
        replies = iter(pipeline.execute())
    answers = [plan if isinstance(plan, Exception) else plan(next(replies)) for plan in plans]
    if any(draft.durable for draft in drafts):
        history.flush_all(now=now)
    live.messages_moved(federation)
    return answers


Plan = Callable[[Any], Receipt | Exception]


def _plan(
    federation: Federation, shape: Topology[UUID], draft: Draft, now: datetime, pipeline: Any
) -> Plan | Exception:
    """Puts the script's call on the pipeline; the plan turns its reply into the answer."""
    if draft.sender not in shape:
        return UnknownAgent("from")
    if draft.recipient is not None and draft.recipient not in shape:
        return UnknownAgent("to")
    if draft.recipient == draft.sender:
        return ToOneself()
    payload = json.dumps(draft.payload)
    if len(payload.encode()) > MAX_PAYLOAD_BYTES:
        return PayloadTooLarge()
    paths = _paths(shape, draft)
    receipt = Receipt(
        id=uuid7(),
        path=paths[draft.recipient] if draft.recipient else [],
        hops=max((len(path) - 1 for path in paths.values()), default=0),
        recipients=len(paths),
        expires_at=now + timedelta(seconds=draft.ttl_seconds),
    )
    body = _body(federation, draft, receipt, now)
    if draft.recipient and federation.max_hops and receipt.hops > federation.max_hops:
        keys = [_counts(federation.pk), _history()]
        arguments = [str(federation.pk), str(receipt.id), body, str(draft.recipient), "hops"]
        _script("bury")(keys, arguments, client=pipeline)
        return lambda reply: receipt
    _script("send")(*_call(federation, draft, receipt, paths, body), client=pipeline)
    return lambda reply: _answer(reply, federation)


def _paths(shape: Topology[UUID], draft: Draft) -> dict[UUID, list[UUID]]:
    """The way to each recipient, both ends included."""
    if draft.recipient is not None:
        return {draft.recipient: shape.route(draft.sender, draft.recipient)}
    ways: dict[UUID, list[UUID]] = {draft.sender: [draft.sender]}
    for step in shape.broadcast_plan(draft.sender):
        ways[step.receiver] = [*ways[step.sender], step.receiver]
    del ways[draft.sender]
    return ways


def _body(federation: Federation, draft: Draft, receipt: Receipt, now: datetime) -> str:
    return json.dumps(
        {
            "id": str(receipt.id),
            "from": str(draft.sender),
            "to": str(draft.recipient) if draft.recipient else None,
            "type": draft.type,
            "payload": draft.payload,
            "priority": draft.priority,
            "ttl_seconds": draft.ttl_seconds,
            "correlation_id": draft.correlation_id,
            "created_at": now.isoformat(),
            "path": [str(member) for member in receipt.path],
            "hops": receipt.hops,
            "recipients": receipt.recipients,
            "topology_version": federation.topology_version,
        }
    )


def _call(
    federation: Federation, draft: Draft, receipt: Receipt, paths: dict[UUID, list[UUID]], body: str
) -> tuple[list[str], list[str | int]]:
    dedup = store.key("dedup", federation.pk, draft.message_id)
    keys = [_counts(federation.pk), _history(), dedup, _active(), *(_inbox(agent) for agent in paths)]
    answer = json.dumps(
        [
            str(receipt.id),
            [str(each) for each in receipt.path],
            receipt.hops,
            receipt.recipients,
            _ms(receipt.expires_at),
        ]
    )
    arguments: list[str | int] = [str(federation.pk), str(receipt.id), body, answer, _ms(receipt.expires_at)]
    arguments += [federation.inbox_limit, DEDUP_SECONDS if draft.message_id else 0]
    for agent, path in paths.items():
        arguments += [str(agent), json.dumps([str(member) for member in path])]
    return keys, arguments


def _answer(reply: list[bytes], federation: Federation) -> Receipt | Exception:
    if reply[0] == b"full":
        return InboxFull(federation.inbox_limit)
    pk, path, hops, recipients, expires = json.loads(reply[1])
    return Receipt(UUID(pk), [UUID(member) for member in path], hops, recipients, _moment(expires))


# Receiving


def receive(*, agent: Agent, most: int, wait_seconds: float = 0, clock: Callable[[], datetime]) -> list[Item]:
    """What is in the inbox, waiting so long for something; everything must be acknowledged."""
    end = time.monotonic() + wait_seconds
    with answering():
        while True:
            items = _offered(agent, most, clock())
            left = end - time.monotonic()
            if items or left <= 0:
                return items
            # Wakes on the next message; a redelivery that comes due meanwhile is found a second later at most.
            newest = store.client().xrevrange(_inbox(agent.pk), count=1)
            after = newest[0][0] if newest else "0-0"
            store.client().xread({_inbox(agent.pk): after}, block=max(int(min(left, 1.0) * 1000), 1))


def _offered(agent: Agent, most: int, now: datetime) -> list[Item]:
    again_at = now + timedelta(seconds=agent.federation.redelivery_seconds)
    arguments = [str(agent.federation_id), str(agent.pk), _ms(now), _ms(again_at), most]
    found = _script("receive")(_box(agent), arguments)
    return [
        Item(json.loads(body), json.loads(path), _moment(expires), int(count)) for body, path, expires, count in found
    ]


def acknowledge(*, agent: Agent, message_ids: Sequence[UUID]) -> int:
    """How many were waiting for it; repeating it changes nothing."""
    with answering():
        done = int(_script("acknowledge")(_box(agent), [str(agent.federation_id), *map(str, message_ids)]))
    if done:
        live.messages_moved(agent.federation)
    return done


def close_inbox(*, agent: Agent) -> None:
    """The agent left: what waits for it becomes dead letters."""
    with answering():
        _script("clear")(_box(agent), [str(agent.federation_id), str(agent.pk), "all"])


def expire(*, federation_id: UUID, now: datetime) -> None:
    """End what waited too long in any inbox."""
    members = Agent.objects.members().filter(federation=federation_id).only("pk", "federation_id")
    with answering(), store.client().pipeline(transaction=False) as pipeline:
        for agent in members:
            arguments = [str(federation_id), str(agent.pk), _ms(now)]
            _script("clear")(_box(agent), arguments, client=pipeline)
        left = pipeline.execute()
    if not any(left):
        _forget(federation_id, [_inbox(agent.pk) for agent in members])


def _forget(federation_id: UUID, inboxes: list[str]) -> None:
    """Nothing waits here any more; what was sent in this very moment is looked for after forgetting."""
    with answering(), store.client().pipeline(transaction=False) as pipeline:
        pipeline.srem(_active(), str(federation_id))
        for inbox in inboxes:
            pipeline.xlen(inbox)
        if any(pipeline.execute()[1:]):
            store.client().sadd(_active(), str(federation_id))


def accounting(*, federation: Federation, now: datetime) -> Accounting:
    expire(federation_id=federation.pk, now=now)
    with answering():
        counts = store.client().hgetall(_counts(federation.pk))
    return Accounting(*(int(counts.get(name, 0)) for name in (b"accepted", b"delivered", b"expired", b"dead")))


def federations_with_messages() -> list[UUID]:
    """Where messages may be waiting."""
    with answering():
        return [UUID(found.decode()) for found in store.client().smembers(_active())]


def waiting_in_inbox(*, agent: Agent) -> int:
    with answering():
        return int(store.client().xlen(_inbox(agent.pk)))


@contextmanager
def answering() -> Iterator[None]:
    try:
        yield
    except redis.RedisError as error:
        raise BusUnavailable from error


@cache
def _script(name: str) -> Script:
    return store.client().register_script((SCRIPTS / f"{name}.lua").read_text())


def _counts(federation_id: UUID) -> str:
    return store.key("counts", federation_id)


def _history() -> str:
    return store.key("history")


def _active() -> str:
    return store.key("active")


def _inbox(agent_id: UUID) -> str:
    return store.key("inbox", agent_id)


def _box(agent: Agent) -> list[str]:
    offers, pending = store.key("offers", agent.pk), store.key("pending", agent.pk)
    return [_counts(agent.federation_id), _history(), _inbox(agent.pk), pending, offers]


def _ms(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)


def _moment(milliseconds: int | bytes) -> datetime:
    return datetime.fromtimestamp(int(milliseconds) / 1000, tz=UTC)
