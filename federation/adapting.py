"""Pure. Which shape costs least for the traffic that was measured, and when to change to it.

A window of WINDOW_SECONDS is measured and every shape is charged for it (`costs`), in messages over links per second:

    carried    each message times the links on its way; a broadcast goes over members - 1 of them
    waited     each broadcast times its rounds
    busiest    what the busiest member passes on, times BUSIEST: a hub is where it jams first
    kept       links times KEPT: each is looked after
    repaired   losses and leavings times what one of them breaks: links, and members cut off until it heals

A task handed over counts as a message from the leader. The change is made (`decide`) when one other shape is cheaper
by GAIN in CONSECUTIVE windows, REST_SECONDS after the last change and at most MOST_AN_HOUR times an hour.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Generic

from federation.topology import FIXED, Member, Topology

WINDOW_SECONDS = 30
CONSECUTIVE = 3
GAIN = 0.2
REST_SECONDS = 300
MOST_AN_HOUR = 4
# Fewer messages and hand-overs in a window say too little to go by.
ENOUGH = 20
BUSIEST = 2.0
KEPT = 0.02
REPAIR = 10.0


@dataclass(frozen=True, slots=True)
class Traffic(Generic[Member]):
    """What one window saw. Ways and sources may be a sample; the totals are exact."""

    ways: Mapping[tuple[Member, Member], int] = field(default_factory=dict)
    sources: Mapping[Member, int] = field(default_factory=dict)
    direct: int = 0
    relayed: int = 0
    broadcasts: int = 0
    handed: int = 0
    failures: int = 0

    @property
    def signals(self) -> int:
        return self.direct + self.broadcasts + self.handed


@dataclass(frozen=True, slots=True)
class Reading:
    """One window's verdict."""

    ended_at: datetime
    shape: str  # in force
    signals: int
    costs: Mapping[str, float]

    @property
    def best(self) -> str:
        """The cheapest; of equals the one in force, then the first of FIXED."""
        return min(FIXED, key=lambda shape: (self.costs[shape], shape != self.shape))

    @property
    def gain(self) -> float:
        """The share of its cost that the shape in force would save as the best one."""
        present = self.costs[self.shape]
        return 1 - self.costs[self.best] / present if present else 0.0

    @property
    def is_enough(self) -> bool:
        return self.signals >= ENOUGH


@dataclass(frozen=True, slots=True)
class Change:
    shape: str
    reason: str


def costs(
    members: Sequence[Member], traffic: Traffic[Member], *, fan_out: int, seconds: float = WINDOW_SECONDS
) -> dict[str, float]:
    """What each shape would have cost over these members, the leader first."""
    return {shape: round(_cost(Topology(shape, members, fan_out=fan_out), traffic, seconds), 3) for shape in FIXED}


def _cost(shape: Topology[Member], traffic: Traffic[Member], seconds: float) -> float:
    passed: defaultdict[Member, float] = defaultdict(float)
    carried = _carry_direct(shape, traffic, passed)
    waited = _carry_broadcasts(shape, traffic, passed)
    carried += traffic.broadcasts * (len(shape) - 1)
    busiest = max(passed.values(), default=0)
    links = shape.metrics().links
    broken = 2 * links / len(shape) + shape.stranded()
    moved = carried + waited + BUSIEST * busiest + REPAIR * traffic.failures * broken
    return moved / seconds + KEPT * links


def _carry_direct(shape: Topology[Member], traffic: Traffic[Member], passed: defaultdict[Member, float]) -> float:
    """Links crossed by messages and hand-overs; the ways that were sampled stand for all."""
    known = sum(traffic.ways.values())
    if not known:
        return 0.0
    each = (traffic.direct + traffic.handed) / known
    crossed = 0.0
    for (start, end), count in traffic.ways.items():
        path = shape.route(start, end)
        crossed += count * each * (len(path) - 1)
        for member in path[:-1]:
            passed[member] += count * each
    return crossed


def _carry_broadcasts(shape: Topology[Member], traffic: Traffic[Member], passed: defaultdict[Member, float]) -> float:
    """Rounds waited for."""
    known = sum(traffic.sources.values())
    if not known:
        return 0.0
    each = traffic.broadcasts / known
    waited = 0.0
    for source, count in traffic.sources.items():
        plan = shape.broadcast_plan(source)
        waited += count * each * max((step.round for step in plan), default=0)
        for step in plan:
            passed[step.sender] += count * each
    return waited


def decide(readings: Sequence[Reading], *, changes: Sequence[datetime], now: datetime) -> Change | None:
    """`readings` the newest first; `changes` when the shape was changed by measurement. None: stay."""
    found = list(readings[:CONSECUTIVE])
    if len(found) < CONSECUTIVE or not _follow_each_other(found):
        return None
    newest = found[0]
    agree = {(reading.shape, reading.best) for reading in found} == {(newest.shape, newest.best)}
    worth = all(reading.is_enough and reading.gain >= GAIN for reading in found)
    if not agree or not worth or newest.best == newest.shape or not _may_change(changes, now):
        return None
    return Change(newest.best, _reason(newest))


def _follow_each_other(readings: Sequence[Reading]) -> bool:
    window = timedelta(seconds=WINDOW_SECONDS)
    return all(
        later.ended_at - earlier.ended_at == window for later, earlier in zip(readings, readings[1:], strict=False)
    )


def _may_change(changes: Sequence[datetime], now: datetime) -> bool:
    lately = [moment for moment in changes if moment > now - timedelta(hours=1)]
    rested = all(moment <= now - timedelta(seconds=REST_SECONDS) for moment in lately)
    return rested and len(lately) < MOST_AN_HOUR


def _reason(newest: Reading) -> str:
    before, after = newest.costs[newest.shape], newest.costs[newest.best]
    return (
        f"Measured: {newest.best} costs {after:.1f} and {newest.shape} {before:.1f} messages over links a second, "
        f"{newest.gain:.0%} less in {CONSECUTIVE} windows of {WINDOW_SECONDS} s."
    )
