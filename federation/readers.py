"""Which managed agents read their inboxes, and when to look for each: kept in Redis beside the inboxes.

Every message into such an inbox names its agent at once (lua/box.lua, `call`), so nobody asks inbox after inbox.
`see_to` mends what a Redis that lost something has forgotten.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from uuid import UUID

import redis
from django.db import transaction

from federation import bus, packs, store
from federation.models import Agent

# Of one federation there may be two thousand, and those without room stay in the list.
MOST = 20_000
ATTEMPTS = "attempts"
log = logging.getLogger(__name__)


def told(*, agent: Agent, reads: bool, now: datetime) -> None:
    """From this transaction's end on, the agent reads its inbox, or does not."""
    transaction.on_commit(lambda: _tell(agent, reads, now))


def _tell(agent: Agent, reads: bool, now: datetime) -> None:
    try:
        if reads:
            store.client().sadd(_readers(agent.federation_id), str(agent.pk))
            next_look(agent=agent, now=now)
        else:
            store.client().srem(_readers(agent.federation_id), str(agent.pk))
            forget(federation_id=agent.federation_id, agent_id=agent.pk)
    except redis.RedisError as error:
        log.warning("that %s reads its inbox is told by the sweep: %s", agent.pk, error)


def due(*, now: datetime) -> dict[UUID, UUID]:
    """The agents to look for now, who waited longest first, with their federations."""
    with bus.answering():
        found = store.client().zrangebyscore(_mail(), "-inf", packs.milliseconds(now), start=0, num=MOST)
    pairs = (each.decode().split(" ") for each in found)
    return {UUID(agent_id): UUID(federation_id) for federation_id, agent_id in pairs}


def look_again(*, agent: Agent, at: datetime) -> None:
    with bus.answering():
        store.client().zadd(_mail(), {_box(agent.federation_id, agent.pk): packs.milliseconds(at)})


def next_look(*, agent: Agent, now: datetime, not_before: datetime | None = None) -> None:
    """When something waits or comes due again; never where the inbox is empty."""
    with bus.answering():
        bus.run("next_look", agent.federation_id, now, str(agent.pk), packs.milliseconds(not_before or now))


def forget(*, federation_id: UUID, agent_id: UUID) -> None:
    """Nobody looks for it any more, until it is called again."""
    with bus.answering():
        store.client().zrem(_mail(), _box(federation_id, agent_id))


def give_back(*, agent: Agent, message_ids: Sequence[str], now: datetime) -> None:
    """Offered and not looked at: as if they had not been offered."""
    if message_ids:
        with bus.answering():
            bus.run("give_back", agent.federation_id, now, str(agent.pk), *_named(message_ids))


def bury(*, agent: Agent, message_id: str, error: str, now: datetime) -> None:
    """It failed too often: a dead letter, with what was said last."""
    with bus.answering():
        bus.run("bury", agent.federation_id, now, str(agent.pk), ATTEMPTS, error, *_named([message_id]))


def _named(message_ids: Iterable[str]) -> list[str]:
    return [part for pair in packs.masks(message_ids).items() for part in pair]


def see_to(*, federation_id: UUID, agent_ids: Collection[UUID], now: datetime) -> None:
    """These read their inboxes in truth; whoever has something in it and was not called is."""
    key, wanted = _readers(federation_id), {str(pk) for pk in agent_ids}
    with bus.answering():
        known = {each.decode() for each in store.client().smembers(key)}
        with store.client().pipeline(transaction=False) as pipeline:
            for pk in known - wanted:
                pipeline.srem(key, pk)
            for pk in wanted - known:
                pipeline.sadd(key, pk)
            for pk in wanted:
                pipeline.hget(store.bus_key("box", pk), "n")
            counts = pipeline.execute()[-len(wanted) :] if wanted else pipeline.execute()
        waiting = [pk for pk, count in zip(wanted, counts, strict=False) if int(count or 0)]
        if waiting:
            names = {f"{federation_id} {pk}": packs.milliseconds(now) for pk in waiting}
            store.client().zadd(_mail(), names, nx=True)


def explain(*, agent: Agent, why: str) -> None:
    """Why its messages wait although it reads them; empty when they do not."""
    with bus.answering():
        if why:
            store.client().hset(store.bus_key("box", agent.pk), "why", why[:500])
        else:
            store.client().hdel(store.bus_key("box", agent.pk), "why")


def why_waiting(*, agent: Agent) -> str:
    with bus.answering():
        return (store.client().hget(store.bus_key("box", agent.pk), "why") or b"").decode()


def _mail() -> str:
    return store.bus_key("mail")


def _readers(federation_id: UUID) -> str:
    return store.bus_key("readers", federation_id)


def _box(federation_id: UUID, agent_id: UUID) -> str:
    return f"{federation_id} {agent_id}"
