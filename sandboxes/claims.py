"""Takes the next execution: in fair order between accounts, and only where its pool and a runtime have room.

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
    select pool_id, runtime, count(*) as n from sandboxes_execution
    where state in ('starting', 'running') group by pool_id, runtime
),
runtime as (
    select offered.name, offered.most - coalesce(sum(live.n), 0) as free
    from unnest(%(names)s::text[], %(most)s::int[]) as offered(name, most)
    left join live on live.runtime = offered.name
    group by offered.name, offered.most
    having coalesce(sum(live.n), 0) < offered.most
),
room as (
    select pool.id, pool.size - coalesce(sum(live.n), 0) as free,
           case when pool.runtimes = '{}' then %(usual)s::varchar[] else pool.runtimes end as runtimes
    from sandboxes_pool pool left join live on live.pool_id = pool.id
    group by pool.id
    having coalesce(sum(live.n), 0) < pool.size
),
next as (
    select execution.id, chosen.name as runtime, least(room.free, chosen.free) as free
    from sandboxes_execution execution
    join room on room.id = execution.pool_id
    cross join lateral (
        select runtime.name, runtime.free
        from unnest(room.runtimes) with ordinality as listed(name, place) join runtime using (name)
        where listed.name = any(execution.runtimes)
        order by listed.place limit 1
    ) chosen
    where execution.state = 'queued' and execution.available_at <= %(now)s
    order by execution.turn, execution.id
    limit 1
    for update of execution skip locked
)
update sandboxes_execution execution
set state = 'starting', attempt = attempt + 1, claimed_by = %(me)s, claimed_at = %(now)s,
    lease_expires_at = %(lease)s, node = %(node)s, runtime = next.runtime
from next, sandboxes_template template
where execution.id = next.id and template.id = execution.template_id
returning execution.*, template.address as template_address, next.free <= 1 as fills_pool
"""


@transaction.atomic
def claim(*, now: datetime) -> Execution | None:
    """The fairest execution that can run now, leased to this process; None when there is none.

    It runs on the first runtime of its pool that is up, has room and could take it. Claims go one at a time, so that
    no pool ever starts one more than its `size` allows, and no runtime one more than its setting.
    """
    offered = {name: most for name, most in engine.rooms().items() if engine.is_up(name)}
    if not offered:
        return None
    with connection.cursor() as cursor:
        cursor.execute("select pg_advisory_xact_lock(%s)", [LOCK])
    values = {
        "now": now,
        "lease": now + leases.LEASE,
        "me": leases.ME,
        "node": settings.NODE_NAME or socket.gethostname(),
        "names": list(offered),
        "most": list(offered.values()),
        "usual": settings.DEFAULT_RUNTIMES,
    }
    claimed = list(Execution.objects.raw(CLAIM, values))
    if not claimed:
        return None
    live.execution_changed(claimed[0])
    return claimed[0]


def waiting(*, now: datetime, most: int) -> int:
    """How many executions wait whose time has come, counted up to `most`."""
    return len(Execution.objects.waiting(now).order_by("turn", "pk").values_list("pk", flat=True)[:most])
