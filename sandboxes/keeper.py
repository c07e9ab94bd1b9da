"""Keeps this machine's sandbox daemon as the rows say: a thread of each worker.

    keeper.watch.start()  once in each worker; it looks every second and tells the daemon only what differs:
                          the sizes of its pools, and the long-lived sandboxes that have ended or got more time

The daemon says its sizes itself, so a restarted one is told anew without anybody noticing that it was away.
All pools of a language share the node's sandboxes, as all pools of one template do; how many of them each may use is
the claims' to say. What a pool's template needs and is not here is brought; what nobody needs any more goes.
"""

from __future__ import annotations

import logging
import threading
from typing import Any

from django.conf import settings
from django.db import DatabaseError, connection
from django.db.models import Max, Q, Sum
from django.utils import timezone

from sandboxes import engine, lifetimes, stock
from sandboxes.models import Build, Pool, Template
from sandboxes.models.pools import runs_on
from sandboxes.runtimes import LOCAL, InvalidRequest, RuntimeLost, RuntimeUnavailable, Size
from sandboxes.watches import Watch

LOOK_SECONDS = 1.0
LOOKS_TO_TIDY = 60
LONGEST_AGE_SECONDS = 3600
log = logging.getLogger(__name__)


def _run(stopped: threading.Event) -> None:
    looks = 0
    while True:
        try:
            keep()
            looks += 1
            if looks % LOOKS_TO_TIDY == 0:
                tidy()
        except (DatabaseError, RuntimeLost) as away:
            log.info("the daemon is looked at again later: %s", away)
        except Exception:  # noqa: BLE001 - a thread that ended would leave the daemon at its old sizes for good
            log.exception("the daemon could not be kept as the rows say")
        finally:
            connection.close()
        if stopped.wait(LOOK_SECONDS):
            return


def keep() -> list[str]:
    """Tell the daemon what differs from what it has; returns the names of the pools whose sizes were told."""
    known = lifetimes.ready_here()
    said = engine.describe_anew()
    lifetimes.reconcile(said=said, known=known, now=timezone.now())
    has, here = said.get("pool_sizes", {}), set(said.get("templates", ()))
    if not has:
        return []
    sizes = wanted()
    # A pool that nobody wants ready any more, because it was closed, runs as many as come.
    left = {_named(name) for name in has if ":" in name and "+" not in name} - sizes.keys()
    sizes |= {pool: Size(0, settings.MAX_SANDBOXES, 0, LONGEST_AGE_SECONDS) for pool in left}
    told = []
    for (language, address), size in sizes.items():
        name = f"{language}:{address}" if address else language
        if address and address not in here:
            stock.fetch(address)
        elif has.get(name) != vars(size) and (name in has or address):
            _tell(language, address, size)
            told.append(name)
    return told


def _named(name: str) -> tuple[str, str]:
    language, _, address = name.partition(":")
    return language, address


def _tell(language: str, address: str, size: Size) -> None:
    try:
        engine.runtime().resize(language, size, template=address)
    except (InvalidRequest, RuntimeUnavailable) as refused:
        log.warning("the sandbox daemon does not take the size of %s %s: %s", language, address, refused)
    engine.forget()


def tidy() -> list[str]:
    """Have the node forget the templates that were deleted; returns those."""
    here = engine.describe().get("templates", ())
    known = set(Build.objects.filter(address__in=here).values_list("address", flat=True))
    return [address for address in here if address not in known and engine.runtime().discard(address)]


def wanted() -> dict[tuple[str, str], Size]:
    """The size of each language's pool, and of each template that has pools of its own.

    A language: ready and times as its built-in pool says, running as all its pools together may.
    A template: as much ready as its pools want together, kept as long as the most patient one does.
    Pools that run nothing on this machine need nothing of it.
    """
    here, built_in = runs_on(LOCAL), Q(account=None)
    plain = (
        Pool.objects.filter(template__address="")
        .values("template__language", "template__address")
        .annotate(
            all=Sum("size", filter=here, default=0),
            ready=Max("min_size", filter=built_in & here, default=0),
            idle=Max("idle_timeout_seconds", filter=built_in, default=300),
            age=Max("max_age_seconds", filter=built_in, default=3600),
        )
    )
    own = (
        Pool.objects.filter(here, template__state=Template.State.READY)
        .exclude(template__address="")
        .values("template__language", "template__address")
        .annotate(all=Sum("size"), ready=Sum("min_size"), idle=Max("idle_timeout_seconds"), age=Max("max_age_seconds"))
    )
    return {(row["template__language"], row["template__address"]): _size(row) for row in (*plain, *own)}


def _size(row: dict[str, Any]) -> Size:
    running = max(1, min(row["all"], settings.MAX_SANDBOXES))
    return Size(
        ready=row["ready"] if not row["template__address"] else min(row["ready"], running),
        running=running,
        idle_timeout_seconds=row["idle"],
        max_age_seconds=row["age"],
    )


watch = Watch("sandbox-keeper", _run)
