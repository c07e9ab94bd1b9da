"""What a worker's heart tells of the sandboxes: how many run, how many were lost, and which process their daemon is."""

from __future__ import annotations

import collections
import threading
import time

from sandboxes import engine, leases

WINDOW_SECONDS = 300.0
MOST_KEPT = 1000
# One loss among a handful of attempts does not make a machine sick.
FEWEST = 20

_ended: collections.deque[tuple[float, bool]] = collections.deque(maxlen=MOST_KEPT)
_lock = threading.Lock()


def attempt_ended(*, lost: bool) -> None:
    """An attempt of this process ended; lost is the sandbox's failure, never the program's own."""
    with _lock:
        _ended.append((time.monotonic(), lost))


def error_rate() -> float:
    """The share of this process's attempts of the last minutes whose sandbox was lost."""
    since = time.monotonic() - WINDOW_SECONDS
    with _lock:
        recent = [lost for at, lost in _ended if at >= since]
    return sum(recent) / max(len(recent), FEWEST)


def in_flight() -> int:
    return leases.held_here()


def processes() -> dict[str, int]:
    """The daemon's process id, as far as it was reached lately; the heart asks it nothing itself."""
    process = engine.last_said().get("process")
    return {"sandboxes": process} if process else {}
