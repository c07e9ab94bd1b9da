"""The shape of a federation as it changes: its versions, and who leads for as long as the lease lasts.

Whatever changes membership, shape or leader goes through `rewire` with the federation locked: one version more, stored
with its reason, and a leader if anyone can lead. A new leader is a new epoch, also when it led before and let its
lease run out.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models import F, Q
from django.db.models.functions import Least

from federation import dispatch, journal, live
from federation.models import Agent, Event, Federation, TopologyVersion

CHANGED = ["topology_version", "next_position", "adapted", "leader", "leader_lease_expires_at", "epoch"]


def begin(*, federation: Federation, why: str, now: datetime) -> None:
    """The first version, of a federation just made."""
    _store(federation, why, now, figures=None)


def rewire(*, federation: Federation, why: str, now: datetime, figures: Any = None) -> None:
    """One version more, inside the caller's transaction and lock."""
    federation.topology_version += 1
    elected = _see_to_leader(federation, now=now)
    federation.save(update_fields=CHANGED)
    _store(federation, f"{why} {elected}".strip(), now, figures)
    live.federation_changed(federation)


def _store(federation: Federation, why: str, now: datetime, figures: Any) -> None:
    members = Agent.objects.linked().filter(federation=federation).count()
    TopologyVersion.objects.create(
        federation=federation,
        version=federation.topology_version,
        shape=federation.effective_topology(members),
        members=members,
        epoch=federation.epoch,
        reason=why[:300],
        figures=figures,
        created_at=now,
    )


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
    if federation.leader_id is None and _best_candidate(federation, now) is None:
        return False
    before, former = federation.epoch, federation.leader
    rewire(federation=federation, why=f"The lease of {former} ran out." if former else "Nobody led.", now=now)
    return federation.epoch != before


@transaction.atomic(savepoint=False)
def renew(*, leaders: Q, now: datetime) -> None:
    """Only a lease that still runs can be renewed; a lapsed one is for `see_to_leaders`."""
    held = Federation.objects.present().filter(leaders, leader_lease_expires_at__gt=now)
    # In one order, so that two that renew several leases at once do not wait for each other.
    locked = list(held.order_by("pk").select_for_update(no_key=True, of=("self",)).values_list("pk", flat=True))
    if locked:
        seconds = Least(F("heartbeat_seconds") * 2, F("agent_timeout_seconds"))
        Federation.objects.filter(pk__in=locked).update(leader_lease_expires_at=now + seconds * timedelta(seconds=1))


def _has_leader(federation: Federation, now: datetime) -> bool:
    if federation.leader_id is None or federation.leader_lease_expires_at <= now:
        return False
    return Agent.objects.available().filter(pk=federation.leader_id).exists()


def _see_to_leader(federation: Federation, *, now: datetime) -> str:
    """Says in words what it changed."""
    if _has_leader(federation, now):
        return ""
    chosen = _best_candidate(federation, now)
    if chosen is None:
        return _leave_leaderless(federation, now)
    federation.epoch += 1
    federation.leader, federation.leader_lease_expires_at = chosen, now + federation.leader_lease
    words = f"{chosen} leads, epoch {federation.epoch}."
    journal.record(federation, Event.Kind.ELECTED, words, now=now, agent=chosen)
    return words


def _leave_leaderless(federation: Federation, now: datetime) -> str:
    if federation.leader_id is None:
        return ""
    words = "Nobody can lead now."
    journal.record(federation, Event.Kind.LEADERLESS, words, now=now)
    federation.leader, federation.leader_lease_expires_at = None, None
    return words


def _best_candidate(federation: Federation, now: datetime) -> Agent | None:
    """Those heard from lately first, then who takes work, then who can do most, then who joined first."""
    fresh_after = now - federation.leader_lease
    candidates = Agent.objects.available().filter(federation=federation)
    return min(
        candidates.defer("metadata"),
        key=lambda agent: (
            agent.last_heartbeat_at <= fresh_after,
            agent.is_draining,
            -len(agent.capabilities),
            agent.position,
        ),
        default=None,
    )
