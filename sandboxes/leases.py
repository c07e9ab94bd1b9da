"""Renews the leases of everything that runs in this process, from one thread, in one statement.

A lease that is no longer ours means that the sweep took the execution back: its program is killed. So is one that a
person cancelled, should nobody have told us.
"""

from __future__ import annotations

import logging
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import DatabaseError, close_old_connections, connection

from sandboxes import lifecycle
from sandboxes.models import Execution
from sandboxes.runtimes import Runtime, RuntimeLost, RuntimeUnavailable

LEASE = timedelta(seconds=15)
RENEW_SECONDS = 4.0
# Which process holds a lease: renewals and late writes of another one do not match.
ME = f"{socket.gethostname()[:50]}:{os.getpid()}:{secrets.token_hex(4)}"
Clock = Callable[[], datetime]
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Held:
    execution: Execution
    runtime: Runtime
    clock: Clock


_held: dict[str, Held] = {}
_lock = threading.Lock()
_thread: threading.Thread | None = None


@contextmanager
def kept(execution: Execution, runtime: Runtime, clock: Clock) -> Iterator[None]:
    """While inside, the execution's lease is renewed."""
    with _lock:
        _held[execution.request_id] = Held(execution, runtime, clock)
        _ensure_thread()
    try:
        yield
    finally:
        with _lock:
            _held.pop(execution.request_id, None)


def held_here() -> int:
    """How many executions run in this process."""
    with _lock:
        return len(_held)


def _ensure_thread() -> None:
    global _thread
    if _thread is None or not _thread.is_alive():
        _thread = threading.Thread(target=_keep_renewing, name="sandbox-leases", daemon=True)
        _thread.start()


def _keep_renewing() -> None:
    """Ends when nothing runs any more, so that no connection stays behind."""
    global _thread
    while True:
        time.sleep(RENEW_SECONDS)
        with _lock:
            held = list(_held.values())
            if not held:
                _thread = None
                break
        try:
            renew(held)
        except DatabaseError as error:
            log.warning("leases were not renewed, trying again: %s", error)
        finally:
            close_old_connections()
    connection.close()


def renew(held: list[Held]) -> None:
    """Extend what is still ours; stop what is not."""
    keys = [item.execution.pk for item in held]
    ours = Execution.objects.filter(pk__in=keys, claimed_by=ME, lease_expires_at__isnull=False)
    ours.update(lease_expires_at=held[0].clock() + LEASE)
    still = {(pk, attempt): state for pk, attempt, state in ours.values_list("pk", "attempt", "state")}
    for item in held:
        state = still.get((item.execution.pk, item.execution.attempt))
        if state is None and not _is_held(item):
            continue  # It ended while we looked.
        if state is None:
            log.warning("execution %s is no longer this worker's, stopping it", item.execution.pk)
        if state in (None, lifecycle.CANCELLED):
            stop(item)


def _is_held(item: Held) -> bool:
    with _lock:
        return _held.get(item.execution.request_id) is item


def stop(item: Held) -> None:
    with suppress(RuntimeLost, RuntimeUnavailable):
        item.runtime.cancel(item.execution.request_id)


def cancel(request_id: str) -> None:
    """Stop it if it runs in this process."""
    with _lock:
        item = _held.get(request_id)
    if item is not None:
        stop(item)
