"""How a federation is wired at this moment, for drawings and answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from federation import store
from federation.models import Agent, Federation
from federation.topology import LISTED_MESH, MESH, Topology


@dataclass(frozen=True, slots=True)
class Map:
    federation: Federation
    agents: list[Agent]  # in the order of the topology's members
    shape: Topology[Any]

    @property
    def lists_links(self) -> bool:
        """A large mesh is known by its size; listing its links would help nobody."""
        return self.shape.shape != MESH or len(self.agents) <= LISTED_MESH

    def role(self, agent: Agent) -> str:
        return "leader" if agent.pk == self.federation.leader_id else "worker"


def of(federation: Federation) -> Map:
    """Two queries: members with their load, nothing else."""
    agents = {agent.pk: agent for agent in Agent.objects.linked().filter(federation=federation).with_running()}
    shape = federation.shaped(list(agents.values()))
    return Map(federation, [agents[pk] for pk in shape.members], shape)


def snapshot(federation: Federation) -> dict[str, Any]:
    """What the page draws; links are pairs of places in `nodes`."""
    # Read before the rows: a change in between is then sent again rather than missed.
    version = store.graph_version(federation.pk)
    found = of(federation)
    nodes = [
        {
            "id": str(agent.pk),
            "name": agent.name,
            "role": found.role(agent),
            "status": agent.status,
            "load": agent.load,
            "level": found.shape.level(agent.pk),
            "x": x,
            "y": y,
        }
        for agent, (x, y) in zip(found.agents, found.shape.layout(), strict=True)
    ]
    return {
        "topology": found.shape.shape,
        "version": version,
        "nodes": nodes,
        "links": list(found.shape.links()) if found.lists_links else [],
    }
