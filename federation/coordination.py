"""The front desk of federations: found and changed, agents taken on, tasks submitted, cancelled, retried."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import transaction

from billing.models import Account
from federation import (
    agents,
    attempts,
    bus,
    dependencies,
    dispatch,
    handlers,
    journal,
    live,
    servers,
    submission,
    tasks,
    topology,
    wiring,
)
from federation.models import Agent, DeadLetter, Event, Federation, McpServer, Task
from federation.submission import NoAgents, Order

__all__ = ["NoAgents", "Order"]

SHAPE = ("topology", "fan_out")
REPLAYS = 1000


class StaleVersion(Exception):
    """Raised when a change names a version that is no longer the present one."""

    code = "conflict"

    def __init__(self, present: int) -> None:
        super().__init__(f"The federation has changed meanwhile: its version is {present}. Load it again.")
        self.extras = {"state": f"version {present}"}


class BadTimings(Exception):
    """Raised for timings by which every agent would be lost between two of its heartbeats."""

    code = "validation_error"

    def __init__(self, heartbeat_seconds: int) -> None:
        said = f"Give more than the {heartbeat_seconds} s between two heartbeats."
        self.extras = {"errors": {"agent_timeout_seconds": [said]}}
        super().__init__(said)


def _check_timings(federation: Federation) -> None:
    if federation.agent_timeout_seconds <= federation.heartbeat_seconds:
        raise BadTimings(federation.heartbeat_seconds)


@transaction.atomic
def create_federation(*, account: Account, name: str, by: Any, now: datetime, **settings: Any) -> Federation:
    """Raises BadTimings."""
    federation = Federation(account=account, name=name, created_at=now, **settings)
    _check_timings(federation)
    federation.save(force_insert=True)
    words = f"Created with the topology {federation.topology} by {by or 'the system'}."
    journal.record(federation, Event.Kind.CREATED, words, now=now)
    wiring.begin(federation=federation, why=words, now=now)
    live.federation_changed(federation)
    return federation


@transaction.atomic
def change_federation(
    *, federation: Federation, changes: dict[str, Any], by: Any, now: datetime, version: int | None = None
) -> Federation:
    """Change settings; another shape re-wires. With `version` only if it is still the present one.

    Raises StaleVersion, BadTimings.
    """
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
    _check_timings(locked)
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
    if dispatch.lock(federation.pk) is None:
        return
    for task in Task.objects.live().filter(federation=federation).order_by("pk"):
        _cancel(task, now=now)
    agents_left = Agent.objects.members().filter(federation=federation)
    agents_left.update(left_at=now)
    Federation.objects.filter(pk=federation.pk).update(deleted_at=now, leader=None, leader_lease_expires_at=None)
    live.federation_changed(federation)


@transaction.atomic
def add_agent(
    *,
    federation: Federation,
    name: str,
    now: datetime,
    handler: Mapping[str, Any] | None = None,
    mcp: Mapping[str, Any] | None = None,
    by: Any = None,
    **fields: Any,
) -> tuple[Agent, str | None]:
    """Take on a member; what waited for it starts. A remote one comes with its token.

    Raises handlers.BadHandler, servers.BadServer.
    """
    agent, token = agents.join(federation=federation, name=name, now=now, **fields)
    if handler is not None:
        handlers.change(agent=agent, wanted=handler, by=by, now=now)
    if mcp is not None or agent.runtime == Agent.Runtime.MCP:
        servers.change(agent=agent, wanted=mcp, now=now)
        tasks.read_tools.delay_on_commit(agent_id=str(agent.pk))
    tasks.assign.delay_on_commit(federation_id=str(federation.pk))
    return agent, token


@transaction.atomic
def change_agent(*, agent: Agent, now: datetime, by: Any = None, draining: bool | None = None, **changes: Any) -> Agent:
    """Change what it can do; `draining` stops or resumes new work for it, `handler` None takes its handler away.

    Raises handlers.BadHandler, servers.BadServer.
    """
    has_handler, wanted = "handler" in changes, changes.pop("handler", None)
    mcp = changes.pop("mcp", None)
    who = str(by) if by else ""
    changed = agents.change(agent=agent, by=who, now=now, **changes)
    if draining is True and not agent.is_draining:
        agents.drain(agent=changed, by=who, now=now)
    elif draining is False:
        agents.resume(agent=changed, by=who, now=now)
    if has_handler:
        handlers.change(agent=changed, wanted=wanted, by=by, now=now)
        live.agents_changed(agent.federation, [agent.pk])
    if mcp is not None:
        servers.change(agent=changed, wanted=mcp, now=now)
        tasks.read_tools.delay_on_commit(agent_id=str(agent.pk))
    tasks.assign.delay_on_commit(federation_id=str(agent.federation_id))
    return changed


def read_tools(*, agent: Agent, now: datetime) -> None:
    """Ask an MCP server for its tools now. Raises servers.BadServer for an agent that is none."""
    server = McpServer.objects.filter(agent=agent).first()
    if server is None:
        raise servers.BadServer(**{"": "This agent is no MCP server."})
    tasks.read_tools.delay_on_commit(agent_id=str(agent.pk))


def remove_agent(*, agent: Agent, by: Any, now: datetime, when_done: bool = False) -> None:
    """It leaves: at once (its tasks go to others), or when it has finished what it runs."""
    who = str(by) if by else ""
    if when_done:
        agents.drain(agent=agent, by=who, now=now, then_leave=True)
    else:
        agents.leave(agent=agent, by=who, now=now)
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
    return bus.send(federation=letter.federation, draft=_draft_again(letter), now=now).id


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


# By a dead letter's kind: what sends it on its way again.
_REPLAYS: dict[str, Callable[[DeadLetter, datetime], UUID]] = {"task": _replay_task, "message": _replay_message}


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
        except (*bus.REFUSALS, Replayed, attempts.TaskSettled, dependencies.NeedsAnother):
            refused += 1
    return Replays(replayed=len(chosen) - refused, refused=refused)
