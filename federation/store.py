"""This app's connection to Redis: inboxes, counters, wake-ups. One client per process; it is thread-safe."""

from __future__ import annotations

import time
from functools import cache
from uuid import UUID

import redis
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


def wake(agent_id: UUID) -> None:
    """Tell whoever waits for this agent's next task that there is one."""
    name = key("wake", agent_id)
    with client().pipeline(transaction=False) as pipeline:
        pipeline.lpush(name, 1).ltrim(name, 0, 0).expire(name, 60).execute()


def sleep_until_woken(agent_id: UUID, *, seconds: float) -> bool:
    return client().blpop([key("wake", agent_id)], timeout=seconds) is not None


def seconds_since_last(name: str) -> float:
    """Real seconds (whatever the test clock says) since this was asked last, by any process; 0 the first time."""
    now = time.time()
    before = client().set(key("last", name), now, get=True)
    return now - float(before) if before else 0.0
