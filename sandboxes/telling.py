"""Tells that an execution is over: to its watchers and listeners after commit, to webhooks with the commit."""

from __future__ import annotations

from datetime import datetime
from functools import partial

from django.db import transaction

from billing.outgoing import outbox
from sandboxes import live, signals, transcript
from sandboxes.models import Execution


def ended(execution: Execution, *, now: datetime) -> None:
    """Expects to be inside the transaction in which it became final and settled."""
    outbox.publish(
        account_id=execution.account_id,
        type="execution.finished",
        data=partial(_facts, execution),
        key=f"execution:{execution.pk}",
        now=now,
    )
    transaction.on_commit(partial(_announce, execution))
    live.execution_changed(execution)


def _facts(execution: Execution) -> dict[str, object]:
    row = Execution.objects.light().get(pk=execution.pk)
    return {
        "execution": str(row.pk),
        "state": row.state,
        "exit_code": row.exit_code,
        "breach": row.breach or None,
        "agent": row.agent or None,
    }


def _announce(execution: Execution) -> None:
    transcript.tell_end(execution.pk)
    said = {"execution_id": execution.pk, "agent": execution.agent}
    signals.execution_finished.send_robust(sender=Execution, **said)
