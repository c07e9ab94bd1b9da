"""The front desk for agents on other machines: heartbeats, claims, results."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from federation import agents, attempts, bulk, dispatch, live, store, tasks
from federation.beats import Beat
from federation.models import Agent, Attempt, Task


def hello(*, agent: Agent, connection: str, now: datetime) -> list[Attempt]:
    """A sign of life, and what is under way with it: a claim whose answer was lost is among that.

    It renews no lease: whoever begins anew may have lost what it held.
    """
    agents.heartbeat(agent=agent, status="idle", load=None, running=(), now=now)
    if agent.runtime == Agent.Runtime.REMOTE and agent.connection != connection:
        Agent.objects.filter(pk=agent.pk).update(connection=connection)
        live.agents_changed(agent.federation, [agent.pk])
    tasks.assign.delay_on_commit(federation_id=str(agent.federation_id))
    held = Attempt.objects.filter(agent=agent, state=Attempt.State.RUNNING, execution=None)
    return list(held.order_by("started_at", "pk"))


def heartbeat(
    *, agent: Agent, status: str, load: float | None, running: Iterable[dict[str, Any]], now: datetime
) -> agents.Reply:
    reply = agents.heartbeat(agent=agent, status=status, load=load, running=running, now=now)
    if reply.came_back:
        tasks.assign.delay_on_commit(federation_id=str(agent.federation_id))
    return reply


def heartbeat_many(*, beats: Sequence[Beat], now: datetime) -> list[agents.Reply | agents.Gone]:
    """Many at once, answered in order; whoever takes work again may get some."""
    answers = agents.heartbeat_many(beats=beats, now=now)
    back = {beat.agent_id for beat, answer in zip(beats, answers, strict=True) if getattr(answer, "came_back", False)}
    for federation_id in Agent.objects.filter(pk__in=back).values_list("federation", flat=True).distinct():
        tasks.assign.delay_on_commit(federation_id=str(federation_id))
    return answers


def claim(*, agent: Agent, wait_seconds: float, clock: Callable[[], datetime]) -> Attempt | None:
    """The agent's next task, waiting for one so long; None when none came."""
    end = time.monotonic() + wait_seconds
    while True:
        attempt = dispatch.claim(agent=agent, now=clock())
        left = end - time.monotonic()
        if attempt is not None or left <= 0:
            return attempt
        store.sleep_until_woken(agent.pk, seconds=min(left, 20.0))


def claim_many(*, agent: Agent, most: int, now: datetime) -> list[Attempt]:
    """Up to so many tasks at once, as far as the agent has room."""
    return dispatch.claim_many(agent=agent, most=most, now=now)


def extend(
    *,
    task: Task,
    agent: Agent | None,
    epoch: int,
    now: datetime,
    progress: float | None = None,
    note: str | None = None,
) -> datetime:
    return attempts.extend(task_id=task.pk, agent_id=_whose(agent), epoch=epoch, progress=progress, note=note, now=now)


def complete(*, task: Task, agent: Agent | None, epoch: int, result: Any, now: datetime) -> Task:
    done = attempts.complete(task_id=task.pk, epoch=epoch, agent_id=_whose(agent), result=result, now=now)
    _go_on(done, epoch)
    return done


def complete_many(*, agent: Agent, answers: Sequence[bulk.Answer], now: datetime) -> list[Attempt | Exception]:
    """Many results of one agent; each recorded or refused by itself, in the order given."""
    said = bulk.complete(agent=agent, answers=answers, now=now)
    ended = [str(each.pk) for each in said if isinstance(each, Attempt)]
    if ended:
        tasks.assign.delay_on_commit(federation_id=str(agent.federation_id))
        tasks.charge_many.delay_on_commit(attempt_ids=ended)
    return said


def fail(*, task: Task, agent: Agent | None, epoch: int, error: str, retryable: bool, now: datetime) -> Task:
    failed = attempts.fail(
        task_id=task.pk, epoch=epoch, agent_id=_whose(agent), error=error, retryable=retryable, now=now
    )
    _go_on(failed, epoch)
    return failed


def _whose(agent: Agent | None) -> UUID | None:
    return agent.pk if agent else None


def _go_on(task: Task, epoch: int) -> None:
    """The agent has room again, and its time is charged."""
    tasks.assign.delay_on_commit(federation_id=str(task.federation_id))
    attempt_id = task.attempts.filter(epoch=epoch).values_list("pk", flat=True).first()
    tasks.charge.delay_on_commit(attempt_id=str(attempt_id))
