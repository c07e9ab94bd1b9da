"""Pure. Where each member of a topology is drawn, in the unit square.

hierarchy   a row for each level; a level too wide for a row is staggered over several
star        the leader in the middle, the others around it
ring        a circle; folded like a ruff when it is long
mesh        a circle; a disc when there are many
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from federation.topology import HIERARCHICAL, RING, STAR, Topology

Point = tuple[float, float]
MARGIN = 0.06
ON_A_CIRCLE = 90
IN_A_ROW = 90
HOLE, WAIST = 0.14, 0.35
# The height of a hierarchy: flat, unless many levels and rows need the room.
FLAT, TALL, MANY = 0.5, 0.8, 200
GOLDEN = math.pi * (3 - math.sqrt(5))


def layout(shape: Topology[Any]) -> list[Point]:
    """In the order of the members."""
    size = len(shape)
    if size < 2:
        return [(0.5, 0.5)] * size
    if shape.shape == HIERARCHICAL:
        return _rows(shape)
    if shape.shape == STAR:
        others = size - 1
        return [(0.5, 0.5), *(_circle(others) if others <= ON_A_CIRCLE else _disc(others, HOLE))]
    if size <= ON_A_CIRCLE:
        return _circle(size)
    return _ruff(size) if shape.shape == RING else _disc(size, 0.0)


def _circle(size: int) -> list[Point]:
    """Evenly around, from the top, clockwise."""
    return [_around(number / size, 1.0) for number in range(size)]


def _disc(size: int, hole: float) -> list[Point]:
    """Evenly over a disc, as a sunflower does (H. Vogel, 1979)."""
    shares = ((number + 0.5) / size for number in range(size))
    return [
        _around(number * GOLDEN / (2 * math.pi), math.sqrt(hole**2 + share * (1 - hole**2)))
        for number, share in enumerate(shares)
    ]


def _ruff(size: int) -> list[Point]:
    """A circle folded in and out, so that all have room and neighbours stay neighbours."""
    # As many as leave a member as much room along its fold as beside it, a little inside the middle.
    folds = 2 * max(round(math.sqrt(0.75 * math.pi * size * (1 + WAIST) / (1 - WAIST)) / 2), 2)
    points = []
    for number in range(size):
        fold, along = divmod(number * folds / size, 1)
        along = along if fold % 2 == 0 else 1 - along
        points.append(_around((fold + 0.5) / folds, WAIST + along * (1 - WAIST)))
    return points


def _rows(shape: Topology[Any]) -> list[Point]:
    """A member stands over the middle of its branch, in the first row below its parent's where it has room."""
    across = _across(shape)
    rows: list[int] = []
    taken: list[set[int]] = []
    for place, x in enumerate(across):
        row = rows[shape.parent(place)] + 1 if place else 0
        half = int(x * 2 * IN_A_ROW)
        while row < len(taken) and taken[row] & {half - 1, half, half + 1}:
            row += 1
        taken += [set() for _ in range(row + 1 - len(taken))]
        taken[row].add(half)
        rows.append(row)
    height = FLAT if len(shape) <= MANY else TALL
    last = len(taken) - 1
    return [(_inset(x), _inset(0.5 + (row / last - 0.5) * height)) for x, row in zip(across, rows, strict=True)]


def _across(shape: Topology[Any]) -> list[float]:
    across = [0.0] * len(shape)
    leaves = [place for place in _in_depth_order(shape) if not shape.children(place)]
    for number, place in enumerate(leaves):
        across[place] = (number + 0.5) / len(leaves)
    for place in range(len(shape) - 1, -1, -1):
        children = shape.children(place)
        if children:
            across[place] = (across[children[0]] + across[children[-1]]) / 2
    return across


def _in_depth_order(shape: Topology[Any]) -> Iterator[int]:
    waiting = [0]
    while waiting:
        place = waiting.pop()
        yield place
        waiting.extend(reversed(shape.children(place)))


def _around(turn: float, radius: float) -> Point:
    angle = 2 * math.pi * turn
    return _inset(0.5 + radius * math.sin(angle) / 2), _inset(0.5 - radius * math.cos(angle) / 2)


def _inset(share: float) -> float:
    return round(MARGIN + share * (1 - 2 * MARGIN), 4)
