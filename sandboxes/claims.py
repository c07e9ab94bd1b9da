"""Takes the next execution: in fair order between accounts, and only where its pool and a runtime have room.

Each execution got a turn when it was submitted (see executions.py). The lowest turn goes first, so an
account with ten waiting shares with one that has ten thousand. What runs in a customer's long-lived sandbox
is claimed by itself: it takes no room in a pool, goes to the sandbox's node, and one at a time.
"""

from __future__ import annotations

import collections
from datetime import datetime

from django.conf import settings
from django.db import connection, transaction
from django.db.models import Exists, OuterRef

from sandboxes import engine, leases, lifecycle, live, steps
from sandboxes.models import Execution
from sandboxes.runtimes import LOCAL

LOCK = 0x6E746401
CLAIM_IN_SANDBOX = """
with next as (
    select execution.id
    from sandboxes_sandbox sandbox join sandboxes_execution execution on execution.kept_sandbox_id = sandbox.id
    where sandbox.state = 'ready' and sandbox.node = %(node)s
      and execution.state = 'queued' and execution.available_at <= %(now)s
      and not exists (
          select 1 from sandboxes_execution busy
          where busy.kept_sandbox_id = sandbox.id and busy.lease_expires_at is not null
      )
    order by execution.turn, execution.id
    limit 1
    for update of execution skip locked
)
update sandboxes_execution execution
set state = 'starting', attempt = attempt + 1, claimed_by = %(me)s, claimed_at = %(now)s,
    lease_expires_at = %(lease)s, node = %(node)s, runtime = %(runtime)s
from next, sandboxes_template template
where execution.id = next.id and template.id = execution.template_id
returning execution.*, template.address as template_address, false as fills_pool
"""


def claim(*, now: datetime) -> Execution | None:
    """The fairest execution that can run now, leased to this process; None when there is none.

    It runs on the first runtime of its pool that is up, has room and could take it. Claims go one at a time, so that
    no pool ever starts one more than its `size` allows, and no runtime one more than its setting.
    """
    offered = {name: most for name, most in engine.rooms().items() if engine.is_up(name)}
    if not offered:
        return None
    offer = {"names": list(offered), "most": list(offered.values()), "usual": settings.DEFAULT_RUNTIMES}
    return _claimed(steps.CLAIM, now, lock=LOCK, **offer)


@transaction.atomic
def claim_in_sandbox(*, now: datetime) -> Execution | None:
    """The fairest execution that waits for one of this node's long-lived sandboxes which serves no other."""
    with connection.cursor() as cursor:
        cursor.execute("select pg_advisory_xact_lock(%s)", [LOCK])
    return _claimed(CLAIM_IN_SANDBOX, now, runtime=LOCAL)


def _claimed(statement: str, now: datetime, **more: object) -> Execution | None:
    values = {
        "now": now,
        "lease": now + leases.LEASE,
        "me": leases.ME,
        "node": engine.node(),
        **more,
    }
    claimed = list(Execution.objects.raw(statement, values))
    if not claimed:
        return None
    live.execution_changed(claimed[0])
    return claimed[0]


def waiting(*, now: datetime, most: int) -> int:
    """How many executions wait for a pool whose time has come, counted up to `most`."""
    rows = Execution.objects.waiting(now).filter(kept_sandbox=None)
    return len(rows.order_by("turn", "pk").values_list("pk", flat=True)[:most])


def waiting_in_sandboxes(*, now: datetime, most: int) -> dict[str, int]:
    """By node, how many of its long-lived sandboxes serve nothing though something waits for them."""
    busy = Execution.objects.filter(kept_sandbox=OuterRef("kept_sandbox"), lease_expires_at__isnull=False)
    rows = Execution.objects.waiting(now).filter(~Exists(busy), kept_sandbox__state=lifecycle.READY)
    found = rows.order_by().values_list("kept_sandbox__node", "kept_sandbox").distinct()[:most]
    return dict(collections.Counter(node for node, _ in found))
