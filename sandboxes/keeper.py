"""Keeps this machine's sandbox daemon at the sizes its pools have now: a thread of each worker.

    keeper.start()        once in each worker; it looks every second and tells the daemon only what differs

The daemon says its sizes itself, so a restarted one is told anew without anybody noticing that it was away.
All pools of a language share the node's sandboxes; how many of them each may use is the claims' to say.
"""

from __future__ import annotations

import logging
import threading

from django.conf import settings
from django.db import DatabaseError, connection
from django.db.models import Max, Q, Sum

from sandboxes import engine
from sandboxes.models import Pool
from sandboxes.models.pools import runs_on
from sandboxes.runtimes import LOCAL, InvalidRequest, RuntimeLost, RuntimeUnavailable, Size

LOOK_SECONDS = 1.0
log = logging.getLogger(__name__)
_stopped = threading.Event()
_thread: threading.Thread | None = None


def start() -> None:
    """This will keep the daemon's sizes from now on; a second call changes nothing."""
    global _thread
    if _thread is None:
        _stopped.clear()
        _thread = threading.Thread(target=_run, name="sandbox-keeper", daemon=True)
        _thread.start()


def stop() -> None:
    global _thread
    if _thread is not None:
        _stopped.set()
        _thread.join(timeout=10)
        _thread = None


def _run() -> None:
    while True:
        try:
            keep()
        except (DatabaseError, RuntimeLost) as away:
            log.info("the daemon's sizes are looked at again later: %s", away)
        except Exception:  # noqa: BLE001 - a thread that ended would leave the daemon at its old sizes for good
            log.exception("the daemon's sizes could not be kept")
        finally:
            connection.close()
        if _stopped.wait(LOOK_SECONDS):
            return


def keep() -> list[str]:
    """Tell the daemon the sizes that differ from its own; returns the languages told."""
    has = engine.describe_anew().get("pool_sizes", {})
    if not has:
        return []
    differing = {name: size for name, size in wanted().items() if name in has and has[name] != vars(size)}
    for language, size in differing.items():
        _tell(language, size)
    return list(differing)


def _tell(language: str, size: Size) -> None:
    try:
        engine.runtime().resize(language, size)
    except (InvalidRequest, RuntimeUnavailable) as refused:
        log.warning("the sandbox daemon does not take the size of %s: %s", language, refused)
    engine.forget()


def wanted() -> dict[str, Size]:
    """Each language's size: ready and times as its built-in pool says, running as all its pools together may.

    Pools that run nothing on this machine need nothing of it.
    """
    here, built_in = runs_on(LOCAL), Q(account=None)
    rows = (
        Pool.objects.filter(template__address="")
        .values("template__language")
        .annotate(
            all=Sum("size", filter=here, default=0),
            ready=Max("min_size", filter=built_in & here, default=0),
            idle=Max("idle_timeout_seconds", filter=built_in, default=300),
            age=Max("max_age_seconds", filter=built_in, default=3600),
        )
    )
    return {
        row["template__language"]: Size(
            ready=row["ready"],
            running=max(1, min(row["all"], settings.MAX_SANDBOXES)),
            idle_timeout_seconds=row["idle"],
            max_age_seconds=row["age"],
        )
        for row in rows
    }
