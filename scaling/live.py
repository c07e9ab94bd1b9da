"""What changed, for staff's open pages. Sent on commit; a lost nudge costs seconds."""

from __future__ import annotations

from uuid import UUID

from channels.layers import get_channel_layer
from django.db import transaction


def node_changed(node_id: UUID) -> None:
    """A beat or a status. Topics `node-<id>` and `nodes`."""
    _nudge(f"node-{node_id}", "nodes")


def decided(group_id: UUID) -> None:
    """A decision was recorded. Topics `group-<id>`, `groups` and `decisions`."""
    _nudge(f"group-{group_id}", "groups", "decisions")


def balancer_changed(balancer_id: UUID) -> None:
    _nudge(f"balancer-{balancer_id}", "balancers")


def _nudge(*topics: str) -> None:
    transaction.on_commit(lambda: get_channel_layer().nudge(None, list(topics)))
