"""Pure. A mesh of many members: each is linked with six others, on three rings drawn by lot.

A full mesh of 2,000 has two million links. Here any two are a few hops apart (about 6 at 2,000), no single loss
cuts anybody off, and whoever joins or leaves changes little: a ring's order is a hash of its number and the
member, so the others keep their neighbours.

Source: C. Law and K.-Y. Siu, Distributed Construction of Random Expander Networks, INFOCOM 2003.
"""

from __future__ import annotations

import hashlib
from array import array
from collections import deque
from collections.abc import Sequence

RINGS = 3
Near = list[list[int]]


def neighbours(names: Sequence[str]) -> Near:
    """For each place the six places linked with it, ascending. Meant for dozens of members and more."""
    taken: set[tuple[int, int]] = set()
    for number in range(RINGS):
        order = sorted(range(len(names)), key=lambda place: _lot(number, names[place]))
        taken |= _links(_without_repeats(order, taken))
    near: Near = [[] for _ in names]
    for a, b in taken:
        near[a].append(b)
        near[b].append(a)
    return [sorted(places) for places in near]


def _lot(number: int, name: str) -> bytes:
    return hashlib.blake2b(f"{number}:{name}".encode(), digest_size=8).digest()


def _links(order: Sequence[int]) -> set[tuple[int, int]]:
    return {_link(a, b) for a, b in zip(order, [*order[1:], order[0]], strict=True)}


def _link(a: int, b: int) -> tuple[int, int]:
    return (a, b) if a < b else (b, a)


def _without_repeats(order: list[int], taken: set[tuple[int, int]]) -> list[int]:
    """Where the ring repeats a link of an earlier ring, the far end changes places with the next that fits."""
    size = len(order)

    def repeats(spot: int) -> bool:
        return _link(order[spot % size], order[(spot + 1) % size]) in taken

    for spot in range(size):
        if not repeats(spot):
            continue
        end = (spot + 1) % size
        for step in range(2, size):
            other = (spot + step) % size
            order[end], order[other] = order[other], order[end]
            if not any(repeats(each) for each in (spot, end, other - 1, other)):
                break
            order[end], order[other] = order[other], order[end]
    return order


def distances(near: Near, start: int) -> array[int]:
    """Hops from `start` to every place."""
    unknown = len(near)
    found = array("H", [unknown]) * len(near)
    found[start] = 0
    waiting = deque([start])
    while waiting:
        here = waiting.popleft()
        further = found[here] + 1
        for there in near[here]:
            if found[there] == unknown:
                found[there] = further
                waiting.append(there)
    return found


def spread(near: Near) -> tuple[int, float]:
    """The diameter and the mean hops over all pairs, exactly: all searches at once, a bit for each place."""
    size = len(near)
    reached = [1 << place for place in range(size)]
    within, rounds, hops = size, 0, 0
    while within < size * size:
        before = reached
        reached = list(before)
        for place, others in enumerate(near):
            for other in others:
                reached[place] |= before[other]
        now = sum(each.bit_count() for each in reached)
        rounds += 1
        hops += rounds * (now - within)
        within = now
    return rounds, hops / (size * (size - 1))
