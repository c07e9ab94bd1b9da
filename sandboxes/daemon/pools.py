"""Pools keep some slots ready, refill in the background, and start cold when none is left.

starting -> ready -> running -> draining -> gone          a start that fails counts as failed until one succeeds
"""

from __future__ import annotations

import collections
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from sandboxes.daemon.engines import CannotStart, Slot, Zygote

START_SECONDS = 10
CLOSE_SECONDS = 5
FAILING_STARTS = 3
REFILL_DELAY = 0.005
ZYGOTE_SECONDS = 3600
ZYGOTE_FORKS = 10_000


@dataclass(frozen=True)
class Size:
    """How many slots a pool keeps ready at least, how many may run at once, and how old a ready one may get.

    For `idle_timeout_seconds` after many ran at once it keeps as many ready, as far as `running` leaves room.
    """

    ready: int = 4
    running: int = 10
    idle_timeout_seconds: float = 0
    max_age_seconds: float = 3600


class Room:
    """How many may run at once in pools beside each other."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._running = 0
        self._changed = threading.Condition()

    def enter(self, *, abandoned: Callable[[], bool]) -> bool:
        """False when the caller gave up before there was room."""
        with self._changed:
            while self._running >= self._most:
                if self._changed.wait(0.05) is False and abandoned():
                    return False
            self._running += 1
            return True

    def leave(self) -> None:
        with self._changed:
            self._running -= 1
            self._changed.notify_all()

    def resize(self, most: int) -> None:
        with self._changed:
            self._most = most
            self._changed.notify_all()


class Pool:
    """Ready slots of one zygote, refilled in the background, made cold when there is none."""

    def __init__(
        self, *, start_zygote: Callable[[], Zygote], make_slot: Callable[[Zygote], Slot], size: Size, room: Room
    ) -> None:
        self.size = size
        self.failure = ""
        self._room = room
        self.used_at = time.monotonic()
        self._start_zygote = start_zygote
        self._make_slot = make_slot
        self._zygote: Zygote | None = None
        self._retired: list[Zygote] = []
        self._ready: collections.deque[Slot] = collections.deque()
        self._peak = 0
        self._peak_at = 0.0
        self._counts = {"starting": 0, "running": 0, "draining": 0, "failed": 0}
        lock = threading.RLock()
        # Those who wait for the pool, and its keeper, whom a run does not wake while it is in a hurry itself.
        self._changed, self._work = threading.Condition(lock), threading.Condition(lock)
        self._stopping = False
        # The zygote dies with the thread that started it, so this one lives as long as the pool.
        self._keeper = threading.Thread(target=self._keep, name="pool keeper", daemon=True)

    def open(self) -> None:
        self._keeper.start()

    def wait_until_ready(self, timeout_seconds: float) -> bool:
        """Until the zygote is up and the first slot, if any is to be kept, waits for its run."""

        def settled() -> bool:
            return bool(self.failure) or (self._zygote is not None and len(self._ready) >= min(1, self.size.ready))

        with self._changed:
            return self._changed.wait_for(settled, timeout_seconds) and not self.failure

    def resize(self, size: Size) -> None:
        """From now on; what runs beyond a smaller size goes on, and what is ready beyond it is ended."""
        self._room.resize(size.running)
        with self._changed:
            self.size = size
            self._tell_all()

    def _tell_all(self) -> None:
        self._changed.notify_all()
        self._work.notify_all()

    def _wanted(self) -> int:
        """How many to keep ready now; asked with the condition held."""
        if time.monotonic() - self._peak_at > self.size.idle_timeout_seconds:
            self._peak = 0
        return max(self.size.ready, min(self._peak, self.size.running - self._counts["running"]))

    def _note_peak(self) -> None:
        running = self._counts["running"]
        if running >= self._peak and self.size.idle_timeout_seconds:
            self._peak, self._peak_at = running, time.monotonic()

    def counts(self) -> dict[str, int]:
        with self._changed:
            return {"ready": len(self._ready), **self._counts}

    def is_unused(self, *, for_seconds: float) -> bool:
        """Nothing runs in it, nothing is to be kept ready, and nobody has asked for it for so long."""
        with self._changed:
            quiet = not self._counts["running"] and not self._wanted()
            return quiet and time.monotonic() - self.used_at > for_seconds

    def checkout(self, *, abandoned: Callable[[], bool]) -> tuple[Slot, bool] | None:
        """A slot and whether it was warm; None when the caller gave up before there was room."""
        if not self._room.enter(abandoned=abandoned):
            return None
        with self._changed:
            self._counts["running"] += 1
            self._note_peak()
            slot = self._pop()
            zygote = self._zygote
        if slot is not None:
            return slot, True
        try:
            return self._cold(zygote), False
        except BaseException:
            self._room.leave()
            self._count("running", -1)
            raise

    def refill(self) -> None:
        """To be called when a run that took a slot has begun: whoever waits for it does not wait for this."""
        with self._work:
            self._work.notify_all()

    def _pop(self) -> Slot | None:
        while self._ready:
            slot = self._ready.popleft()
            if not slot.is_dead():
                return slot
            self._discard_later(slot)
        return None

    def _cold(self, zygote: Zygote | None) -> Slot:
        if zygote is None or not zygote.is_alive():
            zygote = self._await_zygote()
        return self._make(zygote)

    def _await_zygote(self) -> Zygote:
        def alive() -> bool:
            return self._stopping or (self._zygote is not None and self._zygote.is_alive())

        with self._changed:
            self._work.notify_all()
            if not self._changed.wait_for(alive, START_SECONDS) or self._zygote is None:
                raise CannotStart(self.failure or "the zygote is not up")
            return self._zygote

    def _make(self, zygote: Zygote) -> Slot:
        self._count("starting", 1)
        try:
            slot = self._make_slot(zygote)
        except CannotStart as problem:
            self.failure = str(problem)
            self._count("failed", 1)
            raise
        finally:
            self._count("starting", -1)
        zygote.living += 1
        self._succeeded()
        return slot

    def _succeeded(self) -> None:
        if self._counts["failed"]:
            self._count("failed", -self._counts["failed"])

    def release(self, slot: Slot) -> None:
        """After its one run a slot is killed, whatever state it is in."""
        self._room.leave()
        with self._changed:
            self._counts["running"] -= 1
            self._counts["draining"] += 1
            self._tell_all()
        try:
            slot.discard()
        finally:
            self.used_at = time.monotonic()
            slot.zygote.living -= 1
            self._count("draining", -1)

    def _discard_later(self, slot: Slot) -> None:
        slot.zygote.living -= 1
        threading.Thread(target=slot.discard, daemon=True).start()

    def _count(self, state: str, by: int) -> None:
        with self._changed:
            self._counts[state] += by
            self._changed.notify_all()

    def is_failing(self) -> bool:
        """Several starts in a row went wrong, the last of them as `failure` says."""
        return self._counts["failed"] >= FAILING_STARTS

    def retire(self) -> None:
        """Keep nothing ready any more, let what runs come to its end, and close."""
        with self._changed:
            self.size = replace(self.size, ready=0, idle_timeout_seconds=0)
            self._tell_all()
            self._changed.wait_for(lambda: self._stopping or not self._counts["running"])
        self.close()

    def close(self) -> None:
        with self._changed:
            self._stopping = True
            self._tell_all()
        if self._keeper.is_alive():
            self._keeper.join(CLOSE_SECONDS)

    def is_closed(self) -> bool:
        return self._stopping

    def _keep(self) -> None:
        patience = 0.1
        while not self._stopping:
            try:
                self._renew_zygote()
                self._retire_old()
                self._retire_idle()
                self._fill()
                patience = 0.1
            except CannotStart as problem:
                self.failure = str(problem)
                with self._changed:
                    self._changed.notify_all()
                    self._work.wait_for(lambda: self._stopping, patience)
                patience = min(patience * 2, 10)
                continue
            with self._work:
                self._work.wait_for(self._has_work, 0.5)
            self._let_runs_go_first()
        self._end_all()

    def _let_runs_go_first(self) -> None:
        """A refill beside a short run would take its core, and there is no hurry while some slots are left."""
        with self._work:
            if len(self._ready) * 2 >= self._wanted():
                self._work.wait_for(lambda: self._stopping or len(self._ready) * 2 < self._wanted(), REFILL_DELAY)

    def _has_work(self) -> bool:
        return self._stopping or len(self._ready) != self._wanted()

    def _renew_zygote(self) -> None:
        """Zygotes are replaced before they are worn: slots share their memory layout."""
        current = self._zygote
        if current is not None and current.is_alive() and not _is_worn(current):
            return
        try:
            fresh = self._start_zygote()
        except CannotStart:
            self._count("failed", 1)
            raise
        with self._changed:
            self._zygote = fresh
            self.failure = ""
            self._changed.notify_all()
        if current is not None:
            self._retired.append(current)

    def _retire_old(self) -> None:
        with self._changed:
            while self._ready and self._is_old(self._ready[0]):
                self._discard_later(self._ready.popleft())
        for zygote in [each for each in self._retired if each.living <= 0 or not each.is_alive()]:
            self._retired.remove(zygote)
            zygote.stop()

    def _retire_idle(self) -> None:
        with self._changed:
            while len(self._ready) > self._wanted():
                self._discard_later(self._ready.popleft())

    def _is_old(self, slot: Slot) -> bool:
        old = time.monotonic() - slot.born > self.size.max_age_seconds
        return old or slot.zygote is not self._zygote or slot.is_dead()

    def _fill(self) -> None:
        while self._is_short():
            assert self._zygote
            slot = self._make(self._zygote)
            with self._changed:
                self._ready.append(slot)
                self._changed.notify_all()

    def _is_short(self) -> bool:
        with self._changed:
            return not self._stopping and len(self._ready) < self._wanted()

    def _end_all(self) -> None:
        with self._changed:
            left = [*self._ready]
            self._ready.clear()
        for slot in left:
            slot.discard()
        for zygote in (*self._retired, self._zygote):
            if zygote is not None:
                zygote.stop()


def _is_worn(zygote: Zygote) -> bool:
    return zygote.forks >= ZYGOTE_FORKS or time.monotonic() - zygote.born > ZYGOTE_SECONDS
