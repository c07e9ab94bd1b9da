"""Which task goes to which agent: assigned in rounds, claimed by remote agents, stolen by idle ones.

`assign` and `claim` lock the federation, so of two that assign at once the second sees what the first did.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from random import Random
from typing import Any
from uuid import UUID

from django.db import connection, transaction
from django.db.models import (
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

from federation import assignment, attempts, bulk, dependencies, live, means, workloads
from federation.assignment import Candidate
from federation.models import Agent, Attempt, Federation, Handler, Task

ROUND = 200
MISSED_BEATS = 2
# Asked every second, also of a product where nothing happens: five looks at the ends of indexes.
HAS_WORK = """
select exists (select from federation_task where state in ('queued', 'assigned', 'running'))
    or exists (select from federation_attempt where state in ('assigned', 'running'))
    or exists (select from federation_mcpserver where reading_id is not null)
    or exists (select from federation_sitting where ended_at is null)
    or exists (select from sandboxes_execution where state in ('queued', 'starting', 'running') and agent <> '')
"""


@transaction.atomic
def assign(*, federation_id: UUID, now: datetime, rng: Random) -> list[Attempt]:
    """Give up to ROUND due tasks to agents with room, the most urgent first; the rest learn why they wait."""
    federation = lock(federation_id)
    if federation is None:
        return []
    dependencies.settle(federation=federation, now=now)
    due = Task.objects.due(now).filter(federation=federation)
    demands = list(due.order_by().values("type", "required_capabilities").distinct())
    if not demands:
        return []
    crew = crew_of(federation, now)
    means.judge(crew, federation=federation, now=now)
    made = _give(_most_urgent(federation, demands, crew, now), crew, federation, now, rng)
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


def crew_of(federation: Federation, now: datetime) -> list[Candidate]:
    """Who may get work now."""
    fresh_after = now - timedelta(seconds=MISSED_BEATS * federation.heartbeat_seconds)
    found = list(Agent.objects.taking_work().filter(federation=federation).with_running().defer("metadata"))
    late = _late_with_leases(federation, now)
    current = [agent.handler_id for agent in found if agent.handler_id]
    handled = dict(Handler.objects.filter(pk__in=current).values_list("agent", "types")) if current else {}
    return [_candidate(agent, handled.get(agent.pk), _is_fresh(agent, fresh_after, late)) for agent in found]


def _late_with_leases(federation: Federation, now: datetime) -> set[UUID]:
    """Agents of others that were silent while half of a lease went by: whoever lives renews it sooner."""
    lease = timedelta(seconds=federation.lease_seconds)
    held = Attempt.objects.live().filter(agent__federation=federation, agent__runtime=Agent.Runtime.REMOTE)
    late = held.filter(
        lease_expires_at__lt=now + lease / 2, agent__last_heartbeat_at__lte=F("lease_expires_at") - lease
    )
    return set(late.values_list("agent", flat=True))


def _is_fresh(agent: Agent, fresh_after: datetime, late: set[UUID]) -> bool:
    """Heard lately, and since a lease of it ran out."""
    doubted = agent.doubted_at is not None and agent.doubted_at >= agent.last_heartbeat_at
    return agent.last_heartbeat_at > fresh_after and not doubted and agent.pk not in late


def _candidate(agent: Agent, handled: list[str] | None, is_fresh: bool) -> Candidate:
    """`handled` are the types of its handler: none of them is any type, None is no handler."""
    managed = agent.runtime == Agent.Runtime.MANAGED
    types = workloads.MANAGED_TYPES | frozenset(handled or ()) if managed and handled != [] else None
    if agent.runtime == Agent.Runtime.MCP:
        types = frozenset({workloads.MCP_TOOL})
    return Candidate(
        id=agent.pk,
        is_remote=agent.runtime == Agent.Runtime.REMOTE,
        position=agent.position,
        capabilities=frozenset(agent.capabilities),
        running=agent.running,
        capacity=agent.max_concurrent_tasks,
        types=types,
        never=frozenset({workloads.MCP_TOOL}) if managed else frozenset(),
        is_fresh=is_fresh,
    )


def _most_urgent(
    federation: Federation, demands: list[dict[str, Any]], crew: list[Candidate], now: datetime
) -> list[Task]:
    """Due tasks that some agent with room can do, locked; a task nobody can do holds up none behind it."""
    servable = Q(pk__in=[])
    for demand in demands:
        able = assignment.able(crew, type=demand["type"], required=frozenset(demand["required_capabilities"]))
        if any(each.has_room for each in able):
            servable |= Q(type=demand["type"], required_capabilities=demand["required_capabilities"])
    room = sum(max(each.capacity - each.running, 0) for each in crew)
    return _next(Task.objects.filter(servable), federation, now, most=min(room, ROUND))


def _next(tasks: QuerySet[Task], federation: Federation, now: datetime, *, most: int) -> list[Task]:
    """The most urgent of these that are due, locked; one that somebody else has locked is left for the next time."""
    due = tasks.light().due(now).filter(federation=federation)
    ordered = by_urgency(due, federation=federation, now=now)
    return list(ordered.select_for_update(no_key=True, skip_locked=True)[:most]) if most > 0 else []


def by_urgency(tasks: QuerySet[Task], *, federation: Federation, now: datetime) -> QuerySet[Task]:
    """In the database what `assignment.effective_priority` says."""
    waited = Greatest(Extract(Value(now) - F("created_at"), "epoch"), Value(0.0))
    periods = Floor(waited / Value(float(federation.ageing_seconds)))
    urgency = ExpressionWrapper(F("priority") + periods, output_field=IntegerField())
    return tasks.annotate(urgency=urgency).order_by("-urgency", "created_at", "pk")


def _give(
    tasks: list[Task], crew: list[Candidate], federation: Federation, now: datetime, rng: Random
) -> list[Attempt]:
    """Hand over each of these tasks for which somebody has room."""
    avoided = _lapsed_on(tasks)
    pairs = []
    for task in tasks:
        chosen = _chosen(task, crew, avoided.get(task.pk, set()), federation, rng)
        if chosen is not None:
            chosen.running += 1
            federation.rotation = chosen.position
            pairs.append((task, chosen.id))
    return bulk.hand_over(federation, pairs, now=now)


def _chosen(
    task: Task, crew: list[Candidate], avoided: set[UUID], federation: Federation, rng: Random
) -> Candidate | None:
    """Whoever let the task lapse before, or is silent, is asked only when nobody else has room."""
    reliable = [each for each in crew if each.id not in avoided]
    fresh = [each for each in reliable if each.is_fresh]
    for preferred in (fresh, reliable, crew):
        chosen = assignment.pick(
            task.strategy or federation.strategy,
            preferred,
            type=task.type,
            required=frozenset(task.required_capabilities),
            last=federation.rotation,
            rng=rng,
        )
        if chosen is not None or len(fresh) == len(crew):
            return chosen
    return None


def _lapsed_on(tasks: list[Task]) -> dict[UUID, set[UUID]]:
    """By task, the agents that let it lapse."""
    tried = [task.pk for task in tasks if task.epoch]
    found: dict[UUID, set[UUID]] = {}
    if tried:
        lapsed = Attempt.objects.filter(task__in=tried, state=Attempt.State.LAPSED)
        for task_id, agent_id in lapsed.values_list("task", "agent"):
            found.setdefault(task_id, set()).add(agent_id)
    return found


def _explain(federation: Federation, demands: list[dict[str, Any]], crew: list[Candidate], now: datetime) -> int:
    """Those still queued say why; returns how many say something new."""
    changed = 0
    for demand in demands:
        wanted, required = demand["type"], demand["required_capabilities"]
        sentence = assignment.why_waiting(crew, type=wanted, required=frozenset(required))
        still = Task.objects.due(now).filter(federation=federation, type=wanted, required_capabilities=required)
        changed += still.exclude(reason=sentence).update(reason=sentence[:500])
    return changed


def claim(*, agent: Agent, now: datetime) -> Attempt | None:
    """The agent's next task, started; None when there is nothing for it."""
    return next(iter(claim_many(agent=agent, most=1, now=now)), None)


@transaction.atomic
def claim_many(*, agent: Agent, most: int, now: datetime) -> list[Attempt]:
    """Up to so many tasks for the agent, within its capacity, started: first those assigned to it."""
    federation = lock(agent.federation_id)
    if federation is None:
        return []
    dependencies.settle(federation=federation, now=now)
    most = means.paid(agent=agent, federation=federation, most=most, now=now)
    if most <= 0:
        return []
    own = list(_assigned(federation).filter(agent=agent).order_by("-task__priority", "assigned_at", "pk")[:most])
    found = bulk.begin(federation, own, now=now)
    _keep_waiting(agent, federation, now)
    if len(found) < most:
        taken = _take(agent, federation, most - len(found), now)
        found += bulk.begin(federation, taken, now=now)
    return found


def _keep_waiting(agent: Agent, federation: Federation, now: datetime) -> None:
    """What else is assigned to it waits on: whoever claims one after the other comes to it."""
    lease = timedelta(seconds=federation.lease_seconds)
    half_over = Attempt.objects.filter(agent=agent, state=Attempt.State.ASSIGNED, lease_expires_at__lt=now + lease / 2)
    half_over.filter(lease_expires_at__gt=now).update(lease_expires_at=now + lease)


def _assigned(federation: Federation) -> QuerySet[Attempt]:
    waiting = Attempt.objects.filter(state=Attempt.State.ASSIGNED, task__federation=federation)
    return waiting.select_related("agent")


def _take(agent: Agent, federation: Federation, most: int, now: datetime) -> list[Attempt]:
    """Queued tasks, or one that waits unstarted on a remote peer that is busy with another."""
    me = next((each for each in crew_of(federation, now) if each.id == agent.pk and each.has_room), None)
    if me is None:
        return []
    fit = Task.objects.filter(required_capabilities__contained_by=agent.capabilities)
    if me.types is not None:
        fit = fit.filter(type__in=me.types)
    found = _next(fit, federation, now, most=min(most, me.capacity - me.running))
    if found:
        return bulk.hand_over(federation, [(task, agent.pk) for task in found], now=now)
    return _steal(agent, federation, now) if me.running == 0 else []


def _steal(agent: Agent, federation: Federation, now: datetime) -> list[Attempt]:
    busy = Attempt.objects.filter(state=Attempt.State.RUNNING, agent=OuterRef("agent"))
    waiting = (
        _assigned(federation)
        .exclude(agent=agent)
        .filter(agent__runtime=Agent.Runtime.REMOTE, task__required_capabilities__contained_by=agent.capabilities)
        .filter(Exists(busy))
    )
    found = waiting.order_by("assigned_at", "pk").first()
    if found is None:
        return []
    task = attempts.take_back(attempt=found, why=f"Taken over by {agent.name}, which was idle.", now=now)
    return [] if task is None else bulk.hand_over(federation, [(task, agent.pk)], now=now)


def federations_with_due_tasks(*, now: datetime) -> Iterable[UUID]:
    """Where something may be assigned, or waits for nothing that is still to come."""
    due = Task.objects.due(now).order_by().values_list("federation", flat=True).distinct()
    return {*due, *dependencies.federations_to_settle()}
