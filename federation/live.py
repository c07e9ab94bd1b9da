"""What changed, told to the pages that show it, once the change is committed.

federation-<id>, federations     settings, membership, leader
topology-<id>                    a nudge when links changed; agents' states as data
agents-<id>, agent-<id>          a federation's list of agents (membership, or many at once), one agent
tasks-<id>, task-<id>, results-<id>
messages-<id>, events-<id>, memory-<id>
readings-<id>                    what an adaptive topology measured
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from uuid import UUID

import redis
from channels.layers import get_channel_layer
from django.db import transaction

from federation import store
from federation.models import Agent, Federation, Task

# So many rows of a list at once are better read again as one list.
MANY = 100
log = logging.getLogger(__name__)


def federation_changed(federation: Federation) -> None:
    """Its settings, members or leader: everything drawn from them is drawn again."""
    names = ("federation", "topology", "agents")
    topics = [f"{name}-{federation.pk}" for name in names] + ["federations"]
    _on_commit(federation.account_id, topics)


def agents_changed(federation: Federation, agent_ids: Iterable[UUID]) -> None:
    """Their status or load: small changes for the graph, a nudge for the rows."""
    changed = list(dict.fromkeys(agent_ids))
    if changed:
        transaction.on_commit(lambda: _send_states(federation, changed))


def _send_states(federation: Federation, agent_ids: list[UUID]) -> None:
    layer = get_channel_layer()
    states = [
        [str(agent.pk), agent.mark, agent.load]
        for agent in Agent.objects.linked().filter(pk__in=agent_ids).with_running().defer("metadata")
    ]
    try:
        version = store.next_graph_version(federation.pk)
    except redis.RedisError as error:
        log.warning("graph change lost: %s", error)
        return
    layer.nudge(
        federation.account_id, [f"topology-{federation.pk}"], data={"v0": version - 1, "v": version, "nodes": states}
    )
    rows = [f"agent-{pk}" for pk in agent_ids] if len(agent_ids) <= MANY else [f"agents-{federation.pk}"]
    layer.nudge(federation.account_id, rows)


def tasks_changed(federation: Federation, tasks: Sequence[Task] | None = None) -> None:
    """These tasks, or (None) any of the federation's."""
    topics = [f"tasks-{federation.pk}", "federations"]
    topics += [f"task-{task.pk}" for task in tasks or ()]
    if any(task.is_backtest and not task.is_live for task in tasks or ()):
        topics.append(f"results-{federation.pk}")
    _on_commit(federation.account_id, topics)


def event_recorded(federation: Federation) -> None:
    _on_commit(federation.account_id, [f"events-{federation.pk}"])


def messages_moved(federation: Federation) -> None:
    _on_commit(federation.account_id, [f"messages-{federation.pk}"])


def memory_changed(federation: Federation) -> None:
    _on_commit(federation.account_id, [f"memory-{federation.pk}"])


def shape_measured(federation: Federation) -> None:
    _on_commit(federation.account_id, [f"readings-{federation.pk}"])


def _on_commit(account_id: UUID, topics: list[str]) -> None:
    transaction.on_commit(lambda: get_channel_layer().nudge(account_id, topics))
