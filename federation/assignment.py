"""Pure. Which task is next, and which agent gets it.

    round_robin        the next capable agent in joining order after the one picked last
    least_loaded       the smallest share of its capacity in use
    capability_match   the fewest capabilities beyond those asked for
    random             any
    priority           as least_loaded, so that the most urgent task (`effective_priority`) starts on the freest agent

Everywhere an agent needs all the capabilities a task asks for, knows the task's type, and has room.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from random import Random
from typing import Any
from uuid import UUID

ROUND_ROBIN, LEAST_LOADED, CAPABILITY_MATCH, RANDOM, PRIORITY = (
    "round_robin",
    "least_loaded",
    "capability_match",
    "random",
    "priority",
)
LONGEST_BACKOFF_SECONDS = 60
STRATEGIES = (ROUND_ROBIN, LEAST_LOADED, CAPABILITY_MATCH, RANDOM, PRIORITY)


@dataclass(slots=True)
class Candidate:
    """An agent that may get work. `position` is its number in joining order; `types` None means any, but `never`.

    One that is not `is_fresh` has missed heartbeats or a lease: it gets work only when nobody else has room.
    """

    id: UUID
    position: int
    capabilities: frozenset[str]
    running: int
    capacity: int
    types: frozenset[str] | None = None
    never: frozenset[str] = frozenset()
    is_fresh: bool = True
    is_remote: bool = False
    # Why it is given nothing now, if it is not for want of room.
    why_not: str = ""

    @property
    def has_room(self) -> bool:
        return self.running < self.capacity and not self.why_not

    @property
    def share(self) -> float:
        return self.running / self.capacity

    def can(self, *, type: str, required: frozenset[str]) -> bool:
        knows = type not in self.never if self.types is None else type in self.types
        return knows and required <= self.capabilities


def able(candidates: Iterable[Candidate], *, type: str, required: frozenset[str]) -> list[Candidate]:
    """Those that could do it, with room or without."""
    return [each for each in candidates if each.can(type=type, required=required)]


def pick(
    strategy: str,
    candidates: Iterable[Candidate],
    *,
    type: str,
    required: frozenset[str],
    last: int,
    rng: Random,
) -> Candidate | None:
    """The agent for a task, or None while none has room. `last` is the position picked last in rotation."""
    fit = [each for each in able(candidates, type=type, required=required) if each.has_room]
    if not fit:
        return None
    if strategy == RANDOM:
        return rng.choice(sorted(fit, key=lambda each: each.position))
    return min(fit, key=_order(strategy, required, last))


def _order(strategy: str, required: frozenset[str], last: int) -> Callable[[Candidate], tuple[Any, ...]]:
    def turn(each: Candidate) -> tuple[bool, int]:
        """Those after the last pick first, in joining order, then round again."""
        return each.position <= last, each.position

    orders: dict[str, Callable[[Candidate], tuple[Any, ...]]] = {
        ROUND_ROBIN: turn,
        LEAST_LOADED: lambda each: (each.share, each.running, *turn(each)),
        PRIORITY: lambda each: (each.share, each.running, *turn(each)),
        CAPABILITY_MATCH: lambda each: (len(each.capabilities - required), each.share, *turn(each)),
    }
    return orders[strategy]


def effective_priority(*, priority: int, queued_at: datetime, now: datetime, ageing_seconds: int) -> int:
    """One step up for each full ageing period waited, so that nothing waits for ever."""
    waited = max((now - queued_at).total_seconds(), 0.0)
    return priority + int(waited // ageing_seconds)


def backoff_seconds(tries: int) -> float:
    """The pause before the next attempt: 1, 2, 4, ... seconds."""
    return float(min(2 ** max(tries - 1, 0), LONGEST_BACKOFF_SECONDS))


def why_waiting(candidates: Iterable[Candidate], *, type: str, required: frozenset[str]) -> str:
    """The sentence a queued task shows."""
    everyone = list(candidates)
    if not everyone:
        return "No agent is available. The task starts when one joins."
    if not any(required <= each.capabilities for each in everyone):
        wanted = ", ".join(sorted(required))
        return f"No available agent has all of: {wanted}. The task starts when one joins."
    fit = able(everyone, type=type, required=required)
    if not fit:
        return f"No available agent runs tasks of the type {type}. The task starts when one joins."
    if all(each.why_not for each in fit):
        return fit[0].why_not
    return "Every capable agent is at its limit. The task starts when one has room."
