"""How scaling drives what it does not know: a Protocol, and a place to register implementations by type.

The app above registers in its `apps.ready()`:  `targets.register("pool", PoolTarget())`.
"""

from __future__ import annotations

from datetime import datetime
from typing import Protocol

from scaling.policy import Load


class UnknownTarget(Exception):
    """Raised when no one has registered the type, or the target is not there (any more)."""

    code = "validation_error"


class Target(Protocol):
    """One kind of thing that can be made more or fewer.

    `resize` and `drain` run inside the evaluation's transaction: write down what is wanted, do the slow
    part after commit. Instances that are starting count as current, or they would be started twice.
    """

    label: str

    def choices(self) -> list[tuple[str, str]]:
        """The ids there are, with a name for people."""

    def load(self, target_id: str, *, now: datetime) -> Load:
        """What it measures now; names in `Load.needed` that are not known count as failed."""

    def current(self, target_id: str) -> int:
        """How many there are, with those starting and without those leaving. UnknownTarget when gone."""

    def resize(self, target_id: str, *, to: int, now: datetime) -> None:
        """More: up to `to`."""

    def drain(self, target_id: str, *, to: int, now: datetime) -> None:
        """Fewer: the surplus gets no new work and leaves when it is idle; nothing running is ended."""


_registered: dict[str, Target] = {}


def register(target_type: str, target: Target) -> None:
    _registered[target_type] = target


def unregister(target_type: str) -> None:
    _registered.pop(target_type, None)


def types() -> list[tuple[str, str]]:
    return sorted((name, target.label) for name, target in _registered.items())


def find(target_type: str) -> Target:
    if target_type not in _registered:
        known = ", ".join(name for name, _ in types()) or "none"
        raise UnknownTarget(f"Nothing here can scale the target type “{target_type}”. Known types: {known}.")
    return _registered[target_type]


def check(target_type: str, target_id: str) -> None:
    """Raise UnknownTarget unless there is such a target."""
    if target_id not in dict(find(target_type).choices()):
        raise UnknownTarget(f"There is no {target_type} “{target_id}” to scale.")


def named(target_type: str, target_id: str) -> str:
    """What people call the target; its id once it is gone."""
    target = _registered.get(target_type)
    return dict(target.choices()).get(target_id, target_id) if target else target_id
