"""Wakes who waits for a sandbox to be opened or cleared away. A bell only wakes; what is true says the row.

Redis only makes it fast: without it the one who waits does so for its whole time.
"""

from __future__ import annotations

import logging
import time
from functools import cache
from uuid import UUID

import redis
from django.conf import settings
from django.db import connection

KEPT_SECONDS = 300
BLOCK_MS = 2000
log = logging.getLogger(__name__)


@cache
def _redis() -> redis.Redis:
    return redis.Redis.from_url(settings.REDIS_URL, socket_timeout=10, socket_connect_timeout=2)


def opened(sandbox_id: UUID | str) -> str:
    return f"ntd:sandbox:{sandbox_id}:opened"


def cleared(sandbox_id: UUID | str) -> str:
    return f"ntd:sandbox:{sandbox_id}:cleared"


def ring(bell: str) -> None:
    try:
        with _redis().pipeline(transaction=False) as pipe:
            pipe.xadd(bell, {"rung": "1"}, maxlen=1)
            pipe.expire(bell, KEPT_SECONDS)
            pipe.execute()
    except redis.RedisError as error:
        log.warning("the bell %s was not rung: %s", bell, error)


def wait(bell: str, *, seconds: float) -> bool:
    """Whether it was rung, before or within the time; a connection to the database is not held meanwhile."""
    deadline = time.monotonic() + seconds
    if not connection.in_atomic_block:
        connection.close()
    while (left := deadline - time.monotonic()) > 0:
        try:
            if _redis().xread({bell: "0"}, block=max(1, min(BLOCK_MS, int(left * 1000)))):
                return True
        except redis.RedisError as error:
            log.warning("waiting for %s without Redis: %s", bell, error)
            time.sleep(min(left, 0.5))
            return False
    return False
