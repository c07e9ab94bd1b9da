"""This app's connection to Redis: inboxes, counters, wake-ups. One client per process; it is thread-safe."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from functools import cache
from uuid import UUID

import redis
import redis.asyncio
from django.conf import settings


@cache
def client() -> redis.Redis:
    return redis.Redis.from_url(
        settings.REDIS_URL, socket_connect_timeout=5, socket_timeout=70, health_check_interval=15
    )


def key(*parts: object) -> str:
    return ":".join(("ntd:federation", *map(str, parts)))


def bus_key(*parts: object) -> str:
    """Inboxes, counts and history of the bus; `lua/box.lua` lists them."""
    return key("bus", *parts)


def next_graph_version(federation_id: UUID) -> int:
    return int(client().incr(key("graph", federation_id)))


def graph_version(federation_id: UUID) -> int:
    return int(client().get(key("graph", federation_id)) or 0)


def wake_all(agent_ids: Iterable[UUID]) -> None:
    """Tell whoever waits for one of these agents' next task that there is one."""
    with client().pipeline(transaction=False) as pipeline:
        for name in (key("wake", agent_id) for agent_id in agent_ids):
            pipeline.lpush(name, 1).ltrim(name, 0, 0).expire(name, 60)
        pipeline.execute()


def sleep_until_woken(agent_id: UUID, *, seconds: float) -> bool:
    return client().blpop([key("wake", agent_id)], timeout=seconds) is not None


async def woken(agent_id: UUID, *, seconds: float) -> None:
    """As `sleep_until_woken`, in the event loop of whoever waits for many."""
    async with _patient(seconds) as waiting:
        await waiting.blpop([key("wake", agent_id)], timeout=seconds)


async def mail(agent_id: UUID, *, seconds: float) -> None:
    """Until the agent's inbox grows, or a second has passed: by then an older message may have come due again."""
    inbox = key("inbox", agent_id)
    async with _patient(seconds) as waiting:
        newest = await waiting.xrevrange(inbox, count=1)
        await waiting.xread({inbox: newest[0][0] if newest else "0-0"}, block=max(int(min(seconds, 1.0) * 1000), 1))


@asynccontextmanager
async def _patient(seconds: float) -> AsyncIterator[redis.asyncio.Redis]:
    """A connection for one wait. A Redis that is away makes the wait a pause."""
    waiting = redis.asyncio.Redis.from_url(settings.REDIS_URL, socket_timeout=None, single_connection_client=True)
    try:
        yield waiting
    except redis.RedisError:
        await asyncio.sleep(min(seconds, 1.0))
    finally:
        await waiting.aclose()


def seconds_since_last(name: str) -> float:
    """Real seconds (whatever the test clock says) since this was asked last, by any process; 0 the first time."""
    now = time.time()
    before = client().set(key("last", name), now, get=True)
    return now - float(before) if before else 0.0
