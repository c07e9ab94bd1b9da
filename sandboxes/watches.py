"""A thread of its own for what a worker does all the time."""

from __future__ import annotations

import threading
from collections.abc import Callable

LEAVES_WITHIN_SECONDS = 10.0


class Watch:
    """Runs `work(stopped)` in a thread; the work returns soon after `stopped` is set."""

    def __init__(self, name: str, work: Callable[[threading.Event], None]) -> None:
        self._name, self._work = name, work
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """A second call changes nothing."""
        if self._thread is None:
            self._stopped.clear()
            self._thread = threading.Thread(target=self._work, args=(self._stopped,), name=self._name, daemon=True)
            self._thread.start()

    def stop(self) -> None:
        if self._thread is not None:
            self._stopped.set()
            self._thread.join(timeout=LEAVES_WITHIN_SECONDS)
            self._thread = None
