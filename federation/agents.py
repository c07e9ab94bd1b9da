"""Members: they join, send heartbeats, leave, are lost; one of them leads for as long as its lease lasts.

Everything here that changes membership or the leader locks the federation, raises `topology_version` by one
and, for a leader, the epoch. A leader that let its lease run out and leads again also gets a new epoch.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models import F, Q

from billing.outgoing import outbox
from federation import attempts, bus, dispatch, journal, live
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
    _rewire(locked, now=now)
    return agent, token


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
    words = f"{agent} was removed by {by}." if by else f"{agent} left."
    journal.record(federation, Event.Kind.LEFT, words, now=now, agent=agent)
    _release_all(agent, why=f"{agent} left.", now=now)
    _rewire(federation, now=now)
    transaction.on_commit(lambda: bus.close_inbox(agent=agent))


@transaction.atomic
def change(*, agent: Agent, now: datetime, **changes: Any) -> Agent:
    """Change what a member can do and how much of it."""
    federation = _locked(agent.federation)
    if "capabilities" in changes:
        changes["capabilities"] = sorted(set(changes["capabilities"]))
    for name, value in changes.items():
        setattr(agent, name, value)
    agent.save(update_fields=list(changes))
    live.federation_changed(federation)
    return agent


def _locked(federation: Federation) -> Federation:
    found = dispatch.lock(federation.pk)
    if found is None:
        raise Gone
    return found


def _release_all(agent: Agent, *, why: str, now: datetime) -> None:
    for attempt in Attempt.objects.live().filter(agent=agent).order_by("task").select_related("agent"):
        attempts.release(attempt=attempt, why=why, now=now)


def _rewire(federation: Federation, *, now: datetime) -> None:
    """Membership or shape changed: a new version of the topology, with a leader if anyone can lead."""
    federation.topology_version += 1
    _see_to_leader(federation, now=now)
    federation.save(update_fields=["topology_version", "next_position", "leader", "leader_lease_expires_at", "epoch"])
    live.federation_changed(federation)


def rewire(*, federation: Federation, why: str, now: datetime) -> None:
    """Like `_rewire`, for a change of shape; inside the caller's transaction and lock."""
    journal.record(federation, Event.Kind.REWIRED, why, now=now)
    _rewire(federation, now=now)


# Heartbeats


@transaction.atomic
def heartbeat(
    *, agent: Agent, status: str, load: float | None, running: Iterable[dict[str, Any]], now: datetime
) -> Reply:
    """A sign of life: renews the leases of what it runs, and says what it should stop."""
    availability = Agent.Availability.UNAVAILABLE if status == "unavailable" else Agent.Availability.AVAILABLE
    # The federation before the agent, as everyone locks them.
    _renew_leadership(Q(leader=agent), now=now)
    alive = Agent.objects.linked().filter(pk=agent.pk)
    if not alive.update(last_heartbeat_at=now, availability=availability, reported_load=load):
        raise Gone
    federation = agent.federation
    stop = _renew(agent, federation, running, now)
    if (availability, load) != (agent.availability, agent.reported_load):
        live.agents_changed(federation, [agent.pk])
    members = list(Agent.objects.linked().filter(federation=federation).only("pk", "position"))
    federation.refresh_from_db(fields=["topology_version", "epoch", "topology", "fan_out", "leader"])
    return Reply(federation.topology_version, federation.epoch, stop, federation.shaped(members).neighbours(agent.pk))


def _renew(agent: Agent, federation: Federation, running: Iterable[dict[str, Any]], now: datetime) -> list[UUID]:
    """Renews each (task, epoch) that is still the agent's; returns the tasks that are not."""
    until = attempts.lease_end(federation, now)
    stop = []
    # In the order, and the task before its attempt, in which everyone locks them.
    for each in sorted(running, key=lambda each: str(each["task"])):
        if each.get("progress") is not None:
            held = Task.objects.live().filter(pk=each["task"], epoch=each["epoch"], assigned_to=agent)
            held.update(progress=each["progress"])
        current = Attempt.objects.live().filter(task=each["task"], epoch=each["epoch"], agent=agent)
        if not current.update(lease_expires_at=until):
            stop.append(each["task"])
    return stop


def _renew_leadership(whose: Q, *, now: datetime) -> None:
    """Only a lease that still runs can be renewed; a lapsed one is for `see_to_leaders`."""
    for federation in Federation.objects.present().filter(whose, leader_lease_expires_at__gt=now):
        Federation.objects.filter(pk=federation.pk, epoch=federation.epoch).update(
            leader_lease_expires_at=now + federation.leader_lease
        )


def beat_managed(*, now: datetime) -> int:
    """The worker's own life is the life of the managed agents it can run: it sends their heartbeats."""
    recently = now - timedelta(seconds=4)
    managed = Agent.objects.members().filter(runtime=Agent.Runtime.MANAGED, federation__deleted_at=None)
    beaten = managed.exclude(availability=Agent.Availability.LOST).filter(last_heartbeat_at__lt=recently)
    count = beaten.update(last_heartbeat_at=now)
    if count:
        _renew_leadership(Q(leader__runtime=Agent.Runtime.MANAGED), now=now)
    return count


# Loss


def lose_silent(*, now: datetime) -> list[UUID]:
    """Mark whoever was silent too long as lost and give its tasks to others; returns the federations."""
    timeout = F("federation__agent_timeout_seconds") * timedelta(seconds=1)
    silent = Agent.objects.linked().filter(last_heartbeat_at__lt=now - timeout, federation__deleted_at=None)
    touched: dict[UUID, None] = {}
    for agent in silent.select_related("federation").order_by("last_heartbeat_at", "pk")[:100]:
        if lose(agent=agent, now=now):
            touched[agent.federation_id] = None
    return list(touched)


@transaction.atomic
def lose(*, agent: Agent, now: datetime) -> bool:
    """Guarded by the silence itself: one heartbeat in between and the agent stays."""
    federation = _locked(agent.federation)
    still_silent = Agent.objects.linked().filter(pk=agent.pk, last_heartbeat_at=agent.last_heartbeat_at)
    if not still_silent.update(availability=Agent.Availability.LOST, reported_load=None):
        return False
    seconds = int((now - agent.last_heartbeat_at).total_seconds())
    journal.record(federation, Event.Kind.LOST, f"{agent} was silent for {seconds} s: lost.", now=now, agent=agent)
    told = {"agent": str(agent.pk), "federation": str(federation.pk), "name": agent.name}
    outbox.publish(account_id=federation.account_id, type="agent.lost", data=told, now=now)
    _release_all(agent, why=f"{agent} was lost.", now=now)
    _rewire(federation, now=now)
    return True


def forgive(*, seconds: float) -> None:
    """We were late ourselves: nobody is to blame for the silence of that time."""
    late = timedelta(seconds=seconds)
    Agent.objects.linked().update(last_heartbeat_at=F("last_heartbeat_at") + late)
    Attempt.objects.live().update(lease_expires_at=F("lease_expires_at") + late)
    Federation.objects.exclude(leader=None).update(leader_lease_expires_at=F("leader_lease_expires_at") + late)


# Leading


def see_to_leaders(*, now: datetime) -> list[UUID]:
    """Elect where the lease ran out; returns the federations that have a new leader."""
    lapsed = Q(leader_lease_expires_at__lte=now) | Q(
        leader=None, agents__left_at=None, agents__availability="available"
    )
    found = Federation.objects.present().filter(lapsed).values_list("pk", flat=True).distinct()
    return [pk for pk in found[:100] if elect(federation_id=pk, now=now)]


@transaction.atomic
def elect(*, federation_id: UUID, now: datetime) -> bool:
    """One of two that elect at once finds it done."""
    federation = dispatch.lock(federation_id)
    if federation is None or _has_leader(federation, now):
        return False
    before = federation.epoch
    _rewire(federation, now=now)
    return federation.epoch != before


def _has_leader(federation: Federation, now: datetime) -> bool:
    if federation.leader_id is None or federation.leader_lease_expires_at <= now:
        return False
    return Agent.objects.available().filter(pk=federation.leader_id).exists()


def _see_to_leader(federation: Federation, *, now: datetime) -> None:
    if _has_leader(federation, now):
        return
    chosen = _best_candidate(federation, now)
    if chosen is None:
        if federation.leader_id is not None:
            journal.record(federation, Event.Kind.LEADERLESS, "Nobody can lead now.", now=now)
        federation.leader, federation.leader_lease_expires_at = None, None
        return
    federation.epoch += 1
    federation.leader, federation.leader_lease_expires_at = chosen, now + federation.leader_lease
    words = f"{chosen} leads, epoch {federation.epoch}."
    journal.record(federation, Event.Kind.ELECTED, words, now=now, agent=chosen)


def _best_candidate(federation: Federation, now: datetime) -> Agent | None:
    """Those heard from lately first, then who can do most, then who joined first."""
    fresh_after = now - federation.leader_lease
    candidates = Agent.objects.available().filter(federation=federation)
    return min(
        candidates,
        key=lambda agent: (agent.last_heartbeat_at <= fresh_after, -len(agent.capabilities), agent.position),
        default=None,
    )
