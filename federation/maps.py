"""How a federation is wired at this moment, for routes, drawings and answers.

A version of the topology never changes, so each process keeps the shapes of the versions it worked with last.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from threading import Lock
from typing import Any
from uuid import UUID

from federation import drawing, store
from federation.models import Agent, Federation
from federation.topology import Topology

KEPT = 32
COLUMNS = ("id", "name", "role", "status", "load", "level", "x", "y")
_shapes: OrderedDict[tuple[UUID, int], Topology[UUID]] = OrderedDict()
_lock = Lock()


@dataclass(frozen=True, slots=True)
class Map:
    federation: Federation
    agents: list[Agent]  # in the order of the topology's members
    shape: Topology[UUID]

    def role(self, agent: Agent) -> str:
        return "leader" if agent.pk == self.federation.leader_id else "worker"


def of(federation: Federation, *, most: int | None = None) -> Map:
    """Who is linked with whom, and the members (the first `most`, or all) with their load."""
    while True:
        found = shape(federation)
        agents = _agents(federation, found.members[:most], everyone=most is None)
        # Somebody came or went in between: another version.
        if agents is not None:
            return Map(federation, agents, found)


def _agents(federation: Federation, members: Sequence[UUID], *, everyone: bool) -> list[Agent] | None:
    rows = Agent.objects.linked().filter(federation=federation)
    rows = rows if everyone else rows.filter(pk__in=members)
    agents = {agent.pk: agent for agent in rows.with_running().defer("metadata", "public_key", "token_digest")}
    return [agents[pk] for pk in members] if set(agents) == set(members) else None


def shape(federation: Federation) -> Topology[UUID]:
    """Who is linked with whom now; one query while nothing has changed. `federation` is brought up to date."""
    federation.refresh_from_db(fields=["topology_version", "epoch", "topology", "adapted", "fan_out", "leader"])
    key = (federation.pk, federation.topology_version)
    with _lock:
        if key in _shapes:
            _shapes.move_to_end(key)
            return _shapes[key]
    found, version = _read(federation)
    with _lock:
        _shapes[federation.pk, version] = found
        while len(_shapes) > KEPT:
            _shapes.popitem(last=False)
    return found


def _read(federation: Federation) -> tuple[Topology[UUID], int]:
    """Members and version in one statement: a change in between would file one under the other."""
    wiring = ("topology", "adapted", "fan_out", "leader", "topology_version", "epoch")
    rows = list(
        Agent.objects.linked()
        .filter(federation=federation)
        .order_by("position")
        .values_list("pk", *(f"federation__{name}" for name in wiring))
    )
    if not rows:
        return federation.over([]), federation.topology_version
    _, federation.topology, federation.adapted, federation.fan_out, leader, version, epoch = rows[0]
    federation.leader_id, federation.topology_version, federation.epoch = leader, version, epoch
    members = [row[0] for row in rows]
    if leader in members:
        members.remove(leader)
        members.insert(0, leader)
    return federation.over(members), version


@lru_cache(maxsize=KEPT)
def _points(found: Topology[UUID]) -> list[drawing.Point]:
    return drawing.layout(found)


def snapshot(federation: Federation) -> dict[str, Any]:
    """What the page draws: nodes as rows of COLUMNS, links as pairs of places in `nodes`."""
    # Read before the rows: a change in between is then sent again rather than missed.
    version = store.graph_version(federation.pk)
    found = of(federation)
    nodes = [
        [str(agent.pk), agent.name, found.role(agent), agent.mark, agent.load, found.shape.level(agent.pk), x, y]
        for agent, (x, y) in zip(found.agents, _points(found.shape), strict=True)
    ]
    return {
        "topology": found.shape.shape,
        "wiring": found.federation.topology_version,
        "version": version,
        "columns": COLUMNS,
        "nodes": nodes,
        "links": list(found.shape.links()),
    }
