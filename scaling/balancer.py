"""Pure. Picks one of many: seven strategies, the same signature, no hidden state.

    round_robin            the next name after the last one picked
    weighted_round_robin   smooth: over sum(weights) picks each gets exactly its weight, interleaved
    least_connections      smallest (in flight + 1) / weight; ties by lot
    least_response_time    smallest EWMA x (in flight + 1); never the EWMA alone, which herds
    power_of_two           the less loaded of two drawn; robust when the counts are stale
    ip_hash                rendezvous hashing of a key: one leaving moves only its own keys
    random                 by lot, in proportion to the weights

A weight of 0 gets nothing, whatever the strategy.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from random import Random

# One new sample moves the average by this much.
EWMA_SHARE = 0.2
# A failure must not look fast, or what fails quickest would be picked for ever.
FAILURE_MS = 2000.0
FIRST_GUESS_MS = 50.0


class Strategy(StrEnum):
    ROUND_ROBIN = "round_robin"
    WEIGHTED_ROUND_ROBIN = "weighted_round_robin"
    LEAST_CONNECTIONS = "least_connections"
    LEAST_RESPONSE_TIME = "least_response_time"
    POWER_OF_TWO = "power_of_two"
    IP_HASH = "ip_hash"
    RANDOM = "random"


class NothingToPick(Exception):
    """Raised when no choice has a weight above 0."""

    code = "scaling_error"

    def __init__(self) -> None:
        super().__init__("There is nothing to pick from.")


class KeyNeeded(Exception):
    """Raised by ip_hash without a key to hash."""

    code = "validation_error"

    def __init__(self) -> None:
        super().__init__("The strategy ip_hash needs a key, such as the client's address.")


@dataclass(frozen=True)
class Choice:
    name: str
    weight: int = 1
    in_flight: int = 0
    latency_ms: float | None = None


@dataclass(frozen=True)
class Turn:
    """What the rotating strategies must remember between picks."""

    last: str = ""
    owed: Mapping[str, int] = field(default_factory=dict)


def pick(
    strategy: Strategy | str, choices: Sequence[Choice], *, turn: Turn, draw: Random, key: str | None = None
) -> tuple[Choice, Turn]:
    """One of the choices, and the turn to pass next time."""
    open_choices = sorted((choice for choice in choices if choice.weight > 0), key=lambda choice: choice.name)
    if not open_choices:
        raise NothingToPick
    strategy = Strategy(strategy)
    if strategy is Strategy.ROUND_ROBIN:
        return round_robin(open_choices, turn)
    if strategy is Strategy.WEIGHTED_ROUND_ROBIN:
        return weighted_round_robin(open_choices, turn)
    if strategy is Strategy.IP_HASH:
        if not key:
            raise KeyNeeded
        return rendezvous(open_choices, key), turn
    return _STATELESS[strategy](open_choices, draw), turn


def round_robin(choices: Sequence[Choice], turn: Turn) -> tuple[Choice, Turn]:
    """The next by name, so that joins and leaves do not reshuffle the others."""
    found = next((choice for choice in choices if choice.name > turn.last), choices[0])
    return found, Turn(found.name, turn.owed)


def weighted_round_robin(choices: Sequence[Choice], turn: Turn) -> tuple[Choice, Turn]:
    """Each is owed its weight per pick; the one owed most is picked and pays the sum."""
    owed = {choice.name: turn.owed.get(choice.name, 0) + choice.weight for choice in choices}
    found = max(choices, key=lambda choice: owed[choice.name])
    owed[found.name] -= sum(choice.weight for choice in choices)
    return found, Turn(found.name, owed)


def least_connections(choices: Sequence[Choice], draw: Random) -> Choice:
    return _least(choices, draw, lambda choice: (choice.in_flight + 1) / choice.weight)


def least_response_time(choices: Sequence[Choice], draw: Random) -> Choice:
    """One that was never tried is taken to be as fast as the average of the others, not infinitely fast."""
    known = [choice.latency_ms for choice in choices if choice.latency_ms is not None]
    guess = sum(known) / len(known) if known else FIRST_GUESS_MS
    return _least(choices, draw, lambda choice: _expected_ms(choice, guess))


def _expected_ms(choice: Choice, guess: float) -> float:
    # A latency of 0 would hide any queue behind it.
    latency = guess if choice.latency_ms is None else choice.latency_ms
    return max(latency, 0.001) * (choice.in_flight + 1)


def power_of_two(choices: Sequence[Choice], draw: Random) -> Choice:
    two = draw.sample(list(choices), min(2, len(choices)))
    return _least(two, draw, lambda choice: (choice.in_flight + 1) / choice.weight)


def by_lot(choices: Sequence[Choice], draw: Random) -> Choice:
    return draw.choices(list(choices), weights=[choice.weight for choice in choices])[0]


def rendezvous(choices: Sequence[Choice], key: str) -> Choice:
    """The choice whose own hash with the key wins, in proportion to its weight."""
    return max(choices, key=lambda choice: (_claim(choice, key), choice.name))


def _claim(choice: Choice, key: str) -> float:
    mixed = hashlib.blake2b(f"{choice.name}\0{key}".encode(), digest_size=8).digest()
    share = (int.from_bytes(mixed, "big") + 1) / (2**64 + 2)
    return -choice.weight / math.log(share)


def _least(choices: Sequence[Choice], draw: Random, cost: Callable[[Choice], float]) -> Choice:
    costs = [cost(choice) for choice in choices]
    least = min(costs)
    return draw.choice([choice for choice, each in zip(choices, costs, strict=True) if each == least])


_STATELESS: dict[Strategy, Callable[[Sequence[Choice], Random], Choice]] = {
    Strategy.LEAST_CONNECTIONS: least_connections,
    Strategy.LEAST_RESPONSE_TIME: least_response_time,
    Strategy.POWER_OF_TWO: power_of_two,
    Strategy.RANDOM: by_lot,
}


def averaged(before: float | None, latency_ms: float, *, ok: bool) -> float:
    """The moving average after one more sample; a failure counts as a slow answer."""
    sample = latency_ms if ok else max(latency_ms, FAILURE_MS)
    return sample if before is None else before + EWMA_SHARE * (sample - before)
