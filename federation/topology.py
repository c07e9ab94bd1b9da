"""Pure. Who is linked with whom, and how a message travels. Where each is drawn, says `drawing`.

A shape is derived from the ordered members alone, so joining, leaving and losing heal it: the ring
closes, the next member becomes the hub, children find a new parent.

    mesh           everyone with everyone; above MESH_UP_TO members each with six (`overlay`)
    ring           each with the one before and the one after
    star           the first member (the leader) with all others
    hierarchical   the first member leads; each member has up to `fan_out` below it
    adaptive       one of these: by measured cost (`adapting`), by size until there is enough to go by
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Generic, TypeVar

from federation import overlay

MESH, RING, STAR, HIERARCHICAL, ADAPTIVE = "mesh", "ring", "star", "hierarchical", "adaptive"
FIXED = (MESH, RING, STAR, HIERARCHICAL)
SHAPES = (*FIXED, ADAPTIVE)
# By size, until there is enough measurement.
SMALL, MIDDLING = 10, 50
# A full mesh of more members would be mostly links.
MESH_UP_TO = 64

Member = TypeVar("Member")


class NotAMember(LookupError):
    """Raised when a route or neighbours are asked of someone outside the topology."""


@dataclass(frozen=True, slots=True)
class Step(Generic[Member]):
    """One message of a broadcast: who passes it to whom, in which round (from 1)."""

    sender: Member
    receiver: Member
    round: int


@dataclass(frozen=True, slots=True)
class Metrics:
    links: int
    diameter: int
    mean_hops: float


def effective(shape: str, size: int, adapted: str = "") -> str:
    """The shape in force; adaptive is what was measured best, or (nothing yet) goes by size."""
    if shape != ADAPTIVE:
        return shape
    if adapted:
        return adapted
    if size <= SMALL:
        return MESH
    return STAR if size <= MIDDLING else HIERARCHICAL


class Topology(Generic[Member]):
    """One shape over ordered members; the first is the root of a star or a hierarchy."""

    def __init__(self, shape: str, members: Sequence[Member], *, fan_out: int = 4) -> None:
        if shape not in SHAPES:
            raise ValueError(f"Unknown topology {shape!r}; known are {', '.join(SHAPES)}.")
        if fan_out < 2:
            raise ValueError("A hierarchy needs a fan-out of 2 or more.")
        self.members = tuple(members)
        self.fan_out = fan_out
        self.shape = effective(shape, len(self.members))
        self._place = {member: place for place, member in enumerate(self.members)}
        if len(self._place) != len(self.members):
            raise ValueError("A member is listed twice.")

    def __len__(self) -> int:
        return len(self.members)

    def __contains__(self, member: object) -> bool:
        return member in self._place

    @property
    def is_overlay(self) -> bool:
        return self.shape == MESH and len(self) > MESH_UP_TO

    @cached_property
    def _near(self) -> overlay.Near:
        return overlay.neighbours([str(member) for member in self.members])

    @cached_property
    def _distances(self) -> dict[int, array[int]]:
        """Of the overlay: hops to each place that was asked for."""
        return {}

    def _index(self, member: Member) -> int:
        try:
            return self._place[member]
        except KeyError:
            raise NotAMember(f"{member} is not a member.") from None

    # Links

    def links(self) -> Iterator[tuple[int, int]]:
        """Every link once, as places of members, the smaller first."""
        size = len(self)
        if self.is_overlay:
            yield from ((a, b) for a, others in enumerate(self._near) for b in others if a < b)
        elif self.shape == MESH:
            yield from ((a, b) for a in range(size) for b in range(a + 1, size))
        elif self.shape == RING:
            yield from ((place, place + 1) for place in range(size - 1))
            if size > 2:
                yield (0, size - 1)
        elif self.shape == STAR:
            yield from ((0, place) for place in range(1, size))
        else:
            yield from ((self.parent(place), place) for place in range(1, size))

    def neighbours(self, member: Member) -> list[Member]:
        return [self.members[place] for place in self._around(self._index(member))]

    def _around(self, place: int) -> list[int]:
        size = len(self)
        if self.is_overlay:
            return self._near[place]
        if self.shape == MESH:
            return [other for other in range(size) if other != place]
        if self.shape == RING:
            return sorted({(place - 1) % size, (place + 1) % size} - {place})
        if self.shape == STAR:
            return list(range(1, size)) if place == 0 else [0]
        above = [self.parent(place)] if place else []
        return above + list(self.children(place))

    def parent(self, place: int) -> int:
        """The place above this one in a hierarchy."""
        return (place - 1) // self.fan_out

    def children(self, place: int) -> range:
        """Places below this one in a hierarchy."""
        first = place * self.fan_out + 1
        return range(min(first, len(self)), min(first + self.fan_out, len(self)))

    # Routes

    def next_hop(self, here: Member, there: Member) -> Member:
        """Whom `here` passes a message for `there` to; `there` itself when they are linked."""
        return self.members[self._next(self._index(here), self._index(there))]

    def _next(self, here: int, there: int) -> int:
        if self.is_overlay:
            return self._next_in_overlay(here, there)
        if here == there or self.shape == MESH:
            return there
        if self.shape == STAR:
            return there if here == 0 else 0
        if self.shape == RING:
            ahead = (there - here) % len(self)
            # Both ways equally long: clockwise, so that both ends agree.
            return (here + 1) % len(self) if ahead <= len(self) - ahead else (here - 1) % len(self)
        return self._next_in_tree(here, there)

    def _next_in_overlay(self, here: int, there: int) -> int:
        """The first neighbour that is nearer; every member finds the same way."""
        if there not in self._distances:
            self._distances[there] = overlay.distances(self._near, there)
        hops = self._distances[there]
        return next((other for other in self._near[here] if hops[other] < hops[here]), there)

    def _next_in_tree(self, here: int, there: int) -> int:
        """The child whose branch holds `there`, else the parent."""
        while there > here:
            above = self.parent(there)
            if above == here:
                return there
            there = above
        return self.parent(here)

    def route(self, start: Member, end: Member) -> list[Member]:
        """Every member on the way, both ends included."""
        here, there = self._index(start), self._index(end)
        path = [here]
        while here != there:
            here = self._next(here, there)
            path.append(here)
        return [self.members[place] for place in path]

    def broadcast_plan(self, source: Member) -> list[Step[Member]]:
        """Each other member reached once, along links, in as few rounds as the shape allows."""
        start = self._index(source)
        rounds = {start: 0}
        waiting = deque([start])
        plan: list[Step[Member]] = []
        while waiting and len(rounds) < len(self):
            here = waiting.popleft()
            for there in self._around(here):
                if there not in rounds:
                    rounds[there] = rounds[here] + 1
                    waiting.append(there)
                    plan.append(Step(self.members[here], self.members[there], rounds[there]))
        return plan

    # Numbers

    def level(self, member: Member) -> int:
        """Steps below the root; 0 where there is none."""
        place = self._index(member)
        if self.shape == STAR:
            return min(place, 1)
        return self._depth(place) if self.shape == HIERARCHICAL else 0

    def _depth(self, place: int) -> int:
        depth = 0
        while place > 0:
            place = self.parent(place)
            depth += 1
        return depth

    def metrics(self) -> Metrics:
        """Exact, in closed form but for the overlay; zero for fewer than two members."""
        size = len(self)
        if size < 2:
            return Metrics(0, 0, 0.0)
        if self.is_overlay:
            return self._overlay_metrics
        if self.shape == MESH:
            return Metrics(size * (size - 1) // 2, 1, 1.0)
        if self.shape == STAR:
            return Metrics(size - 1, min(size - 1, 2), 2 * (size - 1) / size)
        if self.shape == RING:
            mean = size * size / (4 * (size - 1)) if size % 2 == 0 else (size + 1) / 4
            return Metrics(size if size > 2 else 1, size // 2, mean)
        return Metrics(size - 1, self._tree_diameter(), self._tree_mean_hops())

    @cached_property
    def _overlay_metrics(self) -> Metrics:
        return Metrics(overlay.RINGS * len(self), *overlay.spread(self._near))

    def stranded(self) -> float:
        """How many others the loss of one member cuts off until the shape has healed, on average."""
        size = len(self)
        if size < 3 or self.shape in (MESH, RING):
            return 0.0
        if self.shape == STAR:
            return (size - 1) / size
        return sum(self._depth(place) for place in range(size)) / size

    def _tree_diameter(self) -> int:
        last = len(self) - 1
        depth = self._depth(last)
        while last > self.fan_out:
            last = self.parent(last)
        # Does the lowest level reach into a second branch of the root?
        return 2 * depth if last > 1 else 2 * depth - 1

    def _tree_mean_hops(self) -> float:
        """Each link lies on as many routes as there are members on its one side times those on the other."""
        size = len(self)
        below = [1] * size
        for place in range(size - 1, 0, -1):
            below[self.parent(place)] += below[place]
        crossings = sum(count * (size - count) for count in below[1:])
        return crossings / (size * (size - 1) / 2)
