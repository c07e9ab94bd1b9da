"""Ends a running program that a person cancelled, in whatever process and on whatever machine its worker is.

    reach(execution)    here, if the runtime knows it here; else by Redis, to the worker that has it
    watch.start()       once in each worker: it listens, and ends what it is told of and has

Redis only makes it quick: a worker that hears nothing finds out when it renews the lease.
"""

from __future__ import annotations

import logging
import threading
from contextlib import suppress

import redis
from django.conf import settings

from sandboxes import engine, leases
from sandboxes.models import Execution
from sandboxes.runtimes import RuntimeLost, RuntimeUnavailable
from sandboxes.watches import Watch

CHANNEL = "ntd:executions:cancelled"
LOOK_SECONDS = 1.0
AGAIN_SECONDS = 2.0
log = logging.getLogger(__name__)


def reach(execution: Execution) -> None:
    with suppress(RuntimeLost, RuntimeUnavailable):
        if engine.runtime(execution.runtime).cancel(execution.request_id):
            return
    try:
        _redis().publish(CHANNEL, execution.request_id)
    except redis.RedisError as error:
        log.warning("the worker of execution %s was not told that it is cancelled: %s", execution.pk, error)


def _redis() -> redis.Redis:
    return redis.Redis.from_url(settings.REDIS_URL, socket_timeout=10, socket_connect_timeout=2)


def _run(stopped: threading.Event) -> None:
    while not stopped.is_set():
        try:
            _listen(stopped)
        except redis.RedisError as error:
            log.info("cancelled executions are heard of again later: %s", error)
            stopped.wait(AGAIN_SECONDS)


def _listen(stopped: threading.Event) -> None:
    with _redis() as client, client.pubsub(ignore_subscribe_messages=True) as channel:
        channel.subscribe(CHANNEL)
        while not stopped.is_set():
            message = channel.get_message(timeout=LOOK_SECONDS)
            if message is not None:
                leases.cancel(message["data"].decode())


watch = Watch("sandbox-cancels", _run)
