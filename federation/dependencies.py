"""Tasks that need others: linked when submitted, let go when those have succeeded, cancelled when one ended badly.

`settle` does both from the rows alone, inside the federation's lock, so it can be repeated and nothing needs to be
told twice. What a task needs never changes after its submission.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import connection
from django.db.models import Exists, F, OuterRef, QuerySet
from uuid_utils.compat import uuid7

from federation import live, outcomes
from federation.models import Dependency, Federation, Task

# Everything that waits behind a task that ended badly, each with the first such task it stands behind.
DOOMED = """
with recursive doomed(task_id, culprit) as (
    select waiting.id, ended.id
    from federation_task waiting
    join federation_dependency d on d.task_id = waiting.id
    join federation_task ended on ended.id = d.needs_id
    where waiting.federation_id = %s and waiting.is_waiting
      and ended.state in ('failed', 'expired', 'cancelled', 'dead')
  union
    select waiting.id, doomed.culprit
    from doomed
    join federation_dependency d on d.needs_id = doomed.task_id
    join federation_task waiting on waiting.id = d.task_id and waiting.is_waiting
)
select distinct on (task_id) task_id, culprit from doomed order by task_id, culprit
"""


# Whatever stands before or behind a task, up to so many steps away.
AROUND = """
with recursive needed(id, steps) as (
    select %(task)s::uuid, 0
  union
    select d.needs_id, steps + 1 from needed join federation_dependency d on d.task_id = needed.id where steps < 6
), needing(id, steps) as (
    select %(task)s::uuid, 0
  union
    select d.task_id, steps + 1 from needing join federation_dependency d on d.needs_id = needing.id where steps < 6
)
select id from (select * from needed union select * from needing) as everyone
group by id order by min(steps), id limit %(most)s
"""


class NeedsAnother(Exception):
    """Raised when a task is to begin afresh that needs one which ended badly."""

    code = "conflict"

    def __init__(self, needed: Task) -> None:
        super().__init__(f"It needs the task {needed} ({needed.pk}), which is {needed.state}. Retry that one first.")
        self.extras = {"state": needed.state, "task": str(needed.pk)}


def new_id(needs: Sequence[UUID]) -> UUID:
    """An id above all of these, also when another machine's clock made them."""
    made, above = uuid7(), max(needs, default=None)
    return made if above is None or made > above else UUID(int=above.int + 1)


def link(federation: Federation, needs: Mapping[UUID, Sequence[UUID]]) -> None:
    """Write down what each task needs; inside the transaction that makes them."""
    rows = [
        Dependency(federation=federation, task_id=task, needs_id=needed, position=position)
        for task, all_needed in needs.items()
        for position, needed in enumerate(all_needed)
    ]
    Dependency.objects.bulk_create(rows, batch_size=1000)


def settle(*, federation: Federation, now: datetime) -> int:
    """Let go what has all it needs, cancel what never will; returns how many changed. Needs the federation's lock."""
    waiting = Task.objects.waiting().filter(federation=federation)
    if not waiting.exists():
        return 0
    cancelled = _cancel_doomed(federation, now)
    unmet = Dependency.objects.filter(task=OuterRef("pk")).exclude(needs__state=Task.State.SUCCEEDED)
    freed = waiting.filter(~Exists(unmet)).update(is_waiting=False, reason="")
    if cancelled or freed:
        live.tasks_changed(federation, cancelled[:200])
    return len(cancelled) + freed


def _cancel_doomed(federation: Federation, now: datetime) -> list[Task]:
    with connection.cursor() as cursor:
        cursor.execute(DOOMED, [federation.pk])
        culprit_of = dict(cursor.fetchall())
    behind: dict[UUID, list[UUID]] = {}
    for task_id, culprit in culprit_of.items():
        behind.setdefault(culprit, []).append(task_id)
    for culprit in Task.objects.light().filter(pk__in=behind):
        Task.objects.waiting().filter(pk__in=behind[culprit.pk]).update(
            state=Task.State.CANCELLED,
            is_waiting=False,
            stopped_by=culprit,
            reason="",
            error=f"It was not started: it needs the task {culprit} ({culprit.pk}), which is {culprit.state}.",
            finished_at=now,
        )
    cancelled = list(Task.objects.light().filter(pk__in=culprit_of, state=Task.State.CANCELLED))
    outcomes.tell(federation, cancelled, now=now)
    return cancelled


def federations_to_settle() -> Iterable[UUID]:
    """Where something waits for nothing that is still to come."""
    to_come = Dependency.objects.filter(task=OuterRef("pk"), needs__state__in=Task.LIVE)
    ended_badly = Dependency.objects.filter(task=OuterRef("pk"), needs__state__in=Task.RETRYABLE)
    settled = Task.objects.waiting().filter(~Exists(to_come) | Exists(ended_badly))
    return settled.order_by().values_list("federation", flat=True).distinct()


def check_can_begin(task: Task) -> bool:
    """Whether it has to wait for what it needs. Raises NeedsAnother."""
    needed = list(needs_of(task))
    for each in needed:
        if each.state in Task.RETRYABLE:
            raise NeedsAnother(each)
    return any(each.state != Task.State.SUCCEEDED for each in needed)


def revive(task: Task, *, now: datetime) -> int:
    """Queue what only this task's bad end had cancelled; `settle` judges it again by all that it needs."""
    stopped = Task.objects.filter(stopped_by=task, state=Task.State.CANCELLED)
    return stopped.update(
        state=Task.State.QUEUED,
        is_waiting=True,
        stopped_by=None,
        error="",
        reason=why_waiting([task.pk]),
        finished_at=None,
        not_before=now,
        tries=0,
    )


def why_waiting(needed: Sequence[UUID]) -> str:
    """The sentence such a queued task shows."""
    if len(needed) == 1:
        return f"It waits for the task {needed[0]} to succeed."
    return f"It waits for {len(needed)} tasks to succeed."


def results(task: Task) -> dict[str, Any]:
    """The result of each task it needs, by id, in the order asked for; empty when it needs none."""
    rows = Dependency.objects.filter(task=task).order_by("position").values_list("needs", "needs__result")
    return {str(needed): result for needed, result in rows}


def payload_of(task: Task) -> Any:
    """The payload as whoever does the task gets it: with the results of what the task needs."""
    if not task.dependencies.all():
        return task.payload
    return {**task.payload, "dependencies": results(task)}


def around(task: Task, *, most: int) -> tuple[list[Task], list[tuple[UUID, UUID]]]:
    """The task with those it needs and those that need it, the nearest first up to so many, in the order of their ids;
    and which needs which, as (needed, needing)."""
    with connection.cursor() as cursor:
        cursor.execute(AROUND, {"task": task.pk, "most": most})
        ids = [pk for (pk,) in cursor.fetchall()]
    links = Dependency.objects.filter(task__in=ids, needs__in=ids).order_by("task", "position")
    found = Task.objects.light().filter(pk__in=ids).order_by("pk")
    return list(found), list(links.values_list("needs", "task"))


def needs_of(task: Task) -> QuerySet[Task]:
    """The tasks it needs, in the order asked for."""
    rows = Task.objects.light().filter(dependants__task=task)
    return rows.annotate(place=F("dependants__position")).order_by("place")
