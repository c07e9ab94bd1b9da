"""One task and its attempts: started, renewed, completed, failed, released, cancelled, expired, retried.

Everything here locks the task's row first. Every write of an agent names the epoch it was given: of two agents
that believe in one task only the newer has effect, and what the other says is kept on its attempt.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models import Min

from federation import assignment, dependencies, journal, live, outcomes, turns
from federation.models import Agent, Attempt, DeadLetter, Event, Federation, Task

ROUND = 200
REFUSED_SECONDS = 15


class StaleEpoch(Exception):
    """Raised when an agent writes with an epoch that is no longer the task's."""

    code = "stale_epoch"

    def __init__(self, epoch: int) -> None:
        super().__init__(f"The task is at epoch {epoch}, not at the one given; this has no effect.")
        self.extras = {"epoch": epoch}


class TaskSettled(Exception):
    """Raised when a task is in a state that allows no such move."""

    code = "conflict"

    def __init__(self, state: str) -> None:
        super().__init__(f"The task is {state}.")
        self.extras = {"state": state}


def lease_end(federation: Federation, now: datetime) -> datetime:
    return now + timedelta(seconds=federation.lease_seconds)


def lock_task(task_id: UUID) -> Task:
    return Task.objects.select_for_update(no_key=True, of=("self",)).select_related("federation").get(pk=task_id)


@transaction.atomic
def start(*, attempt: Attempt, now: datetime) -> Attempt | None:
    """The agent has begun; None when the attempt had begun or ended before."""
    task = lock_task(attempt.task_id)
    won = Attempt.objects.filter(pk=attempt.pk, state=Attempt.State.ASSIGNED).update(
        state=Attempt.State.RUNNING, started_at=now, lease_expires_at=lease_end(task.federation, now)
    )
    if not won:
        return None
    task.state, task.tries = Task.State.RUNNING, task.tries + 1
    task.started_at = task.started_at or now
    task.save(update_fields=["state", "tries", "started_at"])
    live.tasks_changed(task.federation, [task])
    attempt.refresh_from_db()
    attempt.task = task
    return attempt


@transaction.atomic
def extend(
    *,
    task_id: UUID,
    agent_id: UUID | None,
    epoch: int,
    now: datetime,
    progress: float | None = None,
    note: str | None = None,
) -> datetime:
    """Renew the lease, and say how far it is; returns the lease's new end."""
    task = lock_task(task_id)
    until = lease_end(task.federation, now)
    current = Attempt.objects.live().filter(task=task, epoch=epoch)
    renewed = (current.filter(agent=agent_id) if agent_id else current).update(lease_expires_at=until)
    if not renewed:
        raise StaleEpoch(task.epoch) if task.is_live else TaskSettled(task.state)
    if advance(task, progress, note):
        live.tasks_changed(task.federation, [task])
    return until


def advance(task: Task, progress: float | None, note: str | None) -> bool:
    """How far it is, in a share and in words; whether that is new. Only while it is on its present agent."""
    said = {"progress": progress, "progress_note": note}
    changed = {name: value for name, value in said.items() if value is not None and value != getattr(task, name)}
    held = Task.objects.filter(pk=task.pk, epoch=task.epoch, state__in=Task.HELD)
    return bool(changed) and bool(held.update(**changed))


def complete(*, task_id: UUID, epoch: int, result: Any, now: datetime, agent_id: UUID | None = None) -> Task:
    """Record the result, once. The same words again are answered the same way; late ones are kept without effect."""
    with transaction.atomic():
        task, attempt, is_current = _answered(task_id, epoch, agent_id, {"result": result}, now)
        if is_current:
            _end(attempt, state=Attempt.State.SUCCEEDED, now=now, answer={"result": result})
            _finish(task, state=Task.State.SUCCEEDED, now=now, result=result, progress=1.0, error="")
            live.agents_changed(task.federation, [attempt.agent_id])
    return _or_refuse(task, attempt, is_current, {"result": result})


def fail(
    *, task_id: UUID, epoch: int, error: str, retryable: bool, now: datetime, agent_id: UUID | None = None
) -> Task:
    """Record a failure: tried again after a pause when that may help and attempts are left."""
    answer = {"error": error, "retryable": retryable}
    with transaction.atomic():
        task, attempt, is_current = _answered(task_id, epoch, agent_id, answer, now)
        if is_current:
            _end(attempt, state=Attempt.State.FAILED, now=now, error=error, answer=answer)
            if retryable:
                _again_or_dead(task, now=now, error=error)
            else:
                _finish(task, state=Task.State.FAILED, now=now, error=error)
            live.agents_changed(task.federation, [attempt.agent_id])
    return _or_refuse(task, attempt, is_current, answer)


def _answered(
    task_id: UUID, epoch: int, agent_id: UUID | None, answer: dict[str, Any], now: datetime
) -> tuple[Task, Attempt, bool]:
    """The task, locked, with the attempt of that epoch; keeps what comes too late."""
    task = lock_task(task_id)
    attempts = task.attempts.filter(epoch=epoch)
    attempt = attempts.filter(agent=agent_id).first() if agent_id else attempts.first()
    if attempt is None:
        raise StaleEpoch(task.epoch)
    is_current = attempt.state in Attempt.LIVE
    if not is_current and attempt.answer is None:
        attempt.answer, attempt.is_late = answer, True
        attempt.save(update_fields=["answer", "is_late"])
    return task, attempt, is_current


def _or_refuse(task: Task, attempt: Attempt, is_current: bool, answer: dict[str, Any]) -> Task:
    said_in_time = not attempt.is_late and attempt.answer == answer
    if is_current or said_in_time:
        return task
    raise StaleEpoch(task.epoch) if task.epoch > attempt.epoch else TaskSettled(task.state)


def refuse(*, attempt: Attempt, reason: str, now: datetime) -> None:
    """It could not start now (credits, sandboxes): wait a little, with the reason; not the task's fault."""
    with transaction.atomic():
        task = lock_task(attempt.task_id)
        if _end(attempt, state=Attempt.State.REFUSED, now=now, error=reason):
            _queue_again(task, now=now, delay_seconds=REFUSED_SECONDS, reason=reason)
            live.agents_changed(task.federation, [attempt.agent_id])


def release(*, attempt: Attempt, why: str, now: datetime) -> None:
    """Take the task from an agent that is gone or silent; another gets it with the next epoch."""
    with transaction.atomic():
        task = lock_task(attempt.task_id)
        if not _end(attempt, state=Attempt.State.LAPSED, now=now, error=why):
            return
        started = attempt.started_at is not None
        if started:
            _again_or_dead(task, now=now, error=why, delay_seconds=0)
        else:
            _queue_again(task, now=now, delay_seconds=0, reason=why)
        journal.record(
            task.federation, Event.Kind.REASSIGNED, f"{task}: {why}", now=now, agent=attempt.agent, task=task
        )
        live.agents_changed(task.federation, [attempt.agent_id])


def take_back(*, attempt: Attempt, why: str, now: datetime) -> Task | None:
    """End an attempt that has not started and queue its task, inside the caller's transaction."""
    task = lock_task(attempt.task_id)
    has_begun = not Attempt.objects.filter(pk=attempt.pk, state=Attempt.State.ASSIGNED).exists()
    if has_begun or not _end(attempt, state=Attempt.State.LAPSED, now=now, error=why):
        return None
    _queue_again(task, now=now, delay_seconds=0, reason="")
    return task


def lapse(*, now: datetime) -> list[UUID]:
    """Release what leases ran out on, the federations in turn; returns those that have something to assign."""
    lapsed = Attempt.objects.lapsed(now).unsupervised().select_related("agent", "task")
    found = list(turns.fairly(lapsed, by="task__federation", order="lease_expires_at", most=ROUND))
    for agent_id in {attempt.agent_id for attempt in found}:
        # Before its tasks are released: whoever takes them next must not be a silent one either.
        Agent.objects.filter(pk=agent_id).update(doubted_at=now)
    touched: dict[UUID, list[Attempt]] = {}
    for attempt in found:
        touched.setdefault(attempt.task.federation_id, []).append(attempt)
    for group in touched.values():
        with transaction.atomic():  # one commit for the tasks of a federation, locked in the order of their ids
            for attempt in sorted(group, key=lambda each: each.task_id):
                release(attempt=attempt, why=f"The lease of {attempt.agent} ran out.", now=now)
    return list(touched)


def next_lapse(*, now: datetime, within_seconds: float) -> datetime | None:
    """When the next lease runs out that nobody renews, or None when none does so soon."""
    soon = Attempt.objects.lapsed(now + timedelta(seconds=within_seconds)).unsupervised()
    ends: datetime | None = soon.aggregate(ends=Min("lease_expires_at"))["ends"]
    return ends


def cancel(*, task_id: UUID, now: datetime) -> tuple[Task, Attempt | None]:
    """End a live task at once; also the attempt that was live, so that its work can be stopped."""
    return _stop(task_id, state=Task.State.CANCELLED, error="", now=now)


def expire(*, now: datetime) -> list[Attempt]:
    """End what is past its deadline; returns the attempts whose work must be stopped."""
    overdue = turns.fairly(Task.objects.overdue(now), by="federation", order="deadline", most=ROUND)
    stopped = []
    for task_id in [task.pk for task in overdue.only("pk")]:
        try:
            _, attempt = _stop(task_id, state=Task.State.EXPIRED, error="The deadline passed.", now=now)
        except TaskSettled:
            continue
        if attempt is not None:
            stopped.append(attempt)
    return stopped


@transaction.atomic
def _stop(task_id: UUID, *, state: Task.State, error: str, now: datetime) -> tuple[Task, Attempt | None]:
    task = lock_task(task_id)
    if not task.is_live:
        raise TaskSettled(task.state)
    attempt = task.attempts.live().select_related("agent").first()
    if attempt is not None:
        _end(attempt, state=Attempt.State(state), now=now, error=error)
        live.agents_changed(task.federation, [attempt.agent_id])
    _finish(task, state=state, now=now, error=error)
    return task, attempt


@transaction.atomic
def retry(*, task_id: UUID, now: datetime) -> Task:
    """Queue a failed, expired, cancelled or dead task afresh; its attempts stay listed.

    What was cancelled because of it is queued with it. The caller holds the federation's lock.
    Raises TaskSettled and dependencies.NeedsAnother.
    """
    task = lock_task(task_id)
    if not task.can_be_retried:
        raise TaskSettled(task.state)
    waits = dependencies.check_can_begin(task)
    deadline = task.deadline if task.deadline and task.deadline > now else None
    fresh = {"tries": 0, "error": "", "result": None, "finished_at": None, "started_at": None, "deadline": deadline}
    reason = dependencies.why_waiting([needed.pk for needed in dependencies.needs_of(task)]) if waits else ""
    _queue_again(task, now=now, delay_seconds=0, reason=reason, is_waiting=waits, stopped_by=None, **fresh)
    dependencies.revive(task, now=now)
    DeadLetter.objects.filter(task=task, replayed_at=None).update(replayed_at=now)
    return task


def _end(
    attempt: Attempt, *, state: Attempt.State, now: datetime, error: str = "", answer: dict[str, Any] | None = None
) -> bool:
    """Guarded: False when the attempt had ended before."""
    won = Attempt.objects.live().filter(pk=attempt.pk).update(state=state, ended_at=now, error=error, answer=answer)
    attempt.state, attempt.ended_at, attempt.error, attempt.answer = state, now, error, answer
    return bool(won)


def _finish(task: Task, *, state: Task.State, now: datetime, **changes: Any) -> None:
    ended = {"state": state, "finished_at": now, "reason": "", "is_waiting": False, **changes}
    for name, value in ended.items():
        setattr(task, name, value)
    task.save(update_fields=list(ended))
    live.tasks_changed(task.federation, [task])
    outcomes.tell(task.federation, [task], now=now)


def _again_or_dead(task: Task, *, now: datetime, error: str, delay_seconds: float | None = None) -> None:
    if task.tries < task.max_attempts:
        delay = assignment.backoff_seconds(task.tries) if delay_seconds is None else delay_seconds
        reason = f"Attempt {task.tries} of {task.max_attempts}: {error}"
        _queue_again(task, now=now, delay_seconds=delay, reason=reason, error=error)
        return
    _finish(task, state=Task.State.DEAD, now=now, error=error)
    DeadLetter.objects.create(
        federation=task.federation,
        task=task,
        reason=DeadLetter.Reason.ATTEMPTS,
        agent_id=task.assigned_to_id,
        created_at=now,
    )
    journal.record(
        task.federation, Event.Kind.DEAD, f"{task}: gave up after {task.tries} attempts.", now=now, task=task
    )


def _queue_again(task: Task, *, now: datetime, delay_seconds: float, reason: str, **changes: Any) -> None:
    not_before = now + timedelta(seconds=delay_seconds)
    queued = {"state": Task.State.QUEUED, "assigned_to": None, "progress": None, "not_before": not_before}
    queued["progress_note"] = ""
    for name, value in (changed := {**queued, "reason": reason[:500], **changes}).items():
        setattr(task, name, value)
    task.save(update_fields=list(changed))
    live.tasks_changed(task.federation, [task])
