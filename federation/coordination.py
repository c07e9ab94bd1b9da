"""The front desk of federations: found and changed, agents taken on, tasks submitted, cancelled, retried."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import transaction

from billing.models import Account
from federation import agents, attempts, bus, dispatch, journal, live, tasks, topology, wiring, workloads
from federation.models import Agent, DeadLetter, Event, Federation, Task

SHAPE = ("topology", "fan_out")
REPLAYS = 1000


class NoAgents(Exception):
    """Raised when work is given to a federation without agents and the caller did not ask to queue it."""

    code = "no_agents"

    def __init__(self) -> None:
        super().__init__("The federation has no agents. Add one, or submit with queue_if_empty.")


class StaleVersion(Exception):
    """Raised when a change names a version that is no longer the present one."""

    code = "conflict"

    def __init__(self, present: int) -> None:
        super().__init__(f"The federation has changed meanwhile: its version is {present}. Load it again.")
        self.extras = {"state": f"version {present}"}


@dataclass(frozen=True, slots=True)
class Order:
    """One task as asked for."""

    type: str
    payload: Any = field(default_factory=dict)
    priority: int = 5
    required_capabilities: Sequence[str] = ()
    deadline: datetime | None = None
    max_attempts: int = 3
    strategy: str = ""
    queue_if_empty: bool = False


@transaction.atomic
def create_federation(*, account: Account, name: str, by: Any, now: datetime, **settings: Any) -> Federation:
    federation = Federation.objects.create(account=account, name=name, created_at=now, **settings)
    words = f"Created as a {federation.topology} by {by or 'the system'}."
    journal.record(federation, Event.Kind.CREATED, words, now=now)
    wiring.begin(federation=federation, why=words, now=now)
    live.federation_changed(federation)
    return federation


@transaction.atomic
def change_federation(
    *, federation: Federation, changes: dict[str, Any], by: Any, now: datetime, version: int | None = None
) -> Federation:
    """Change settings; another shape re-wires. With `version` only if it is still the present one."""
    locked = dispatch.lock(federation.pk)
    if locked is None:
        raise agents.Gone
    if version is not None and version != locked.version:
        raise StaleVersion(locked.version)
    changed = {name: value for name, value in changes.items() if getattr(locked, name) != value}
    if not changed:
        return locked
    before = locked.topology
    for name, value in changed.items():
        setattr(locked, name, value)
    if locked.topology != before:
        locked.adapted = ""
    locked.version += 1
    locked.save(update_fields=[*changed, "adapted", "version"])
    if set(changed) & set(SHAPE):
        why = _rewiring(before, locked, by)
        journal.record(locked, Event.Kind.REWIRED, why, now=now)
        wiring.rewire(federation=locked, why=why, now=now)
    else:
        words = ", ".join(f"{name} {value}" for name, value in changed.items())
        journal.record(locked, Event.Kind.CHANGED, f"{by or 'The system'} set {words}.", now=now)
        live.federation_changed(locked)
    tasks.assign.delay_on_commit(federation_id=str(locked.pk))
    return locked


def _rewiring(before: str, federation: Federation, by: Any) -> str:
    after = federation.topology
    if before == after:
        return f"{by or 'The system'} set a fan-out of {federation.fan_out}."
    size = Agent.objects.linked().filter(federation=federation).count()
    shape = topology.effective(after, size)
    return f"{by or 'The system'} re-wired {before} to {after}{f' (now {shape})' if shape != after else ''}."


@transaction.atomic
def delete_federation(*, federation: Federation, by: Any, now: datetime) -> None:
    """Close it: live tasks are cancelled, agents leave, the rows stay for the books."""
    if not Federation.objects.present().filter(pk=federation.pk).exists():
        return
    for task in Task.objects.live().filter(federation=federation).order_by("pk"):
        _cancel(task, now=now)
    agents_left = Agent.objects.members().filter(federation=federation)
    agents_left.update(left_at=now)
    Federation.objects.filter(pk=federation.pk).update(deleted_at=now, leader=None, leader_lease_expires_at=None)
    live.federation_changed(federation)


def add_agent(*, federation: Federation, name: str, now: datetime, **fields: Any) -> tuple[Agent, str | None]:
    """Take on a member; what waited for it starts. A remote one comes with its token."""
    agent, token = agents.join(federation=federation, name=name, now=now, **fields)
    tasks.assign.delay_on_commit(federation_id=str(federation.pk))
    return agent, token


def change_agent(*, agent: Agent, by: Any, now: datetime, draining: bool | None = None, **changes: Any) -> Agent:
    """Change what it can do; `draining` stops or resumes new work for it."""
    who = str(by) if by else ""
    changed = agents.change(agent=agent, by=who, now=now, **changes)
    if draining is True and not agent.is_draining:
        agents.drain(agent=changed, by=who, now=now)
    elif draining is False:
        agents.resume(agent=changed, by=who, now=now)
    tasks.assign.delay_on_commit(federation_id=str(agent.federation_id))
    return changed


def remove_agent(*, agent: Agent, by: Any, now: datetime, when_done: bool = False) -> None:
    """It leaves: at once (its tasks go to others), or when it has finished what it runs."""
    who = str(by) if by else ""
    if when_done:
        agents.drain(agent=agent, by=who, now=now, then_leave=True)
    else:
        agents.leave(agent=agent, by=who, now=now)
    tasks.assign.delay_on_commit(federation_id=str(agent.federation_id))


def submit_task(*, federation: Federation, order: Order, by: Any, now: datetime) -> Task:
    """Queue one task. Raises NoAgents."""
    found = submit_tasks(federation=federation, orders=[order], by=by, now=now)[0]
    if isinstance(found, NoAgents):
        raise found
    return found


@transaction.atomic
def submit_tasks(*, federation: Federation, orders: Sequence[Order], by: Any, now: datetime) -> list[Task | NoAgents]:
    """Queue many; the answers are in the order asked, each the task or why it was refused."""
    has_agents = Agent.objects.linked().filter(federation=federation).exists()
    answers: list[Task | NoAgents] = [
        _made(federation, order, by, now) if has_agents or order.queue_if_empty else NoAgents() for order in orders
    ]
    made = [answer for answer in answers if isinstance(answer, Task)]
    Task.objects.bulk_create(made, batch_size=500)
    if made:
        live.tasks_changed(federation, made[:50])
        tasks.assign.delay_on_commit(federation_id=str(federation.pk))
    return answers


def _made(federation: Federation, order: Order, by: Any, now: datetime) -> Task:
    return Task(
        federation=federation,
        type=order.type,
        label=workloads.label(type=order.type, payload=order.payload),
        payload=order.payload,
        priority=order.priority,
        required_capabilities=sorted(set(order.required_capabilities)),
        deadline=order.deadline,
        max_attempts=order.max_attempts,
        strategy=order.strategy,
        not_before=now,
        created_at=now,
        created_by=str(by or "")[:120],
    )


@transaction.atomic
def cancel_task(*, task: Task, now: datetime) -> Task:
    """End it at once; a remote agent learns of it by its next heartbeat. Raises attempts.TaskSettled."""
    cancelled = _cancel(task, now=now)
    tasks.assign.delay_on_commit(federation_id=str(task.federation_id))
    return cancelled


def _cancel(task: Task, *, now: datetime) -> Task:
    cancelled, attempt = attempts.cancel(task_id=task.pk, now=now)
    if attempt is not None:
        tasks.after_stop.delay_on_commit(attempt_id=str(attempt.pk))
    return cancelled


@transaction.atomic
def retry_task(*, task: Task, now: datetime) -> Task:
    """Queue a task that ended badly afresh. Raises attempts.TaskSettled."""
    queued = attempts.retry(task_id=task.pk, now=now)
    tasks.assign.delay_on_commit(federation_id=str(task.federation_id))
    return queued


class Replayed(Exception):
    """Raised when a dead letter was replayed before."""

    code = "conflict"

    def __init__(self) -> None:
        super().__init__("This dead letter was replayed already.")
        self.extras = {"state": "replayed"}


@transaction.atomic
def replay(*, letter: DeadLetter, now: datetime) -> UUID:
    """Queue the task afresh or send the message again, once; returns the id of what goes on."""
    if not DeadLetter.objects.filter(pk=letter.pk, replayed_at=None).update(replayed_at=now):
        raise Replayed
    if letter.task is not None:
        return retry_task(task=letter.task, now=now).pk
    draft = _draft_again(letter)
    return bus.send(federation=letter.federation, draft=draft, now=now).id


def _draft_again(letter: DeadLetter) -> bus.Draft:
    """To the one it did not reach. The id lets a replay that was cut off in the middle be sent once all the same."""
    body = letter.message
    recipient = UUID(body["to"]) if body["to"] else letter.agent_id
    if recipient is None:
        raise bus.UnknownAgent("to")
    return bus.Draft(
        sender=UUID(body["from"]),
        recipient=recipient,
        type=body["type"],
        payload=body["payload"],
        priority=body["priority"],
        ttl_seconds=body["ttl_seconds"],
        correlation_id=body["correlation_id"],
        message_id=f"replay:{letter.pk}",
    )


@dataclass(frozen=True, slots=True)
class Replays:
    replayed: int
    refused: int


def replay_all(*, federation: Federation, now: datetime, reason: str = "") -> Replays:
    """Every dead letter that was not replayed, the oldest first, up to REPLAYS; each for itself."""
    letters = DeadLetter.objects.filter(federation=federation, replayed_at=None).select_related("federation", "task")
    if reason:
        letters = letters.filter(reason=reason)
    refused = 0
    chosen = list(letters.order_by("created_at", "pk")[:REPLAYS])
    for letter in chosen:
        try:
            replay(letter=letter, now=now)
        except (*bus.REFUSALS, Replayed, attempts.TaskSettled):
            refused += 1
    return Replays(replayed=len(chosen) - refused, refused=refused)
