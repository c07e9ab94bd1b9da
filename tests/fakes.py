"""Fakes that keep the same promises as the real thing; a contract test runs against both."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from scaling.policy import Load
from scaling.targets import UnknownTarget


class FakeTarget:
    """A scaling target in memory: says the load it is told to say, takes the size it is given."""

    label = "Fake things"

    def __init__(self, size: int = 2, **metrics: Any) -> None:
        self.sizes = {"one": size, "two": size}
        self.metrics: dict[str, Any] = {"cpu": 0.7, "memory": 0.5} | metrics
        self.moves: list[tuple[str, str, int]] = []
        self.fails_with: Exception | None = None

    def choices(self) -> list[tuple[str, str]]:
        return [(target_id, f"Fake {target_id}") for target_id in self.sizes]

    def load(self, target_id: str, *, now: datetime) -> Load:
        self.current(target_id)
        return Load(**{"observed_at": now} | self.metrics)

    def current(self, target_id: str) -> int:
        if target_id not in self.sizes:
            raise UnknownTarget(f"There is no fake “{target_id}”.")
        return self.sizes[target_id]

    def resize(self, target_id: str, *, to: int, now: datetime) -> None:
        self._move("resize", target_id, to)

    def drain(self, target_id: str, *, to: int, now: datetime) -> None:
        self._move("drain", target_id, to)

    def _move(self, verb: str, target_id: str, to: int) -> None:
        self.current(target_id)
        if self.fails_with:
            raise self.fails_with
        self.moves.append((verb, target_id, to))
        self.sizes[target_id] = to
