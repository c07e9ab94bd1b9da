"""Many tasks at once, in a fixed number of statements: handed over, begun, completed, taken from who is gone.

The callers hold the federation's lock or the tasks' locks, so what is read here is still so when it is written.
Tasks are locked in the order of their ids by whoever locks several and waits for them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import connection, transaction
from django.db.models import F
from django.db.models.functions import Coalesce

from federation import attempts, journal, live, outcomes, store
from federation.models import Agent, Attempt, DeadLetter, Event, Federation, Task

HAND_OVER = """
update federation_task task
set state = 'assigned', assigned_to_id = given.agent, epoch = task.epoch + 1, reason = '', progress = null,
    progress_note = ''
from unnest(%s::uuid[], %s::uuid[]) as given(task, agent)
where task.id = given.task
"""
# A lapsed attempt's task: queued again, or (where no try is left) dead. `error` null leaves what was said before.
RELEASE = """
with said as (
    select * from unnest(%(tasks)s::uuid[], %(attempts)s::uuid[], %(errors)s::text[], %(reasons)s::text[],
        %(started)s::bool[], %(dead)s::bool[])
        as said (task, attempt, error, reason, started, dead)
), ended as (
    update federation_attempt attempt
    set state = 'lapsed', ended_at = %(now)s, error = said.error, answer = null
    from said where attempt.id = said.attempt
)
update federation_task task
set state = case when said.dead then 'dead' else 'queued' end,
    finished_at = case when said.dead then %(now)s::timestamptz end,
    assigned_to_id = case when said.dead then task.assigned_to_id end,
    progress = case when said.dead then task.progress end,
    progress_note = case when said.dead then task.progress_note else '' end,
    not_before = case when said.dead then task.not_before else %(now)s::timestamptz end,
    reason = case when said.dead then '' else said.reason end,
    error = case when said.started then said.error else task.error end
from said where task.id = said.task
"""
COMPLETE = """
with said as (
    select * from unnest(%(tasks)s::uuid[], %(attempts)s::uuid[], %(results)s::text[]) as said(task, attempt, result)
), ended as (
    update federation_attempt attempt
    set state = 'succeeded', ended_at = %(now)s, error = '', answer = jsonb_build_object('result', said.result::jsonb)
    from said where attempt.id = said.attempt
)
update federation_task task
set state = 'succeeded', finished_at = %(now)s, reason = '', error = '', progress = 1, result = said.result::jsonb
from said where task.id = said.task
"""


class NoSuchTask(Exception):
    """Raised when an agent answers for a task that is not of its federation."""

    code = "not_found"

    def __init__(self) -> None:
        super().__init__("There is no such task in this federation.")


@dataclass(frozen=True, slots=True)
class Answer:
    """What an agent says it has done."""

    task: UUID
    epoch: int
    result: Any = None


def hand_over(federation: Federation, pairs: Sequence[tuple[Task, UUID]], *, now: datetime) -> list[Attempt]:
    """Give each queued task, locked by the caller, to an agent: the next epoch, with a lease."""
    if not pairs:
        return []
    with connection.cursor() as cursor:
        cursor.execute(HAND_OVER, [[task.pk for task, _ in pairs], [agent for _, agent in pairs]])
    for task, agent in pairs:
        task.state, task.assigned_to_id, task.epoch, task.reason = Task.State.ASSIGNED, agent, task.epoch + 1, ""
    agents = {agent for _, agent in pairs}
    transaction.on_commit(lambda: store.wake_all(agents))
    lease = attempts.lease_end(federation, now)
    return Attempt.objects.bulk_create(
        [
            Attempt(task=task, agent_id=agent, epoch=task.epoch, assigned_at=now, lease_expires_at=lease)
            for task, agent in pairs
        ]
    )


def begin(federation: Federation, waiting: Sequence[Attempt], *, now: datetime) -> list[Attempt]:
    """Start assigned attempts; returns those that had not begun or ended before, in the order given."""
    if not waiting:
        return []
    ids = sorted(attempt.task_id for attempt in waiting)
    found = Task.objects.select_for_update(no_key=True).filter(pk__in=ids).order_by("pk")
    tasks = {task.pk: task for task in found.light()}
    rows = Attempt.objects.filter(pk__in=[attempt.pk for attempt in waiting], state=Attempt.State.ASSIGNED)
    won = set(rows.values_list("pk", flat=True))
    begun = [attempt for attempt in waiting if attempt.pk in won]
    lease = attempts.lease_end(federation, now)
    Attempt.objects.filter(pk__in=won).update(state=Attempt.State.RUNNING, started_at=now, lease_expires_at=lease)
    Task.objects.filter(pk__in=[attempt.task_id for attempt in begun]).update(
        state=Task.State.RUNNING, tries=F("tries") + 1, started_at=Coalesce("started_at", now)
    )
    for attempt in begun:
        attempt.state, attempt.started_at, attempt.lease_expires_at = Attempt.State.RUNNING, now, lease
        attempt.task = tasks[attempt.task_id]
        attempt.task.state, attempt.task.tries = Task.State.RUNNING, attempt.task.tries + 1
    live.tasks_changed(federation, [attempt.task for attempt in begun])
    return begun


def release(federation: Federation, held: Sequence[tuple[Attempt, str]], *, now: datetime) -> list[Attempt]:
    """Take tasks from agents that are gone, each with why; as `attempts.release` does, but with the federation locked.

    Returns the attempts that ended only now.
    """
    ids = sorted(attempt.task_id for attempt, _ in held)
    if not ids:
        return []
    rows = Task.objects.select_for_update(no_key=True).filter(pk__in=ids).order_by("pk")
    tasks = {task.pk: task for task in rows.light()}
    # Read again: until their tasks were locked they could start or end.
    alive = Attempt.objects.live().select_related("agent").in_bulk([attempt.pk for attempt, _ in held])
    ended = [(alive[attempt.pk], tasks[attempt.task_id], why) for attempt, why in held if attempt.pk in alive]
    if not ended:
        return []
    for attempt, task, why in ended:
        _note_release(attempt, task, why, now)
    _write_release(ended, now)
    dead = [task for _, task, _ in ended if task.state == Task.State.DEAD]
    _bury(federation, dead, now)
    said = [(f"{task}: {why}", attempt.agent, task) for attempt, task, why in ended]
    journal.record_many(federation, Event.Kind.REASSIGNED, said, now=now)
    live.tasks_changed(federation, [task for _, task, _ in ended])
    outcomes.tell(federation, dead, now=now)
    return [attempt for attempt, _, _ in ended]


def _note_release(attempt: Attempt, task: Task, why: str, now: datetime) -> None:
    """On the objects what `RELEASE` does to the rows."""
    has_begun = attempt.started_at is not None
    attempt.state, attempt.ended_at, attempt.error, attempt.answer = Attempt.State.LAPSED, now, why, None
    if has_begun:
        task.error = why
    if has_begun and task.tries >= task.max_attempts:
        task.state, task.finished_at, task.reason = Task.State.DEAD, now, ""
        return
    task.state = Task.State.QUEUED
    task.reason = (f"Attempt {task.tries} of {task.max_attempts}: {why}" if has_begun else why)[:500]


def _write_release(ended: Sequence[tuple[Attempt, Task, str]], now: datetime) -> None:
    given = {
        "tasks": [task.pk for _, task, _ in ended],
        "attempts": [attempt.pk for attempt, _, _ in ended],
        "errors": [why for _, _, why in ended],
        "reasons": [task.reason for _, task, _ in ended],
        "started": [attempt.started_at is not None for attempt, _, _ in ended],
        "dead": [task.state == Task.State.DEAD for _, task, _ in ended],
        "now": now,
    }
    with connection.cursor() as cursor:
        cursor.execute(RELEASE, given)


def _bury(federation: Federation, dead: Sequence[Task], now: datetime) -> None:
    if not dead:
        return
    DeadLetter.objects.bulk_create(
        [
            DeadLetter(
                federation=federation, task=task, reason=DeadLetter.Reason.ATTEMPTS, agent_id=task.assigned_to_id,
                created_at=now,
            )
            for task in dead
        ]
    )  # fmt: skip
    said = [(f"{task}: gave up after {task.tries} attempts.", None, task) for task in dead]
    journal.record_many(federation, Event.Kind.DEAD, said, now=now)


def complete(*, agent: Agent, answers: Sequence[Answer], now: datetime) -> list[Attempt | Exception]:
    """Record many results of one agent, in the order given: the attempt that ended, or why it has no effect.

    A repeated or late answer is judged as `attempts.complete` does.
    """
    done = _complete_current(agent, answers, now)
    return [done[place] if place in done else _complete_one(agent, answer, now) for place, answer in enumerate(answers)]


@transaction.atomic
def _complete_current(agent: Agent, answers: Sequence[Answer], now: datetime) -> dict[int, Attempt]:
    """Those that say the present epoch of a live attempt, by their place; of two for one task the first."""
    asked = {answer.task for answer in answers}
    rows = Task.objects.select_for_update(no_key=True).filter(pk__in=asked, federation=agent.federation_id)
    tasks = {task.pk: task for task in rows.order_by("pk").light()}
    alive = {(each.task_id, each.epoch): each for each in Attempt.objects.live().filter(agent=agent, task__in=tasks)}
    done: dict[int, Attempt] = {}
    for place, answer in enumerate(answers):
        if (attempt := alive.pop((answer.task, answer.epoch), None)) is not None:
            attempt.task = tasks[answer.task]
            done[place] = attempt
    if done:
        _write([(done[place], answers[place].result) for place in done], agent.federation, now)
    return done


def _write(said: Sequence[tuple[Attempt, Any]], federation: Federation, now: datetime) -> None:
    given = {
        "tasks": [attempt.task_id for attempt, _ in said],
        "attempts": [attempt.pk for attempt, _ in said],
        "results": [json.dumps(result) for _, result in said],
        "now": now,
    }
    with connection.cursor() as cursor:
        cursor.execute(COMPLETE, given)
    for attempt, result in said:
        attempt.state, attempt.ended_at, attempt.answer = Attempt.State.SUCCEEDED, now, {"result": result}
        attempt.task.state, attempt.task.finished_at, attempt.task.result = Task.State.SUCCEEDED, now, result
    live.agents_changed(federation, [attempt.agent_id for attempt, _ in said])
    ended = [attempt.task for attempt, _ in said]
    live.tasks_changed(federation, ended)
    outcomes.tell(federation, ended, now=now)


def _complete_one(agent: Agent, answer: Answer, now: datetime) -> Attempt | Exception:
    if not Task.objects.filter(pk=answer.task, federation=agent.federation_id).exists():
        return NoSuchTask()
    try:
        attempts.complete(task_id=answer.task, epoch=answer.epoch, agent_id=agent.pk, result=answer.result, now=now)
    except (attempts.StaleEpoch, attempts.TaskSettled) as refused:
        return refused
    return Attempt.objects.get(task=answer.task, epoch=answer.epoch)
