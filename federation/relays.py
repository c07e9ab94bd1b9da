"""How a message goes: straight into the recipient's inbox (logical), or hop by hop through those on the way (relayed).

Relayed, a message waits in the inbox of the next remote agent on its way, and that agent's acknowledgement passes it
on; managed agents and MCP servers, for whom our workers work, pass on at once. It ends in the dead letters after
`max_hops` links (`hops`), or when it would go over the same link in the same direction again (`loop`): turning round
where the topology broke is no loop, and going back and forth is.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple
from uuid import UUID

from federation import maps
from federation.models import Agent, Federation
from federation.topology import Topology

UNDELIVERABLE, HOPS, LOOP = "undeliverable", "hops", "loop"


class Leg(NamedTuple):
    """The next inbox; whom it only passes the message on to (empty: it is for itself); the path so far; why the
    message is dead instead (or empty)."""

    inbox: str
    to: str
    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class Way:
    """From a sender to one recipient or to all: `path` of a direct message, the longest `hops`, and the legs."""

    path: list[str]
    hops: int
    recipients: int
    targets: list[Any]


class Map:
    """The topology of a federation as it is now, for messages."""

    def __init__(self, federation: Federation) -> None:
        self.shape: Topology[UUID] = maps.shape(federation)
        self.members = set(self.shape.members)
        self.is_relayed = federation.is_relayed
        self.limit = federation.hop_limit
        self._federation = federation

    @cached_property
    def _ours(self) -> set[UUID]:
        agents = Agent.objects.linked().filter(federation=self._federation, runtime__in=Agent.OURS)
        return set(agents.values_list("pk", flat=True))

    def way(self, sender: UUID, recipient: UUID | None) -> Way:
        paths = self._paths(sender, recipient)
        legs = [self._leg(sender, to, path) for to, path in paths.items()]
        targets: list[Any] = [len(legs), *(part for leg in legs for part in leg)]
        return Way(
            path=[str(member) for member in paths[recipient]] if recipient else [],
            hops=max((len(path) - 1 for path in paths.values()), default=0),
            recipients=len(paths),
            targets=targets,
        )

    def _paths(self, sender: UUID, recipient: UUID | None) -> dict[UUID, list[UUID]]:
        """The whole way to each recipient, both ends included."""
        if recipient is not None:
            return {recipient: self.shape.route(sender, recipient)}
        ways: dict[UUID, list[UUID]] = {sender: [sender]}
        for step in self.shape.broadcast_plan(sender):
            ways[step.receiver] = [*ways[step.sender], step.receiver]
        del ways[sender]
        return ways

    def _leg(self, sender: UUID, to: UUID, path: list[UUID]) -> Leg:
        if self.is_relayed:
            return self._onwards([sender], to)
        too_far = self.limit and len(path) - 1 > self.limit
        return Leg(str(to), "", _text(path), HOPS if too_far else "")

    def leg_from(self, path: list[str], to: str) -> Leg | None:
        """From the last agent on the path that is still linked; those after it never passed the message on.

        None while whom it is for, or everyone on the path, is lost: they may come back.
        """
        so_far = [UUID(member) for member in path]
        while so_far and so_far[-1] not in self.members:
            so_far.pop()
        if so_far and UUID(to) in self.members:
            return self._onwards(so_far, UUID(to))
        if Agent.objects.members().filter(pk=to).exists():
            return None
        return Leg(to, "", json.dumps(path), UNDELIVERABLE)

    def _onwards(self, path: list[UUID], to: UUID) -> Leg:
        path = list(path)
        while path[-1] != to:
            onto = self.shape.next_hop(path[-1], to)
            if (path[-1], onto) in set(zip(path, path[1:], strict=False)):
                return Leg(str(to), "", _text(path), LOOP)
            if self.limit and len(path) > self.limit:
                return Leg(str(to), "", _text(path), HOPS)
            path.append(onto)
            if onto != to and onto not in self._ours:
                return Leg(str(onto), str(to), _text(path), "")
        return Leg(str(to), "", _text(path), "")


def _text(path: list[UUID]) -> str:
    return json.dumps([str(member) for member in path])
