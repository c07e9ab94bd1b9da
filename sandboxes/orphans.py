"""Sandboxes in the cloud that nobody waits for: their worker died, or the answer to their making was lost.

Each names the attempt it was made for. One is an orphan when this database knows the execution and that attempt no
longer holds a lease. One of an execution unknown here belongs to another installation with the same key.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from uuid import UUID

from sandboxes import engine
from sandboxes.models import Execution
from sandboxes.runtimes import Remote, RuntimeLost, RuntimeUnavailable

log = logging.getLogger(__name__)


def end() -> int:
    """Returns how many there were; what cannot be asked or killed now is looked for again."""
    ended = 0
    for name in engine.names():
        runtime = engine.runtime(name)
        if isinstance(runtime, Remote):
            with suppress(RuntimeLost, RuntimeUnavailable):
                ended += _end_those_of(runtime)
    return ended


def _end_those_of(runtime: Remote) -> int:
    # The list before the leases: whatever is on it was claimed, and the claim committed, before it was made.
    held = runtime.held()
    orphaned = _orphaned({each.request_id for each in held})
    ended = 0
    for each in held:
        if each.request_id in orphaned:
            log.warning("the sandbox %s of the attempt %s was left behind", each.sandbox, each.request_id)
            ended += runtime.kill(each.sandbox)
    return ended


def _orphaned(request_ids: set[str]) -> set[str]:
    of = {request_id: pk for request_id in request_ids if (pk := _execution(request_id))}
    known = Execution.objects.filter(pk__in=of.values())
    rows = known.values_list("pk", "attempt", "lease_expires_at")
    waited_for = {pk: f"{pk}-{attempt}" if lease else "" for pk, attempt, lease in rows}
    return {request_id for request_id, pk in of.items() if waited_for.get(pk, request_id) != request_id}


def _execution(request_id: str) -> UUID | None:
    try:
        return UUID(request_id.rpartition("-")[0])
    except ValueError:
        return None
