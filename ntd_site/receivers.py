"""What an app below says and another beside it needs: neither knows the other, so it goes through here."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from billing.outgoing import outbox
from scaling.health import Status
from scaling.models import Node


def node_status_changed(node: Node, at: datetime, **_: Any) -> None:
    """A node belongs to no account: the webhooks that staff made hear of it."""
    if node.status == Status.UNHEALTHY:
        data = {"node": str(node.pk), "name": node.name, "reason": node.status_reason}
        outbox.publish(account_id=None, type="node.unhealthy", data=data, now=at)
