"""Takes the next execution: in fair order between accounts, and only where its pool has room.

Each execution got a turn when it was submitted (see executions.py). The lowest turn goes first, so an
account with ten waiting shares with one that has ten thousand.
"""

from __future__ import annotations

import socket
from datetime import datetime

from django.conf import settings
from django.db import connection, transaction

from sandboxes import engine, leases, live
from sandboxes.models import Execution

LOCK = 0x6E746401
CLAIM = """
with live as (
    select pool_id, count(*) as n from sandboxes_execution
    where state in ('starting', 'running') group by pool_id
),
room as (
    select pool.id, pool.size - coalesce(live.n, 0) as free
    from sandboxes_pool pool left join live on live.pool_id = pool.id
    where coalesce(live.n, 0) < pool.size
),
next as (
    select execution.id, room.free
    from sandboxes_execution execution join room on room.id = execution.pool_id
    where execution.state = 'queued' and execution.available_at <= %(now)s
      and (select coalesce(sum(n), 0) from live) < %(most)s
    order by execution.turn, execution.id
    limit 1
    for update of execution skip locked
)
update sandboxes_execution execution
set state = 'starting', attempt = attempt + 1, claimed_by = %(me)s, claimed_at = %(now)s,
    lease_expires_at = %(lease)s, node = %(node)s, runtime = %(runtime)s
from next, sandboxes_template template
where execution.id = next.id and template.id = execution.template_id
returning execution.*, template.address as template_address, next.free <= 1 as fills_pool
"""


@transaction.atomic
def claim(*, now: datetime) -> Execution | None:
    """The fairest execution that can run now, leased to this process; None when there is none.

    Claims go one at a time, so that no pool ever starts one more than its `size` allows.
    """
    with connection.cursor() as cursor:
        cursor.execute("select pg_advisory_xact_lock(%s)", [LOCK])
    values = {
        "now": now,
        "lease": now + leases.LEASE,
        "me": leases.ME,
        "node": settings.NODE_NAME or socket.gethostname(),
        "runtime": engine.LOCAL,
        "most": settings.MAX_SANDBOXES,
    }
    claimed = list(Execution.objects.raw(CLAIM, values))
    if not claimed:
        return None
    live.execution_changed(claimed[0])
    return claimed[0]


def waiting(*, now: datetime, most: int) -> int:
    """How many executions wait whose time has come, counted up to `most`."""
    return len(Execution.objects.waiting(now).order_by("turn", "pk").values_list("pk", flat=True)[:most])
