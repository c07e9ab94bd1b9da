"""The front desk of federations: found and changed, agents taken on, tasks submitted, cancelled, retried."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import transaction

from billing.models import Account
from federation import agents, attempts, bus, dispatch, journal, live, submission, tasks, topology
from federation.models import Agent, DeadLetter, Event, Federation, Task
from federation.submission import NoAgents, Order

__all__ = ["NoAgents", "Order"]

SHAPE = ("topology", "fan_out")


class StaleVersion(Exception):
    """Raised when a change names a version that is no longer the present one."""

    code = "conflict"

    def __init__(self, present: int) -> None:
        super().__init__(f"The federation has changed meanwhile: its version is {present}. Load it again.")
        self.extras = {"state": f"version {present}"}


@transaction.atomic
def create_federation(*, account: Account, name: str, by: Any, now: datetime, **settings: Any) -> Federation:
    federation = Federation.objects.create(account=account, name=name, created_at=now, **settings)
    journal.record(
        federation, Event.Kind.CREATED, f"Created as a {federation.topology} by {by or 'the system'}.", now=now
    )
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
    locked.version += 1
    locked.save(update_fields=[*changed, "version"])
    if set(changed) & set(SHAPE):
        agents.rewire(federation=locked, why=_rewiring(before, locked, by), now=now)
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
    if dispatch.lock(federation.pk) is None:
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


def change_agent(*, agent: Agent, now: datetime, **changes: Any) -> Agent:
    changed = agents.change(agent=agent, now=now, **changes)
    tasks.assign.delay_on_commit(federation_id=str(agent.federation_id))
    return changed


def remove_agent(*, agent: Agent, by: Any, now: datetime) -> None:
    agents.leave(agent=agent, by=str(by) if by else "", now=now)
    tasks.assign.delay_on_commit(federation_id=str(agent.federation_id))


def submit_task(*, federation: Federation, order: Order, by: Any, now: datetime) -> Task:
    """Queue one task. Raises NoAgents and submission.BadOrder."""
    found = submit_tasks(federation=federation, orders=[order], by=by, now=now)[0]
    if not isinstance(found, Task):
        raise found
    return found


@transaction.atomic
def submit_tasks(
    *, federation: Federation, orders: Sequence[Order | Exception], by: Any, now: datetime
) -> list[Task | Exception]:
    """Queue many; the answers are in the order asked, each the task or why it was refused (also before)."""
    answers = submission.make(federation=federation, orders=orders, by=by, now=now)
    made = [answer for answer in answers if isinstance(answer, Task)]
    if made:
        live.tasks_changed(federation, made[:50])
        tasks.assign.delay_on_commit(federation_id=str(federation.pk))
    return answers


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
    """Queue a task that ended badly afresh, and what that had cancelled. Raises attempts.TaskSettled, NeedsAnother."""
    dispatch.lock(task.federation_id)
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
    dispatch.lock(letter.federation_id)
    if not DeadLetter.objects.filter(pk=letter.pk, replayed_at=None).update(replayed_at=now):
        raise Replayed
    return _REPLAYS[letter.kind](letter, now)


def _replay_task(letter: DeadLetter, now: datetime) -> UUID:
    assert letter.task is not None
    return UUID(str(retry_task(task=letter.task, now=now).pk))


def _replay_message(letter: DeadLetter, now: datetime) -> UUID:
    body = letter.message
    recipient = UUID(body["to"]) if body["to"] else letter.agent_id
    draft = bus.Draft(
        sender=UUID(body["from"]),
        recipient=recipient,
        type=body["type"],
        payload=body["payload"],
        priority=body["priority"],
        ttl_seconds=body["ttl_seconds"],
        correlation_id=body["correlation_id"],
    )
    return bus.send(federation=letter.federation, draft=draft, now=now).id


# By a dead letter's kind: what sends it on its way again.
_REPLAYS: dict[str, Callable[[DeadLetter, datetime], UUID]] = {"task": _replay_task, "message": _replay_message}
