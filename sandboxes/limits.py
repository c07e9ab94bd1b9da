"""Pure. What one execution may use, and the names of the limits it can hit."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

BREACHES = ("timeout", "memory", "processes", "disk", "output")

RANGES: dict[str, tuple[float, float]] = {
    "cpu": (0.1, 8),
    "memory_mb": (16, 16384),
    "disk_mb": (1, 10240),
    "processes": (1, 1024),
    "output_kb": (1, 65536),
}

# What files of a sandbox that is kept leave of its memory, so that no file can keep the next program from starting.
KEPT_ROOM_MB = 16


class InvalidLimits(ValueError):
    """Raised by `Limits.parse`; `errors` says for each field what is wrong with it."""

    def __init__(self, errors: dict[str, list[str]]) -> None:
        self.errors = errors
        super().__init__("; ".join(f"{field}: {' '.join(said)}" for field, said in errors.items()))


@dataclass(frozen=True, slots=True)
class Limits:
    cpu: float = 1.0
    memory_mb: int = 512
    disk_mb: int = 1024
    processes: int = 64
    output_kb: int = 1024

    def as_dict(self) -> dict[str, float | int]:
        return dataclasses.asdict(self)

    @classmethod
    def parse(cls, values: Mapping[str, object]) -> Limits:
        errors = {field: said for field, value in values.items() if (said := _faults(field, value))}
        if errors:
            raise InvalidLimits(errors)
        numbers: dict[str, Any] = {field: _number(field, value) for field, value in values.items()}
        return cls(**numbers)

    @classmethod
    def parse_kept(cls, values: Mapping[str, object]) -> Limits:
        """Limits of a sandbox that is kept. Its files are in its memory, and a program must have room beside them."""
        found = cls.parse(values)
        most = max(1, found.memory_mb - KEPT_ROOM_MB)
        if found.disk_mb <= most:
            return found
        if "disk_mb" in values:
            said = f"The files of a long-lived sandbox are kept in its memory. Give at most {most}, or more memory_mb."
            raise InvalidLimits({"disk_mb": [said]})
        return dataclasses.replace(found, disk_mb=most)


def _faults(field: str, value: object) -> list[str]:
    if field not in RANGES:
        return [f"There is no such limit. The limits are {', '.join(RANGES)}."]
    # A bool is an int in Python, yet `true` is no amount of memory.
    if isinstance(value, bool) or not isinstance(value, int | float):
        return ["Give a number."]
    if not math.isfinite(value):
        return ["Give a finite number."]
    if field != "cpu" and value != int(value):
        return ["Give a whole number."]
    low, high = RANGES[field]
    if not low <= value <= high:
        return [f"Give a number from {low:g} to {high:g}."]
    return []


def _number(field: str, value: object) -> float | int:
    assert isinstance(value, int | float)
    return float(value) if field == "cpu" else int(value)
