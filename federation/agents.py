"""Members: they join, send heartbeats, are drained, leave. Those who fall silent are lost (`losses`).

Whatever changes membership locks the federation and re-wires it: one version of its topology more (`wiring`).
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models import F, Q
from django.db.models.expressions import RawSQL

from federation import attempts, bus, dispatch, journal, live, maps, wiring
from federation import beats as statements
from federation.beats import Beat, Heard
from federation.models import Agent, Attempt, Event, Federation, Task

TOKEN_PREFIX = "nta_"
WORDS_FOR_GONE = "This agent is no longer a member. Register again to get a new token."


class FederationFull(Exception):
    """Raised when a federation has all the agents it may have."""

    code = "resource_limit_exceeded"
    retry_after = 60

    def __init__(self, limit: int) -> None:
        super().__init__(f"This federation may have {limit} agents. Remove one, or raise max_agents.")
        self.extras = {"limit": limit}


class Gone(Exception):
    """Raised when an agent that was lost or left is addressed as a member."""

    code = "gone"

    def __init__(self) -> None:
        super().__init__(WORDS_FOR_GONE)


@dataclass(frozen=True, slots=True)
class Reply:
    """What a heartbeat is answered with."""

    topology_version: int
    epoch: int
    cancel: list[UUID]
    neighbours: list[UUID]
    came_back: bool = False  # it was unavailable before and takes work again


# Joining and leaving


@transaction.atomic
def join(
    *, federation: Federation, name: str, now: datetime, runtime: str = Agent.Runtime.MANAGED, **fields: Any
) -> tuple[Agent, str | None]:
    """Add a member; a remote one comes with its token, which cannot be had again."""
    locked = _locked(federation)
    limit = locked.max_agents
    if Agent.objects.members().filter(federation=locked).count() >= limit:
        raise FederationFull(limit)
    token = TOKEN_PREFIX + secrets.token_urlsafe(32) if runtime == Agent.Runtime.REMOTE else None
    fields["capabilities"] = sorted(set(fields.get("capabilities", [])))
    agent = Agent.objects.create(
        federation=locked,
        name=name,
        runtime=runtime,
        position=locked.next_position,
        token_digest=digest(token) if token else None,
        last_heartbeat_at=now,
        created_at=now,
        **fields,
    )
    locked.next_position += 1
    journal.record(locked, Event.Kind.JOINED, f"{agent} joined.", now=now, agent=agent)
    wiring.rewire(federation=locked, why=f"{agent} joined.", now=now)
    return agent, token


class NoToken(Exception):
    """Raised when a token is asked of an agent that has none."""

    code = "conflict"
    extras = {"state": Agent.Runtime.MANAGED}

    def __init__(self) -> None:
        super().__init__("Only remote agents have a token.")


@transaction.atomic
def rotate_token(*, agent: Agent, now: datetime) -> str:
    """A new token for a remote member; its old one is unknown from then on. Raises NoToken, Gone."""
    federation = _locked(agent.federation)
    if agent.runtime != Agent.Runtime.REMOTE:
        raise NoToken
    token = TOKEN_PREFIX + secrets.token_urlsafe(32)
    if not Agent.objects.linked().filter(pk=agent.pk).update(token_digest=digest(token)):
        raise Gone
    journal.record(federation, Event.Kind.CHANGED, f"{agent} has a new token.", now=now, agent=agent)
    return token


def digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def by_token(token: str) -> Agent | None:
    """Whose token it is, also of a member that is gone."""
    return Agent.objects.select_related("federation__account").filter(token_digest=digest(token)).first()


@transaction.atomic
def leave(*, agent: Agent, now: datetime, by: str = "") -> None:
    """Remove a member, by its own wish or by a person; its tasks go to others. Twice is once."""
    federation = _locked(agent.federation)
    if not Agent.objects.members().filter(pk=agent.pk).update(left_at=now):
        return
    words = f"{agent} was removed by {by}." if by and by != f"agent {agent}" else f"{agent} left."
    journal.record(federation, Event.Kind.LEFT, words, now=now, agent=agent)
    _release_all(agent, why=f"{agent} left.", now=now)
    wiring.rewire(federation=federation, why=words, now=now)
    transaction.on_commit(lambda: bus.close_inbox(agent=agent, now=now))


@transaction.atomic
def change(*, agent: Agent, now: datetime, by: str = "", **changes: Any) -> Agent:
    """Change what a member can do and how much of it."""
    federation = _locked(agent.federation)
    if "capabilities" in changes:
        changes["capabilities"] = sorted(set(changes["capabilities"]))
    changed = {name: value for name, value in changes.items() if getattr(agent, name) != value}
    if not changed:
        return agent
    for name, value in changed.items():
        setattr(agent, name, value)
    agent.save(update_fields=list(changed))
    words = f"{by or 'The system'} changed {', '.join(changed).replace('_', ' ')} of {agent}."
    journal.record(federation, Event.Kind.CHANGED, words, now=now, agent=agent)
    live.federation_changed(federation)
    return agent


@transaction.atomic
def drain(*, agent: Agent, now: datetime, by: str = "", then_leave: bool = False) -> None:
    """No new work for it: what it has not begun goes to others, what it runs it finishes (and then leaves)."""
    federation = _locked(agent.federation)
    wanted = Agent.Drain.LEAVE if then_leave else Agent.Drain.STAY
    if not Agent.objects.members().filter(pk=agent.pk).exclude(drain=wanted).update(drain=wanted):
        return
    agent.drain = wanted
    purpose = " and leaves when it is done" if then_leave else ""
    journal.record(federation, Event.Kind.DRAINING, f"{agent} drains{purpose}{_by(by)}.", now=now, agent=agent)
    waiting = Attempt.objects.filter(agent=agent, state=Attempt.State.ASSIGNED).order_by("task")
    for attempt in waiting.select_related("agent"):
        attempts.take_back(attempt=attempt, why=f"{agent} drains.", now=now)
    live.agents_changed(federation, [agent.pk])
    if then_leave and not Attempt.objects.live().filter(agent=agent).exists():
        leave(agent=agent, now=now)


@transaction.atomic
def resume(*, agent: Agent, now: datetime, by: str = "") -> None:
    """It takes work again."""
    federation = _locked(agent.federation)
    draining = Agent.objects.members().filter(pk=agent.pk).exclude(drain=Agent.Drain.NO)
    if not draining.update(drain=Agent.Drain.NO):
        return
    agent.drain = Agent.Drain.NO
    journal.record(federation, Event.Kind.CHANGED, f"{agent} takes work again{_by(by)}.", now=now, agent=agent)
    live.agents_changed(federation, [agent.pk])


def see_off(*, now: datetime) -> int:
    """Let go of those that were to leave when they are done, and are."""
    done = Agent.objects.members().filter(drain=Agent.Drain.LEAVE).with_running().filter(running=0)
    gone = list(done.select_related("federation").order_by("pk")[:100])
    for agent in gone:
        leave(agent=agent, now=now)
    return len(gone)


def _by(by: str) -> str:
    return f", by {by}" if by else ""


def _locked(federation: Federation) -> Federation:
    found = dispatch.lock(federation.pk)
    if found is None:
        raise Gone
    return found


def _release_all(agent: Agent, *, why: str, now: datetime) -> None:
    for attempt in Attempt.objects.live().filter(agent=agent).order_by("task").select_related("agent"):
        attempts.release(attempt=attempt, why=why, now=now)


# Heartbeats


def heartbeat(
    *, agent: Agent, status: str, load: float | None, running: Iterable[dict[str, Any]], now: datetime
) -> Reply:
    """A sign of life: renews the leases of what it runs, and says what it should stop."""
    answer = heartbeat_many(beats=[Beat(agent.pk, status, load, list(running))], now=now)[0]
    if isinstance(answer, Gone):
        raise answer
    return answer


@transaction.atomic
def heartbeat_many(*, beats: Sequence[Beat], now: datetime) -> list[Reply | Gone]:
    """Signs of life of any number of agents, of any federations, in a handful of statements; answered in order.

    Of several by one agent the last counts.
    """
    last = {beat.agent_id: beat for beat in beats}
    # The federation before the agent, as everyone locks them.
    wiring.renew(leaders=Q(leader__in=RawSQL("select unnest(%s::uuid[])", [list(last)])), now=now)
    heard = statements.note(last.values(), now=now)
    present = [beat for pk, beat in last.items() if pk in heard]
    held = statements.renew(present, now=now)
    moved = statements.advance(present)
    federations = Federation.objects.in_bulk({known.federation_id for known in heard.values()})
    shapes = {pk: maps.shape(federation) for pk, federation in federations.items()}
    _tell_changes(last, heard, federations)
    for task in Task.objects.light().filter(pk__in=moved) if moved else ():
        live.tasks_changed(federations[task.federation_id], [task])

    def reply(beat: Beat) -> Reply | Gone:
        if beat.agent_id not in heard:
            return Gone()
        before = heard[beat.agent_id]
        federation, shape = federations[before.federation_id], shapes[before.federation_id]
        asked = [(beat.agent_id, each["task"], each["epoch"]) for each in beat.running]
        return Reply(
            topology_version=federation.topology_version,
            epoch=federation.epoch,
            cancel=[task for agent, task, epoch in asked if (agent, task, epoch) not in held],
            neighbours=shape.neighbours(beat.agent_id) if beat.agent_id in shape else [],
            came_back=(before.availability, beat.availability) == ("unavailable", "available"),
        )

    return [reply(beat) for beat in beats]


def _tell_changes(
    beats: Mapping[UUID, Beat], heard: Mapping[UUID, Heard], federations: Mapping[UUID, Federation]
) -> None:
    """Another availability, or a load that looks different."""
    changed: dict[UUID, list[UUID]] = {}
    for pk, before in heard.items():
        beat = beats[pk]
        if (beat.availability, _shade(beat.load)) != (before.availability, _shade(before.load)):
            changed.setdefault(before.federation_id, []).append(pk)
    for federation_id, agent_ids in changed.items():
        live.agents_changed(federations[federation_id], agent_ids)


def _shade(load: float | None) -> int:
    """Steps of five percent: less is no difference to the eye."""
    return -1 if load is None else round(load * 20)


def beat_managed(*, now: datetime) -> int:
    """The worker's own life is the life of the managed agents it can run: it sends their heartbeats."""
    recently = now - timedelta(seconds=4)
    managed = Agent.objects.members().filter(runtime__in=Agent.OURS, federation__deleted_at=None)
    beaten = managed.exclude(availability=Agent.Availability.LOST).filter(last_heartbeat_at__lt=recently)
    count = beaten.update(last_heartbeat_at=now)
    if count:
        wiring.renew(leaders=Q(leader__runtime__in=Agent.OURS), now=now)
    return count


# Our own lateness


def forgive(*, seconds: float) -> None:
    """We were late ourselves: nobody is to blame for the silence of that time.

    Less than 0: our clock was set back by so much, and what was to be soon would be so much later.
    """
    late = timedelta(seconds=seconds)
    if seconds < 0:
        Task.objects.queued().update(not_before=F("not_before") + late)
    Agent.objects.linked().update(last_heartbeat_at=F("last_heartbeat_at") + late, doubted_at=F("doubted_at") + late)
    Attempt.objects.live().update(lease_expires_at=F("lease_expires_at") + late)
    Federation.objects.exclude(leader=None).update(leader_lease_expires_at=F("leader_lease_expires_at") + late)
