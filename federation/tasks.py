"""Background tasks. A message carries an id; the rows say what is to be done, and the sweeps find what was lost."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime
from random import SystemRandom

from celery import shared_task
from django.utils import timezone

from federation import (
    adaptation,
    agents,
    attempts,
    bus,
    dispatch,
    history,
    losses,
    managed,
    memory,
    servers,
    sittings,
    store,
    tool_calls,
    vectors,
    wages,
    wiring,
)
from federation.models import Agent, Attempt
from sandboxes import executions, lifecycle
from sandboxes.models import Execution

LATE_SECONDS = 6.0
# Of leases: as long as a sweep may be away.
LOOK_AHEAD_SECONDS = 2.0
A_MOMENT = 0.02


@shared_task
def assign(*, federation_id: str) -> None:
    made = dispatch.assign(federation_id=federation_id, now=timezone.now(), rng=SystemRandom())
    waiting = managed.next_to_start(federation_id=federation_id)
    for attempt_id in waiting[1:]:
        start.delay(attempt_id=str(attempt_id))
    if len(made) == dispatch.ROUND:
        assign.delay(federation_id=federation_id)
    # The first begins here and now: a message less to wait for.
    for attempt_id in waiting[:1]:
        start(attempt_id=str(attempt_id))


@shared_task
def start(*, attempt_id: str) -> None:
    if not managed.call(attempt_id=attempt_id, clock=timezone.now, then=_go_on):
        managed.start(attempt_id=attempt_id, now=timezone.now())


def _go_on(attempt: Attempt) -> None:
    """The agent has room again, and what it did is charged."""
    assign.delay(federation_id=str(attempt.task.federation_id))
    charge.delay(attempt_id=str(attempt.pk))


@shared_task
def read_tools(*, agent_id: str) -> None:
    """Of an agent that is an MCP server; what waited for one of them may then go on."""
    federation_id = Agent.objects.values_list("federation", flat=True).get(pk=agent_id)
    tool_calls.read(agent_id=agent_id, clock=timezone.now, then=lambda: assign.delay(federation_id=str(federation_id)))


@shared_task
def sweep_tools() -> None:
    for server in servers.stale(now=timezone.now()):
        read_tools.delay(agent_id=str(server.agent_id))


@shared_task
def advance(*, execution_id: str) -> None:
    attempt = managed.advance(execution_id=execution_id, now=timezone.now())
    if attempt is not None:
        _go_on(attempt)
        return
    sitting = sittings.advance(execution_id=execution_id, now=timezone.now())
    if sitting is not None:
        charge_sitting.delay(sitting_id=str(sitting.pk))
        read_mail()
        return
    learned = managed.take_reading(execution_id=execution_id, now=timezone.now())
    if learned is not None:
        assign.delay(federation_id=str(learned))


@shared_task
def read_mail() -> None:
    sittings.begin_all(now=timezone.now())


@shared_task
def charge_sitting(*, sitting_id: str) -> None:
    wages.charge_sittings(now=timezone.now(), sitting_ids=[sitting_id])


@shared_task
def charge(*, attempt_id: str) -> None:
    wages.charge_one(attempt_id=attempt_id, now=timezone.now())


@shared_task
def charge_many(*, attempt_ids: list[str]) -> None:
    wages.charge_all(now=timezone.now(), attempt_ids=attempt_ids)


@shared_task
def after_stop(*, attempt_id: str) -> None:
    """An attempt was ended from outside: stop its program, charge what it used."""
    attempt = Attempt.objects.select_related("execution").filter(pk=attempt_id).first()
    if attempt is not None and attempt.execution is not None:
        with suppress(lifecycle.IllegalMove):
            executions.cancel(execution=attempt.execution, by=None, now=timezone.now())
    charge.delay(attempt_id=attempt_id)


@shared_task
def stop(*, execution_id: str) -> None:
    """Nobody wants its outcome any more."""
    with suppress(lifecycle.IllegalMove):
        executions.cancel(execution=Execution.objects.light().get(pk=execution_id), by=None, now=timezone.now())


@shared_task
def sweep() -> None:
    """Finds due tasks, lost starts, unheard ends, lapsed leases, passed deadlines, unread mail and unwritten history.

    One background task and not five: an idle product pays mostly for the messages that start them.
    """
    now = timezone.now()
    if dispatch.has_work():
        _see_to_tasks(now)
    sittings.begin_all(now=now)
    history.flush_all(now=now)


def _see_to_tasks(now: datetime) -> None:
    for attempt in attempts.expire(now=now):
        after_stop.delay(attempt_id=str(attempt.pk))
    lapse(until=now.timestamp() + LOOK_AHEAD_SECONDS)
    found = managed.watch(now=now)
    for attempt_id in found.to_start:
        start.delay(attempt_id=str(attempt_id))
    for execution_id in found.to_advance:
        advance.delay(execution_id=str(execution_id))
    for attempt_id in found.to_stop:
        after_stop.delay(attempt_id=str(attempt_id))
    _see_to_sittings(now)
    for federation_id in dispatch.federations_with_due_tasks(now=now):
        assign.delay(federation_id=str(federation_id))


def _see_to_sittings(now: datetime) -> None:
    found = sittings.watch(now=now)
    for execution_id in found.to_advance:
        advance.delay(execution_id=str(execution_id))
    for execution_id in found.to_stop:
        stop.delay(execution_id=str(execution_id))


@shared_task
def lapse(*, until: float) -> None:
    """What leases ran out on goes to others, here and now: it has waited for a whole lease already.

    The next sweep may be a second away and longer, so a lease that ends before `until` (Unix time) is awaited.
    """
    for touched in attempts.lapse(now=timezone.now()):
        dispatch.assign(federation_id=touched, now=timezone.now(), rng=SystemRandom())
    now = timezone.now()
    ends = attempts.next_lapse(now=now, within_seconds=until - now.timestamp())
    if ends is not None:
        wait = max((ends - now).total_seconds(), 0) + A_MOMENT
        lapse.apply_async(kwargs={"until": until}, countdown=wait, queue="sweeps")


@shared_task
def sweep_agents() -> None:
    """Beats for managed agents, loses silent ones, elects leaders. Our own lateness or clock counts against none."""
    late = store.seconds_since_last("sweep_agents")
    if abs(late) > LATE_SECONDS:
        agents.forgive(seconds=late)
    now = timezone.now()
    agents.beat_managed(now=now)
    wiring.see_to_leaders(now=now)
    agents.see_off(now=now)
    for federation_id in losses.lose_silent(now=now):
        assign.delay(federation_id=str(federation_id))


@shared_task
def sweep_usage() -> None:
    wages.charge_all(now=timezone.now())
    wages.charge_sittings(now=timezone.now())


@shared_task
def sweep_memory() -> None:
    memory.sweep(now=timezone.now())


@shared_task
def index_memory() -> None:
    """Takes minutes for a large namespace, so it is no sweep that others wait for."""
    vectors.see_to_indexes()


@shared_task
def sweep_inboxes() -> None:
    """What waited too long ends, and what waits at a lost agent goes on, also when nobody looks."""
    now = timezone.now()
    for federation_id in bus.federations_with_messages():
        bus.see_to(federation_id=federation_id, now=now)
        sittings.see_to(federation_id=federation_id, now=now)


@shared_task
def sweep_shapes() -> None:
    """Measure the adaptive federations' last window; change the shape where that pays."""
    adaptation.see_to_shapes(now=timezone.now())
