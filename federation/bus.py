"""Messages between agents: sent along the topology, kept in an inbox per agent, acknowledged, counted.

An inbox is a Redis stream of packs (`packs`). What is offered and not acknowledged within `redelivery_seconds` is
offered again. Each step is one script, so that at every instant
    accepted = delivered + expired + dead + queued        (one for each recipient of a message)
`history` brings what happened into the database; `relays` says how a message goes hop by hop; `requests` waits for
replies.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any
from uuid import UUID

import redis
from redis.commands.core import Script
from uuid_utils.compat import uuid7

from federation import history, live, packs, relays, signals, store
from federation.models import Agent, Federation
from federation.packs import Draft, Item, Offer, Pack, Receipt

SCRIPTS = Path(__file__).parent / "lua"
DEDUP_SECONDS = 24 * 3600
FULL_RETRY_SECONDS = 5
SWEEP = 500
# One script call fills at most so many inboxes: it keeps everybody else waiting.
FILLS = 2000


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


REFUSALS = (UnknownAgent, ToOneself, packs.PayloadTooLarge, packs.UnfitPayload, InboxFull, BusUnavailable)


@dataclass(frozen=True, slots=True)
class Accounting:
    accepted: int
    delivered: int
    expired: int
    dead: int
    queued: int

    @property
    def balances(self) -> bool:
        return self.accepted == self.delivered + self.expired + self.dead + self.queued


# Sending


def send(*, federation: Federation, draft: Draft, now: datetime) -> Receipt:
    """Accept a message for everyone it is for, or raise and accept nothing."""
    answer = send_many(federation=federation, drafts=[draft], now=now)[0]
    if isinstance(answer, Exception):
        raise answer
    return answer


def send_many(*, federation: Federation, drafts: Sequence[Draft], now: datetime) -> list[Receipt | Exception]:
    """Each draft for itself; the answers are in the order asked."""
    sending = _Sending(federation, drafts, now)
    with answering():
        sending.send(packs.packed(sending.fit()))
    if any(draft.durable for draft in drafts):
        history.flush_all(now=now)
    live.messages_moved(federation)
    if sending.called:
        signals.mail_came.send_robust(sender=None)
    return sending.answers


class _Sending:
    """One call of `send_many`: what was asked, the ways looked up so far, and the answers."""

    def __init__(self, federation: Federation, drafts: Sequence[Draft], now: datetime) -> None:
        self.map = relays.Map(federation)
        self.federation, self.drafts, self.now = federation, drafts, now
        # Every answer is set before it is given: a draft is refused here or answered by its pack.
        self.answers: list[Any] = [None] * len(drafts)
        self.ways: dict[tuple[UUID, UUID | None], relays.Way | Exception] = {}
        self.called = 0  # agents that read their inboxes here, and have something in it now

    def fit(self) -> Iterator[tuple[int, Draft, bytes]]:
        """What can be sent; the others are answered with why not."""
        way: relays.Way | Exception | None = None
        sender = recipient = None
        for place, draft in enumerate(self.drafts):
            if way is None or draft.sender is not sender or draft.recipient is not recipient:
                way, sender, recipient = self._way(draft), draft.sender, draft.recipient
            if isinstance(way, Exception):
                self.answers[place] = way
                continue
            try:
                yield place, draft, packs.body_of(draft)
            except (packs.PayloadTooLarge, packs.UnfitPayload) as refused:
                self.answers[place] = refused

    def _way(self, draft: Draft) -> relays.Way | Exception:
        key = (draft.sender, draft.recipient)
        if key not in self.ways:
            self.ways[key] = self._refusal(draft) or self.map.way(draft.sender, draft.recipient)
        return self.ways[key]

    def _refusal(self, draft: Draft) -> Exception | None:
        if draft.sender not in self.map.members:
            return UnknownAgent("from")
        if draft.recipient is not None and draft.recipient not in self.map.members:
            return UnknownAgent("to")
        return ToOneself() if draft.recipient == draft.sender else None

    def send(self, waiting: list[Pack]) -> None:
        waiting = self._alone_when_relayed(waiting)
        while waiting:
            chunk, fills = [], 0
            while waiting and (not chunk or fills < FILLS):
                chunk.append(waiting.pop(0))
                fills += self._known_way(chunk[-1]).recipients
            waiting = self._send(chunk) + waiting

    def _alone_when_relayed(self, found: list[Pack]) -> list[Pack]:
        """What goes hop by hop is passed on message by message."""
        if not self.map.is_relayed:
            return found
        alone = []
        for pack in found:
            for place, body in zip(pack.places, pack.bodies, strict=True):
                alone.append(Pack(self.drafts[place], [place], [body]))
        return alone

    def _known_way(self, pack: Pack) -> relays.Way:
        way = self._way(pack.draft)
        assert isinstance(way, relays.Way)
        return way

    def _send(self, chunk: list[Pack]) -> list[Pack]:
        """Returns what is still to be sent: the pack that found only some room, cut to it, and those after it."""
        arguments: list[Any] = [self.federation.inbox_limit, _again_at(self.federation, self.now), len(chunk)]
        receipts = []
        for pack in chunk:
            receipts.append(self._put(pack, arguments))
        called, replies = run("send", self.federation.pk, self.now, *arguments)
        self.called += called
        for pack, receipt, reply in zip(chunk, receipts, replies, strict=False):
            if isinstance(reply, int) and reply > 0:
                cut, refused = pack.split(reply)
                self._answer(refused, InboxFull(self.federation.inbox_limit))
                return [cut, *chunk[len(replies) :]]
            self._settle(pack, receipt, reply)
        return chunk[len(replies) :]

    def _settle(self, pack: Pack, receipt: Receipt, reply: int | bytes) -> None:
        if isinstance(reply, bytes):
            self._answer(pack.places, Receipt.from_text(reply))
        elif reply == 0:
            self._answer(pack.places, InboxFull(self.federation.inbox_limit))
        else:
            pack_id, _, *same = receipt
            for place, position in enumerate(pack.places):
                self.answers[position] = Receipt(pack_id, place, *same)

    def _answer(self, positions: list[int], answer: Receipt | Exception) -> None:
        for position in positions:
            self.answers[position] = answer

    def _put(self, pack: Pack, arguments: list[Any]) -> Receipt:
        """Adds a pack's arguments for the script; returns the receipt of its first message."""
        draft, way = pack.draft, self._known_way(pack)
        receipt = Receipt(
            pack_id=str(uuid7())[: packs.PREFIX],
            place=0,
            path=way.path,
            hops=way.hops,
            recipients=way.recipients,
            expires_at=packs.moment(packs.milliseconds(self.now + timedelta(seconds=draft.ttl_seconds))),
        )
        correlation = draft.correlation_id
        asks = draft.reply_timeout_seconds is not None
        if asks and not correlation:
            correlation = packs.message_id(receipt.pack_id, 0)
            pack.bodies = [packs.body_of(draft._replace(correlation_id=correlation))]
        receipt = receipt._replace(correlation_id=correlation)
        arguments += [receipt.pack_id, len(pack.places), str(draft.sender), self._shared(draft, way)]
        arguments += [b"\n".join(pack.bodies), packs.milliseconds(receipt.expires_at), draft.priority, correlation]
        arguments += [draft.message_id, receipt.as_text() if draft.message_id else "", DEDUP_SECONDS]
        timeout = draft.reply_timeout_seconds or 0
        arguments += [packs.milliseconds(self.now + timedelta(seconds=timeout)) if asks else ""]
        arguments += [str(draft.recipient or ""), int(draft.awaited), *way.targets]
        return receipt

    def _shared(self, draft: Draft, way: relays.Way) -> str:
        """What the messages of a pack have in common, for inboxes and the history."""
        return json.dumps(
            {
                "from": str(draft.sender),
                "to": str(draft.recipient) if draft.recipient else None,
                "priority": draft.priority,
                "ttl_seconds": draft.ttl_seconds,
                "created_at": self.now.isoformat(),
                "path": way.path,
                "hops": way.hops,
                "recipients": way.recipients,
                "topology_version": self.federation.topology_version,
                **({"in_reply_to": draft.in_reply_to} if draft.in_reply_to else {}),
            }
        )


# Receiving


def receive(*, agent: Agent, most: int, wait_seconds: float = 0, clock: Callable[[], datetime]) -> list[Item]:
    """What is in the inbox, waiting so long for something; everything must be acknowledged."""
    end = time.monotonic() + wait_seconds
    inbox = store.bus_key("inbox", agent.pk)
    with answering():
        while True:
            newest, items = _offered(agent, most, clock())
            left = end - time.monotonic()
            if items or left <= 0:
                return items
            # Wakes on the next message; a redelivery that comes due meanwhile is found a second later at most.
            store.client().xread({inbox: f"{newest}-0"}, block=max(int(min(left, 1.0) * 1000), 1))


def _offered(agent: Agent, most: int, now: datetime) -> tuple[int, list[Item]]:
    again_at = _again_at(agent.federation, now)
    newest, *found = run("receive", agent.federation_id, now, str(agent.pk), again_at, most)
    items: list[Item] = []
    for pack_id, shared, bodies, first, path, expires, to, times, ended in found:
        header, moment = json.loads(shared), packs.moment(expires)
        offer = Offer(pack_id.decode(), header, json.loads(path), moment, times, to.decode())
        items += packs.items(offer, int(first), bodies, ended)
    return newest, items


def acknowledge(*, agent: Agent, message_ids: Sequence[UUID | str], now: datetime) -> int:
    """How many were waiting for it; repeating it changes nothing. What is for others is passed on."""
    named = [part for pair in packs.masks(message_ids).items() for part in pair]
    with answering():
        done, *further = run("acknowledge", agent.federation_id, now, str(agent.pk), *named)
        if further:
            done += _pass_on(agent.federation, str(agent.pk), further, now=now)
    if done:
        live.messages_moved(agent.federation)
    return int(done)


def _pass_on(federation: Federation, holder: str, entries: list[list[bytes]], *, now: datetime) -> int:
    """How many went on, or ended as dead letters. What cannot go on now stays, to be tried again."""
    ways = relays.Map(federation)
    moved = 0
    for entry, path, to in entries:
        leg = ways.leg_from(json.loads(path), to.decode())
        if leg is not None:
            arguments = [holder, entry, federation.inbox_limit, _again_at(federation, now), *leg]
            moved += run("pass", federation.pk, now, *arguments) == 1
    return moved


def close_inbox(*, agent: Agent, now: datetime) -> None:
    """The agent left: what waits for it becomes dead letters, what it passed on goes another way."""
    reroute(agent=agent, now=now)
    with answering():
        run("clear", agent.federation_id, now, str(agent.pk))


def reroute(*, agent: Agent, now: datetime) -> int:
    """What an agent that is not linked any more was to pass on goes another way."""
    with answering():
        further = run("carried", agent.federation_id, now, str(agent.pk))
        if not further:
            return 0
        federation = Federation.objects.get(pk=agent.federation_id)
        return _pass_on(federation, str(agent.pk), further, now=now)


def see_to(*, federation_id: UUID, now: datetime) -> None:
    """What waited too long ends; what lost agents were to pass on goes another way."""
    expire(federation_id=federation_id, now=now)
    lost = Agent.objects.members().filter(availability=Agent.Availability.LOST)
    for agent in lost.filter(federation=federation_id, federation__delivery=Federation.Delivery.RELAYED):
        reroute(agent=agent, now=now)


def expire(*, federation_id: UUID, now: datetime) -> None:
    """End what waited too long in any inbox."""
    with answering():
        while run("expire", federation_id, now, SWEEP) == SWEEP:
            pass


def accounting(*, federation: Federation, now: datetime) -> Accounting:
    expire(federation_id=federation.pk, now=now)
    with answering():
        counts = store.client().hgetall(store.bus_key("counts", federation.pk))
    names = (b"accepted", b"delivered", b"expired", b"dead", b"queued")
    return Accounting(*(int(counts.get(name, 0)) for name in names))


def federations_with_messages() -> list[UUID]:
    """Where messages may be waiting."""
    with answering():
        return [UUID(found.decode()) for found in store.client().smembers(store.bus_key("active"))]


def waiting_in_inbox(*, agent: Agent) -> int:
    with answering():
        return int(store.client().hget(store.bus_key("box", agent.pk), "n") or 0)


@contextmanager
def answering() -> Iterator[None]:
    try:
        yield
    except redis.RedisError as error:
        raise BusUnavailable from error


def run(name: str, federation_id: UUID, now: datetime, *arguments: Any) -> Any:
    """One step, as one script."""
    return _script(name)([store.bus_key("")], [str(federation_id), packs.milliseconds(now), *arguments])


@cache
def _script(name: str) -> Script:
    shared = (SCRIPTS / "box.lua").read_text()
    return store.client().register_script(shared + (SCRIPTS / f"{name}.lua").read_text())


def _again_at(federation: Federation, now: datetime) -> int:
    return packs.milliseconds(now + timedelta(seconds=federation.redelivery_seconds))
