"""The rules of the bus in plain Python, message by message, to hold the stored bus against."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Waiting:
    """A message in an inbox. `again_at` None: it was not offered, or is to be offered again."""

    id: str
    priority: int
    order: int
    expires_at: float
    again_at: float | None = None
    offered: int = 0


@dataclass
class BusModel:
    agents: list[Any]
    limit: int
    redelivery: float
    now: float = 0
    counts: Counter[str] = field(default_factory=Counter)
    letters: Counter[tuple[Any, str]] = field(default_factory=Counter)
    order: int = 0

    def __post_init__(self) -> None:
        self.inboxes: dict[Any, list[Waiting]] = {agent: [] for agent in self.agents}

    @property
    def queued(self) -> int:
        return sum(map(len, self.inboxes.values()))

    def room(self, agent: Any) -> int:
        return max(self.limit - len(self.inboxes[agent]), 0)

    def fitting(self, recipients: list[Any], asked: int) -> int:
        """How many of so many messages are accepted: those that find room with somebody."""
        self.expire()
        return min(asked, max((self.room(each) for each in recipients), default=asked))

    def accept(self, ids: list[str], recipients: list[Any], priority: int, ttl: float) -> None:
        self.counts["accepted"] += len(ids) * len(recipients)
        for recipient in recipients:
            room = self.room(recipient)
            for each in ids[:room]:
                self.order += 1
                self.inboxes[recipient].append(Waiting(each, priority, self.order, self.now + ttl))
            self._end(recipient, "dead", "full", len(ids[room:]))

    def take(self, agent: Any, most: int) -> list[tuple[str, int]]:
        """What is offered, with how often it was."""
        self.expire()
        due = [each for each in self.inboxes[agent] if each.again_at is None or each.again_at <= self.now]
        for each in due:
            each.again_at = None
        offered = sorted(due, key=lambda each: (-each.priority, each.order))[:most]
        for each in offered:
            each.again_at = self.now + self.redelivery
            each.offered += 1
        return [(each.id, each.offered) for each in offered]

    def acknowledge(self, agent: Any, ids: list[str]) -> int:
        self.expire()
        before = self.inboxes[agent]
        self.inboxes[agent] = [each for each in before if not (each.offered and each.id in ids)]
        done = len(before) - len(self.inboxes[agent])
        self.counts["delivered"] += done
        return done

    def expire(self) -> None:
        for agent, inbox in self.inboxes.items():
            alive = [each for each in inbox if each.expires_at > self.now]
            self._end(agent, "expired", "expired", len(inbox) - len(alive))
            self.inboxes[agent] = alive

    def evict(self, agent: Any) -> None:
        self.expire()
        self._end(agent, "dead", "undeliverable", len(self.inboxes.pop(agent)))
        self.agents.remove(agent)

    def _end(self, agent: Any, how: str, reason: str, number: int) -> None:
        self.counts[how] += number
        if number:
            self.letters[agent, reason] += number
