"""Pure. Where a task, what it needs and what needs it are drawn: in columns from left to right, as the work goes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

Id = TypeVar("Id")
COLUMN, ROW = 216, 52
BOX_WIDTH, BOX_HEIGHT = 168, 36
MARGIN = 8


@dataclass(frozen=True, slots=True)
class Place:
    x: int
    y: int


@dataclass(frozen=True, slots=True)
class Drawing:
    """The upper left corners of the boxes by id, the lines between them, and the size of all."""

    places: dict[object, Place]
    lines: list[tuple[int, int, int, int]]
    width: int
    height: int


def draw(ids: Sequence[Id], links: Iterable[tuple[Id, Id]], focus: Id) -> Drawing:
    """`ids` in an order in which each comes after what it needs; a link is (what is needed, what needs it)."""
    pairs = list(links)
    level = _levels(ids, pairs, focus)
    first = min(level.values())
    columns: dict[int, list[Id]] = {}
    for each in ids:
        columns.setdefault(level[each] - first, []).append(each)
    rows = max(len(column) for column in columns.values())
    places: dict[object, Place] = {}
    for column, members in columns.items():
        top = (rows - len(members)) * ROW // 2
        for row, each in enumerate(members):
            places[each] = Place(MARGIN + column * COLUMN, MARGIN + top + row * ROW)
    width = 2 * MARGIN + max(columns) * COLUMN + BOX_WIDTH
    return Drawing(places, [_line(places[a], places[b]) for a, b in pairs], width, 2 * MARGIN + rows * ROW)


def _levels(ids: Sequence[Id], pairs: Sequence[tuple[Id, Id]], focus: Id) -> dict[Id, int]:
    """The focus at 0; what it needs before it, each before all that need it; what needs it behind, likewise."""
    level = {focus: 0}
    for each in reversed(ids):
        behind = [level[b] for a, b in pairs if a == each and b in level]
        if each not in level and behind and max(behind) <= 0:
            level[each] = min(behind) - 1
    for each in ids:
        before = [level[a] for a, b in pairs if b == each and a in level and level[a] >= 0]
        if each not in level and before:
            level[each] = max(before) + 1
    return {each: level.get(each, 0) for each in ids}


def _line(start: Place, end: Place) -> tuple[int, int, int, int]:
    return start.x + BOX_WIDTH, start.y + BOX_HEIGHT // 2, end.x, end.y + BOX_HEIGHT // 2
