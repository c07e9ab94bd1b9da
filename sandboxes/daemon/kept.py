"""The sandboxes that customers keep: opened once, used run after run, ended by their time, by word, or by death.

opened -> idle <-> running -> ended        what ended lately is told with its reason

They are not leased to a connection. The daemon ends each at its time by its own clock, and all when it stops.
"""

from __future__ import annotations

import collections
import contextlib
import os
import select
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from sandboxes.daemon.kept_slots import KeptSlot
from sandboxes.daemon.pools import Pool
from sandboxes.limits import Limits

MOST = 10
REMEMBERED = 500
# How long a killed sandbox's run may take to notice, before it is cleared away under it.
PATIENCE_SECONDS = 10
TIME_IS_OVER = "Its time-to-live is over."
CLOSED = "It was closed."
STOPPED = "The sandbox daemon was stopped."
DIED = "Its first process ended: it was out of memory, which its files use too, or something on its node ended it."


@dataclass(frozen=True)
class Opening:
    """A checked request for a sandbox."""

    id: str
    language: str
    template: str
    limits: Limits
    env: Mapping[str, str]
    expires_in_seconds: float
    network: bool = False


class Full(Exception):
    """No more sandboxes can be kept here."""


class Busy(Exception):
    """It serves another run."""


class Gone(Exception):
    """There is no such sandbox here, or no more; the text says why it ended."""


@dataclass
class Kept:
    """One kept sandbox. `over` is why it ended; `ends_at` is on the monotonic clock."""

    opening: Opening
    pool: Pool
    slot: KeptSlot
    ends_at: float
    is_running: bool = False
    over: str = ""
    gone: threading.Event = field(default_factory=threading.Event)

    def describe(self, now: float) -> dict[str, object]:
        return {
            "id": self.opening.id,
            "language": self.opening.language,
            "state": "running" if self.is_running else "idle",
            "expires_in_seconds": max(0.0, self.ends_at - now),
        }


class KeptSandboxes:
    def __init__(self, *, most: int = MOST) -> None:
        self.most = most
        self._kept: dict[str, Kept] = {}
        self._opening: set[str] = set()
        self._ended: collections.OrderedDict[str, str] = collections.OrderedDict()
        self._changed = threading.Condition()
        self._stopping = False
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._watch = threading.Thread(target=self._keep_watch, name="kept watch", daemon=True)
        self._watch.start()

    def describe(self) -> dict[str, object]:
        now = time.monotonic()
        with self._changed:
            sandboxes = [kept.describe(now) for kept in self._kept.values() if not kept.over]
            # What is over is told as ended at once, also while it is being cleared away.
            ending = {kept.opening.id: kept.over for kept in self._kept.values() if kept.over}
            return {"most": self.most, "sandboxes": sandboxes, "ended": {**self._ended, **ending}}

    def open(self, opening: Opening, pool: Pool) -> float:
        """Seconds until it ends; what is there already is not opened again. Raises Full, Gone, CannotStart."""
        known = self._reserve(opening)
        if known is not None:
            return known.ends_at - time.monotonic()
        try:
            slot = pool.keep(opening.limits)
        except BaseException:
            self._unreserve(opening)
            raise
        kept = Kept(opening, pool, slot, time.monotonic() + opening.expires_in_seconds)
        with self._changed:
            self._kept[opening.id] = kept
            stopping = self._stopping
        self._unreserve(opening)
        if stopping:
            self._end(kept, STOPPED)
            raise Gone(STOPPED)
        return opening.expires_in_seconds

    def _reserve(self, opening: Opening) -> Kept | None:
        with self._changed:
            self._changed.wait_for(lambda: opening.id not in self._opening)
            if opening.id in self._kept or opening.id in self._ended:
                # A second one of the same name would be without the first one's files.
                return self._find(opening.id)
            if self._stopping or len(self._kept) + len(self._opening) >= self.most:
                raise Full(f"this node keeps {self.most} sandboxes already, as many as it may")
            self._opening.add(opening.id)
            return None

    def _unreserve(self, opening: Opening) -> None:
        with self._changed:
            self._opening.discard(opening.id)
            self._changed.notify_all()
        self._look_again()

    def extend(self, sandbox: str, seconds: float) -> float:
        """From now on it has so many seconds, unless it has more already; returns how many it has. Raises Gone."""
        with self._changed:
            kept = self._find(sandbox)
            now = time.monotonic()
            kept.ends_at = max(kept.ends_at, now + seconds)
            self._look_again()
            return kept.ends_at - now

    def close(self, sandbox: str, reason: str = CLOSED) -> bool:
        """True when it was here; it is dead then, and so is what ran in it."""
        with self._changed:
            kept = self._kept.get(sandbox)
        if kept is None:
            return False
        self._end(kept, reason)
        return True

    def take(self, sandbox: str) -> Kept:
        """For one run. Raises Busy, Gone."""
        with self._changed:
            kept = self._find(sandbox)
            if kept.is_running:
                raise Busy("another execution runs in this sandbox")
            kept.is_running = True
            return kept

    def give_back(self, kept: Kept) -> None:
        kept.slot.end()
        with self._changed:
            kept.is_running = False
            self._changed.notify_all()
        self._look_again()
        if not kept.over and kept.slot.is_dead():
            self._end(kept, DIED)

    def give_up(self, kept: Kept, reason: str) -> None:
        """Its run found it broken; it ends when that run gives it back."""
        if self._mark(kept, reason):
            threading.Thread(target=self._clear, args=(kept,), daemon=True).start()

    def _find(self, sandbox: str) -> Kept:
        kept = self._kept.get(sandbox)
        if kept is None or kept.over:
            raise Gone(kept.over if kept else self._ended.get(sandbox, "This node has no such sandbox."))
        return kept

    def _end(self, kept: Kept, reason: str) -> None:
        """Whoever ends it first says why; all who end it return when nothing of it is left."""
        if self._mark(kept, reason):
            self._clear(kept)
        else:
            kept.gone.wait(2 * PATIENCE_SECONDS)

    def _mark(self, kept: Kept, reason: str) -> bool:
        with self._changed:
            first, kept.over = not kept.over, kept.over or reason
            return first

    def _clear(self, kept: Kept) -> None:
        try:
            kept.slot.kill()
            with self._changed:
                self._changed.wait_for(lambda: not kept.is_running, PATIENCE_SECONDS)
            kept.pool.let_go(kept.slot)
        finally:
            with self._changed:
                del self._kept[kept.opening.id]
                self._ended[kept.opening.id] = kept.over
                while len(self._ended) > REMEMBERED:
                    self._ended.popitem(last=False)
            kept.gone.set()

    def end_all(self) -> None:
        with self._changed:
            self._stopping = True
            everything = list(self._kept.values())
        self._look_again()
        enders = [threading.Thread(target=self._end, args=(kept, STOPPED)) for kept in everything]
        for ender in enders:
            ender.start()
        for ender in enders:
            ender.join()

    def _look_again(self) -> None:
        os.eventfd_write(self._wake, 1)

    def _keep_watch(self) -> None:
        """Ends each at its time, and notices those that died by themselves."""
        while not self._stopping:
            poll = select.poll()
            poll.register(self._wake, select.POLLIN)
            with self._changed:
                watched = [kept for kept in self._kept.values() if not kept.over]
                next_end = min((kept.ends_at for kept in watched), default=None)
                for kept in watched:
                    # Of one that runs, the run itself notices.
                    if not kept.is_running:
                        poll.register(kept.slot.pidfd, select.POLLIN)
            poll.poll(None if next_end is None else max(0.0, next_end - time.monotonic()) * 1000 + 1)
            with contextlib.suppress(BlockingIOError):
                os.eventfd_read(self._wake)
            for kept in watched:
                self._end_if_due(kept)

    def _end_if_due(self, kept: Kept) -> None:
        with self._changed:
            if kept.over:
                return
            is_due = kept.ends_at <= time.monotonic()
            if not is_due and (kept.is_running or not kept.slot.is_dead()):
                return
            self._mark(kept, TIME_IS_OVER if is_due else DIED)
        # A thread of its own: no sandbox outlives its time because another takes long to die.
        threading.Thread(target=self._clear, args=(kept,), daemon=True).start()
