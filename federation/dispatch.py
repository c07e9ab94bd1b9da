"""Which task goes to which agent: assigned in rounds, claimed by remote agents, stolen by idle ones.

`assign` and `claim` lock the federation, so of two that assign at once the second sees what the first did.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from random import Random
from typing import Any
from uuid import UUID

from django.db import connection, transaction
from django.db.models import (
    Count,
    Exists,
    ExpressionWrapper,
    F,
    IntegerField,
    OuterRef,
    Q,
    QuerySet,
    Value,
)
from django.db.models.functions import Extract, Floor, Greatest

from federation import assignment, attempts, live, store, workloads
from federation.assignment import Candidate
from federation.models import Agent, Attempt, Federation, Task

ROUND = 200
# Asked every second, also of a product where nothing happens: three looks at the ends of indexes.
HAS_WORK = """
select exists (select from federation_task where state in ('queued', 'assigned', 'running'))
    or exists (select from federation_attempt where state in ('assigned', 'running'))
    or exists (select from sandboxes_execution where state in ('queued', 'starting', 'running') and agent <> '')
"""


@transaction.atomic
def assign(*, federation_id: UUID, now: datetime, rng: Random) -> list[Attempt]:
    """Give up to ROUND due tasks to agents with room, the most urgent first; the rest learn why they wait."""
    federation = lock(federation_id)
    if federation is None:
        return []
    demands = list(
        Task.objects.due(now)
        .filter(federation=federation)
        .values("type", "required_capabilities")
        .annotate(n=Count("pk"))
    )
    if not demands:
        return []
    crew = crew_of(federation)
    made = [
        attempt
        for task in _most_urgent(federation, demands, crew, now)
        if (attempt := _give(task, crew, federation, now, rng)) is not None
    ]
    explained = _explain(federation, demands, crew, now)
    if made:
        Federation.objects.filter(pk=federation.pk).update(rotation=federation.rotation)
        live.agents_changed(federation, [attempt.agent_id for attempt in made])
    if made or explained:
        live.tasks_changed(federation, [attempt.task for attempt in made])
    return made


def has_work() -> bool:
    """Whether anything is waiting, under way, or running on without its attempt."""
    with connection.cursor() as cursor:
        cursor.execute(HAS_WORK)
        return bool(cursor.fetchone()[0])


def lock(federation_id: UUID) -> Federation | None:
    """The federation's row for this transaction; rows that point to it can still be added."""
    return Federation.objects.present().select_for_update(no_key=True).filter(pk=federation_id).first()


def crew_of(federation: Federation) -> list[Candidate]:
    found = Agent.objects.taking_work().filter(federation=federation).with_running().defer("metadata")
    return [_candidate(agent) for agent in found]


def _candidate(agent: Agent) -> Candidate:
    return Candidate(
        id=agent.pk,
        position=agent.position,
        capabilities=frozenset(agent.capabilities),
        running=agent.running,
        capacity=agent.max_concurrent_tasks,
        types=workloads.MANAGED_TYPES if agent.runtime == Agent.Runtime.MANAGED else None,
    )


def _most_urgent(
    federation: Federation, demands: list[dict[str, Any]], crew: list[Candidate], now: datetime
) -> QuerySet[Task]:
    """Due tasks that some agent with room can do; a task nobody can do holds up none behind it."""
    servable = Q(pk__in=[])
    for demand in demands:
        able = assignment.able(crew, type=demand["type"], required=frozenset(demand["required_capabilities"]))
        if any(each.has_room for each in able):
            servable |= Q(type=demand["type"], required_capabilities=demand["required_capabilities"])
    room = sum(max(each.capacity - each.running, 0) for each in crew)
    due = Task.objects.light().due(now).filter(servable, federation=federation)
    return by_urgency(due, federation=federation, now=now)[: min(room, ROUND)]


def by_urgency(tasks: QuerySet[Task], *, federation: Federation, now: datetime) -> QuerySet[Task]:
    """In the database what `assignment.effective_priority` says."""
    waited = Greatest(Extract(Value(now) - F("created_at"), "epoch"), Value(0.0))
    periods = Floor(waited / Value(float(federation.ageing_seconds)))
    urgency = ExpressionWrapper(F("priority") + periods, output_field=IntegerField())
    return tasks.annotate(urgency=urgency).order_by("-urgency", "created_at", "pk")


def _give(task: Task, crew: list[Candidate], federation: Federation, now: datetime, rng: Random) -> Attempt | None:
    avoided = _lapsed_on(task)
    for preferred in ([each for each in crew if each.id not in avoided], crew):
        chosen = assignment.pick(
            task.strategy or federation.strategy,
            preferred,
            type=task.type,
            required=frozenset(task.required_capabilities),
            last=federation.rotation,
            rng=rng,
        )
        if chosen is not None:
            return _hand_over(task, chosen, federation, now)
    return None


def _lapsed_on(task: Task) -> set[UUID]:
    """Agents that let this task lapse: asked again only when nobody else has room."""
    if not task.epoch:
        return set()
    return set(task.attempts.filter(state=Attempt.State.LAPSED).values_list("agent", flat=True))


def _hand_over(task: Task, chosen: Candidate, federation: Federation, now: datetime) -> Attempt | None:
    epoch = task.epoch + 1
    won = (
        Task.objects.queued()
        .filter(pk=task.pk, epoch=task.epoch)
        .update(state=Task.State.ASSIGNED, assigned_to=chosen.id, epoch=epoch, reason="", progress=None)
    )
    if not won:
        return None
    task.state, task.assigned_to_id, task.epoch, task.reason = Task.State.ASSIGNED, chosen.id, epoch, ""
    chosen.running += 1
    federation.rotation = chosen.position
    transaction.on_commit(lambda: store.wake(chosen.id))
    return Attempt.objects.create(
        task=task,
        agent_id=chosen.id,
        epoch=epoch,
        assigned_at=now,
        lease_expires_at=attempts.lease_end(federation, now),
    )


def _explain(federation: Federation, demands: list[dict[str, Any]], crew: list[Candidate], now: datetime) -> int:
    """Those still queued say why; returns how many say something new."""
    changed = 0
    for demand in demands:
        wanted, required = demand["type"], demand["required_capabilities"]
        sentence = assignment.why_waiting(crew, type=wanted, required=frozenset(required))
        still = Task.objects.due(now).filter(federation=federation, type=wanted, required_capabilities=required)
        changed += still.exclude(reason=sentence).update(reason=sentence[:500])
    return changed


@transaction.atomic
def claim(*, agent: Agent, now: datetime, rng: Random) -> Attempt | None:
    """The agent's next task, started; None when there is nothing for it."""
    federation = lock(agent.federation_id)
    if federation is None:
        return None
    own = _assigned(federation).filter(agent=agent).order_by("-task__priority", "assigned_at", "pk").first()
    attempt = own or _take(agent, federation, now, rng)
    return None if attempt is None else attempts.start(attempt=attempt, now=now)


def _assigned(federation: Federation) -> QuerySet[Attempt]:
    waiting = Attempt.objects.filter(state=Attempt.State.ASSIGNED, task__federation=federation)
    return waiting.select_related("task__federation", "agent")


def _take(agent: Agent, federation: Federation, now: datetime, rng: Random) -> Attempt | None:
    """A queued task, or one that waits unstarted on a remote peer that is busy with another."""
    me = [each for each in crew_of(federation) if each.id == agent.pk and each.has_room]
    if not me:
        return None
    queued = by_urgency(Task.objects.due(now).filter(federation=federation), federation=federation, now=now)
    for task in queued.filter(required_capabilities__contained_by=agent.capabilities)[:20]:
        if attempt := _give(task, me, federation, now, rng):
            return attempt
    return _steal(agent, me[0], federation, now) if me[0].running == 0 else None


def _steal(agent: Agent, me: Candidate, federation: Federation, now: datetime) -> Attempt | None:
    busy = Attempt.objects.filter(state=Attempt.State.RUNNING, agent=OuterRef("agent"))
    waiting = (
        _assigned(federation)
        .exclude(agent=agent)
        .filter(agent__runtime=Agent.Runtime.REMOTE, task__required_capabilities__contained_by=agent.capabilities)
        .filter(Exists(busy))
    )
    found = waiting.order_by("assigned_at", "pk").first()
    if found is None:
        return None
    task = attempts.take_back(attempt=found, why=f"Taken over by {agent.name}, which was idle.", now=now)
    return None if task is None else _hand_over(task, me, federation, now)


def federations_with_due_tasks(*, now: datetime) -> Iterable[UUID]:
    return Task.objects.due(now).order_by().values_list("federation", flat=True).distinct()
