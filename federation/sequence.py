"""Pure. In which order the tasks of a batch are made, when some need others of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from graphlib import CycleError, TopologicalSorter


def order(needs: Sequence[Set[int]], *, refused: Mapping[int, str]) -> tuple[list[int], dict[int, str]]:
    """The items that can be made, each after those it needs, and why each of the others cannot.

    `needs[i]` are the items that item `i` needs; `refused` says which are refused already. Whatever needs a refused
    item, or stands in or behind a circle, is refused as well. Those free to go in any order keep the one asked.
    """
    found = dict(refused)
    while circle := _circle(needs, found):
        way = " -> ".join(str(item) for item in circle)
        found |= dict.fromkeys(circle, f"The tasks {way} of this batch wait for each other in a circle.")
    sorter = TopologicalSorter({item: sorted(needed) for item, needed in enumerate(needs) if item not in found})
    made: list[int] = []
    sorter.prepare()
    while sorter.is_active():
        for item in sorted(sorter.get_ready()):
            _judge(item, needs[item], made, found)
            sorter.done(item)
    return made, found


def _circle(needs: Sequence[Set[int]], found: Mapping[int, str]) -> list[int]:
    """One circle among what is not refused, its first item again at the end; none is empty."""
    left = {item: {each for each in needed if each not in found} for item, needed in enumerate(needs)}
    try:
        TopologicalSorter({item: needed for item, needed in left.items() if item not in found}).prepare()
    except CycleError as circle:
        return list(circle.args[1])[::-1]
    return []


def _judge(item: int, needed: Set[int], made: list[int], found: dict[int, str]) -> None:
    missing = sorted(each for each in needed if each in found)
    if item in found:
        return
    if missing:
        found[item] = f"It needs the task {missing[0]} of this batch, which was refused."
        return
    made.append(item)
