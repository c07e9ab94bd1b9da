"""Tells customers' webhooks how tasks ended, inside the transaction that ended them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from billing.outgoing import outbox
from federation.models import Federation, Task

FINISHED, DEAD = "task.finished", "task.dead"


def tell(federation: Federation, tasks: Sequence[Task], *, now: datetime) -> None:
    """One query for all of them where nobody listens."""
    account_id = federation.account_id
    wanted = {type for type in {_type(task) for task in tasks} if outbox.is_wanted(account_id, type)}
    for task in tasks:
        if _type(task) in wanted:
            outbox.publish(account_id=account_id, type=_type(task), data=_facts(task), now=now)


def _type(task: Task) -> str:
    return DEAD if task.state == Task.State.DEAD else FINISHED


def _facts(task: Task) -> dict[str, str]:
    return {
        "task": str(task.pk),
        "federation": str(task.federation_id),
        "type": task.type,
        "state": str(task.state),
        "error": task.error,
    }
