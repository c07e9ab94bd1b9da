"""The statements under heartbeats: signs of life of many agents, and the leases they renew, in one statement each.

Rows are locked in one order (agents by id, then tasks by id, then their attempts), so that two that write at once do
not wait for each other.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import connection

NOTE = """
with said as (select * from unnest(%s::uuid[], %s::text[], %s::float8[]) as v (id, availability, load)),
held as (
    select a.id, a.availability, a.reported_load from federation_agent a join said using (id)
    where a.left_at is null and a.availability <> 'lost' order by a.id for no key update of a
)
update federation_agent a
set last_heartbeat_at = %s, availability = said.availability, reported_load = said.load
from said join held using (id) where a.id = said.id
returning a.id, a.federation_id, held.availability, held.reported_load
"""
RUNNING = "select * from unnest(%s::uuid[], %s::uuid[], %s::int[], %s::float8[]) as v (agent, task, epoch, progress)"
LOCK = f"""
with said as ({RUNNING})
select t.id from federation_task t
join federation_attempt a on a.task_id = t.id and a.state in ('assigned', 'running')
join said on (said.agent, said.task, said.epoch) = (a.agent_id, a.task_id, a.epoch)
order by t.id for no key update of t
"""
PROGRESS = """
with said as (
    select * from unnest(%s::uuid[], %s::uuid[], %s::int[], %s::float8[], %s::text[])
        as v (agent, task, epoch, progress, note)
)
update federation_task t set progress = coalesce(said.progress, t.progress),
    progress_note = coalesce(said.note, t.progress_note)
from said
where (said.agent, said.task, said.epoch) = (t.assigned_to_id, t.id, t.epoch) and t.state in ('assigned', 'running')
    and (coalesce(said.progress, t.progress), coalesce(said.note, t.progress_note))
        is distinct from (t.progress, t.progress_note)
returning t.id
"""
RENEW = f"""
with said as ({RUNNING})
update federation_attempt a set lease_expires_at = %s + f.lease_seconds * interval '1 second'
from said join federation_task t on t.id = said.task join federation_federation f on f.id = t.federation_id
where (said.agent, said.task, said.epoch) = (a.agent_id, a.task_id, a.epoch) and a.state in ('assigned', 'running')
returning a.agent_id, a.task_id, a.epoch
"""


@dataclass(frozen=True, slots=True)
class Beat:
    """One agent's sign of life. `running`: {"task", "epoch", "progress"?, "note"?} of each task it works on."""

    agent_id: UUID
    status: str = "idle"
    load: float | None = None
    running: Sequence[dict[str, Any]] = ()

    @property
    def availability(self) -> str:
        return "unavailable" if self.status == "unavailable" else "available"


@dataclass(frozen=True, slots=True)
class Heard:
    """What was known of an agent before its beat."""

    federation_id: UUID
    availability: str
    load: float | None


Held = tuple[UUID, UUID, int]


def note(beats: Collection[Beat], *, now: datetime) -> dict[UUID, Heard]:
    """Writes each beat of a member that is not lost; whoever is missing in the answer is gone. One beat an agent."""
    columns = [
        [beat.agent_id for beat in beats],
        [beat.availability for beat in beats],
        [beat.load for beat in beats],
    ]
    with connection.cursor() as cursor:
        cursor.execute(NOTE, [*columns, now])
        return {agent: Heard(*known) for agent, *known in cursor.fetchall()}


def renew(beats: Collection[Beat], *, now: datetime) -> set[Held]:
    """Renews the lease of each (agent, task, epoch) that is still the agent's, and returns those."""
    said = {
        (beat.agent_id, each["task"], each["epoch"]): each.get("progress") for beat in beats for each in beat.running
    }
    if not said:
        return set()
    columns = [*(list(column) for column in zip(*said, strict=True)), list(said.values())]
    with connection.cursor() as cursor:
        cursor.execute(LOCK, columns)
        cursor.execute(RENEW, [*columns, now])
        return set(cursor.fetchall())


def advance(beats: Collection[Beat]) -> list[UUID]:
    """Writes how far each task is that is still the agent's, and returns those where that is new; after `renew`."""
    said = [
        (beat.agent_id, each["task"], each["epoch"], each.get("progress"), each.get("note"))
        for beat in beats
        for each in beat.running
        if each.get("progress") is not None or each.get("note") is not None
    ]
    if not said:
        return []
    with connection.cursor() as cursor:
        cursor.execute(PROGRESS, [list(column) for column in zip(*said, strict=True)])
        return [task for (task,) in cursor.fetchall()]
