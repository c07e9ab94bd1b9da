"""Pure. Stacked bars of days, as rectangles in a box of 100 by 100 for an SVG that stretches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

WIDTH = 100.0
HEIGHT = 100.0
GAP = 0.25


@dataclass(frozen=True)
class Part:
    hue: int
    x: float
    y: float
    width: float
    height: float
    title: str


@dataclass(frozen=True)
class Bars:
    parts: tuple[Part, ...]
    most: int


def stack(days: Sequence[tuple[str, Mapping[str, int]]], *, names: Mapping[str, str], unit: int) -> Bars:
    """One bar a day, one part for each named series in the order of `names`; `unit` is one of what is counted."""
    most = max((sum(values.values()) for _, values in days), default=0)
    if not most:
        return Bars((), 0)
    slot = WIDTH / len(days)
    parts: list[Part] = []
    for place, (label, values) in enumerate(days):
        top = HEIGHT
        for hue, (key, name) in enumerate(names.items()):
            value = values.get(key, 0)
            height = value / most * HEIGHT
            top -= height
            if value:
                title = f"{label}: {name} {value / unit:,.2f} cr"
                x, width = place * slot + slot * GAP / 2, slot * (1 - GAP)
                parts.append(Part(hue, round(x, 3), round(top, 3), round(width, 3), round(height, 3), title))
    return Bars(tuple(parts), most)
