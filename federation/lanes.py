"""Pure. A task's time as bars: one lane for its waiting, one for each attempt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

WIDTH = 1000.0
# A bar is never too thin to be seen.
LEAST = 4.0


@dataclass(frozen=True, slots=True)
class Stretch:
    """An attempt's times: given to an agent, begun, ended."""

    assigned_at: datetime
    started_at: datetime | None
    ended_at: datetime | None


@dataclass(frozen=True, slots=True)
class Bar:
    kind: str
    x: float
    width: float
    seconds: float


@dataclass(slots=True)
class Lane:
    bars: list[Bar] = field(default_factory=list)


def draw(
    stretches: Sequence[Stretch], *, created_at: datetime, finished_at: datetime | None, now: datetime
) -> list[Lane]:
    """The lane of waiting first, then one for each attempt, all on one scale from 0 to WIDTH.

    `kind` of a bar is queued, assigned or running. What is not over yet ends now.
    """
    end = max([finished_at or now, created_at, *(each.ended_at or now for each in stretches)])
    scale = _Scale(created_at, max((end - created_at).total_seconds(), 0.001))
    waiting, free_from = Lane(), created_at
    lanes = [waiting]
    for each in stretches:
        scale.add(waiting, "queued", free_from, each.assigned_at)
        lane = Lane()
        over = each.ended_at or end
        scale.add(lane, "assigned", each.assigned_at, each.started_at or over)
        if each.started_at is not None:
            scale.add(lane, "running", each.started_at, over)
        lanes.append(lane)
        free_from = over
    if not stretches or stretches[-1].ended_at is not None:
        scale.add(waiting, "queued", free_from, finished_at or now)
    return lanes


@dataclass(frozen=True, slots=True)
class _Scale:
    start: datetime
    seconds: float

    def add(self, lane: Lane, kind: str, begin: datetime, end: datetime) -> None:
        """Nothing for no time."""
        lasted = (end - begin).total_seconds()
        if lasted <= 0:
            return
        x = min(max((begin - self.start).total_seconds() / self.seconds, 0.0), 1.0) * WIDTH
        width = max(lasted / self.seconds * WIDTH, LEAST)
        lane.bars.append(Bar(kind, round(min(x, WIDTH - LEAST), 1), round(min(width, WIDTH), 1), lasted))
