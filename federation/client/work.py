"""A task under way: what is asked, how far it is, and whether it is still wanted."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any


class Failed(Exception):
    """Raise it to say that a task failed, and whether trying again may help."""

    def __init__(self, error: str, *, retryable: bool = True) -> None:
        super().__init__(error)
        self.retryable = retryable


class Cancelled(Exception):
    """Raised by `Work.check` when the task is wanted no more."""


class Work:
    """What your function is given. `progress` (0 to 1) goes out with the next heartbeat."""

    def __init__(self, claimed: dict[str, Any]) -> None:
        task = claimed["task"]
        self.id: str = task["id"]
        self.epoch: int = claimed["epoch"]
        self.type: str = task["type"]
        self.payload: Any = task["payload"]
        self.task: dict[str, Any] = task
        self.progress: float | None = None
        self._cancelled = threading.Event()
        self._on_cancel: list[Callable[[], None]] = []
        self.doing: asyncio.Task[None] | None = None

    @property
    def is_cancelled(self) -> bool:
        """Cancelled, past its deadline, or given to another agent: nothing you say about it counts any more."""
        return self._cancelled.is_set()

    def check(self) -> None:
        """Raises Cancelled when the task is wanted no more."""
        if self.is_cancelled:
            raise Cancelled(f"The task {self.id} is wanted no more.")

    def on_cancel(self, act: Callable[[], None]) -> None:
        """Called once when it is cancelled, at once when it was: to kill what does the work."""
        self._on_cancel.append(act)
        if self.is_cancelled:
            act()

    def cancel(self) -> None:
        if not self._cancelled.is_set():
            self._cancelled.set()
            for act in self._on_cancel:
                act()

    def as_running(self) -> dict[str, Any]:
        """As a heartbeat lists it."""
        share = {} if self.progress is None else {"progress": min(max(float(self.progress), 0.0), 1.0)}
        return {"task": self.id, "epoch": self.epoch, **share}
