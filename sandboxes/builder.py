"""Builds what templates start from: claims, runs and finishes builds, each of them for every template of its content.

    building --claim: a lease--> building --finish--> ready | failed
       ^                             |
       +--- the worker, or its daemon, was lost: again after a moment, at most three attempts

An attempt is fenced by its number and its lease: whoever comes late finds zero rows and writes nothing.
"""

from __future__ import annotations

import logging
import random
import socket
import threading
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any

from django.conf import settings
from django.db import DatabaseError, connection, transaction
from django.db.models import Value
from django.db.models.functions import Concat

from sandboxes import engine, lifecycle, live
from sandboxes.leases import LEASE, ME, RENEW_SECONDS, Clock
from sandboxes.models import Build
from sandboxes.models.builds import MOST_ATTEMPTS
from sandboxes.runtimes import BuildRequest, Built, InvalidRequest, RuntimeLost, RuntimeUnavailable

AT_ONCE = 4
LOG_CHARACTERS = 64 * 1024
FLUSH_SECONDS = 0.5
LEFT_OUT = "\n(The rest of the log is left out.)\n"
ERROR_LENGTH = 500
log = logging.getLogger(__name__)


@transaction.atomic
def claim(*, now: datetime) -> Build | None:
    """The build that has waited longest, leased to this process; None when there is none, or enough are built."""
    if Build.objects.filter(lease_expires_at__gte=now).exclude(claimed_by="").count() >= AT_ONCE:
        return None
    waiting = Build.objects.claimable(now).select_for_update(skip_locked=True).order_by("created_at", "pk")
    build = waiting.first()
    if build is None:
        return None
    if build.attempt >= MOST_ATTEMPTS:
        _end(build, Build.State.FAILED, now, error="The workers that built it stopped answering.")
        return None
    build.attempt += 1
    build.claimed_by, build.node = ME, settings.NODE_NAME or socket.gethostname()
    build.lease_expires_at, build.log = now + LEASE, ""
    build.save(update_fields=["attempt", "claimed_by", "node", "lease_expires_at", "log"])
    live.build_changed(build)
    return build


def run(*, build: Build, clock: Clock) -> float | None:
    """Run a claimed build to its end; seconds to wait before it should be tried again, or None."""
    request = BuildRequest(
        id=f"build-{build.pk}-{build.attempt}",
        address=build.address,
        language=build.language,
        packages=tuple(build.packages),
        lock=build.lock,
    )
    try:
        with Progress(build, clock) as progress:
            built = engine.runtime().build(request, on_output=progress.hear)
    except RuntimeLost as lost:
        return lose(build=build, reason=str(lost), now=clock())
    except (RuntimeUnavailable, InvalidRequest) as refused:
        built = Built(reason=str(refused))
    finally:
        # What the node has on its shelf has changed.
        engine.forget()
    finish(build=build, built=built, now=clock())
    return None


@transaction.atomic
def finish(*, build: Build, built: Built, now: datetime) -> bool:
    """Write down how it ended, once, for every template of it. False when the attempt came too late."""
    state = Build.State.FAILED if built.reason else Build.State.READY
    fields = (
        {"error": built.reason[:ERROR_LENGTH]} if built.reason else {"lock": built.lock, "size_bytes": built.size_bytes}
    )
    return _end(build, state, now, **fields)


def _end(build: Build, state: str, now: datetime, **fields: Any) -> bool:
    ended = {"state": state, "finished_at": now, "lease_expires_at": None, "claimed_by": ""}
    if not _mine(build).update(**ended | fields):
        log.warning("attempt %s at build %s came too late", build.attempt, build.address)
        return False
    build.templates.update(state=state)
    live.build_changed(build)
    return True


def _mine(build: Build) -> Any:
    """The row, if this attempt still holds it."""
    mine = Build.objects.filter(pk=build.pk, state=Build.State.BUILDING, attempt=build.attempt)
    return mine.filter(claimed_by=build.claimed_by)


@transaction.atomic
def lose(*, build: Build, reason: str, now: datetime) -> float | None:
    """The node failed, not the packages: again after a moment, or failed honestly after the last attempt."""
    if build.attempt >= MOST_ATTEMPTS:
        _end(
            build,
            Build.State.FAILED,
            now,
            error=f"Building it was tried {build.attempt} times; the last time: {reason}"[:ERROR_LENGTH],
        )
        return None
    wait = lifecycle.retry_wait(attempt=build.attempt, chance=random.random())
    moved = _mine(build).update(claimed_by="", lease_expires_at=now + timedelta(seconds=wait))
    live.build_changed(build)
    return wait if moved else None


class Progress:
    """Keeps the lease of a build and writes its log down while it goes, from a thread of its own."""

    def __init__(self, build: Build, clock: Clock) -> None:
        self._build, self._clock = build, clock
        self._said: list[str] = []
        self._written = 0
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="build-progress", daemon=True)

    def __enter__(self) -> Progress:
        self._thread.start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._over.set()
        self._thread.join()
        self._flush()

    def hear(self, stream: str, offset: int, content: bytes) -> None:
        with self._lock:
            self._said.append(content.decode(errors="replace").replace("\0", "\ufffd"))

    def _keep(self) -> None:
        until_renewal = RENEW_SECONDS
        try:
            while not self._over.wait(FLUSH_SECONDS):
                until_renewal -= FLUSH_SECONDS
                try:
                    self._flush()
                    if until_renewal <= 0:
                        until_renewal = RENEW_SECONDS
                        self._renew()
                except DatabaseError as away:
                    log.warning("the progress of a build is written down later: %s", away)
        finally:
            connection.close()

    def _renew(self) -> None:
        """A build that was deleted, or is another's by now, goes on to its end on the node; its end has no effect."""
        _mine(self._build).update(lease_expires_at=self._clock() + LEASE)

    def _flush(self) -> None:
        with self._lock:
            text, self._said = "".join(self._said), []
        room = LOG_CHARACTERS - self._written
        if not text or room <= 0:
            return
        self._written += len(text)
        kept = text if len(text) < room else text[:room] + LEFT_OUT
        if _mine(self._build).update(log=Concat("log", Value(kept))):
            live.build_changed(self._build)
