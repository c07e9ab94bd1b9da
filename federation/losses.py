"""Members that fell silent: lost together, a federation in one transaction, with one version of its topology more.

A network that broke takes many at once; what they had goes to others in a fixed number of statements.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

from django.db import transaction
from django.db.models import F, Q

from billing.outgoing import outbox
from federation import bulk, dispatch, journal, live, wiring
from federation.models import Agent, Attempt, Event, Federation

LOST = "agent.lost"
# So many are named in the reason of a version.
NAMED = 3


def lose_silent(*, now: datetime) -> list[UUID]:
    """Mark whoever was silent too long as lost and give its tasks to others; returns the federations."""
    timeout = F("federation__agent_timeout_seconds") * timedelta(seconds=1)
    silent = Agent.objects.linked().filter(last_heartbeat_at__lt=now - timeout, federation__deleted_at=None)
    federations = list(silent.order_by().values_list("federation", flat=True).distinct())
    return [pk for pk in federations if _lose(pk, None, now=now)]


def lose(*, agent: Agent, now: datetime) -> bool:
    """Guarded by the silence itself: one heartbeat in between and the agent stays."""
    as_seen = Q(pk=agent.pk, last_heartbeat_at=agent.last_heartbeat_at)
    return bool(_lose(agent.federation_id, as_seen, now=now))


@transaction.atomic
def _lose(federation_id: UUID, who: Q | None, *, now: datetime) -> list[Agent]:
    """Those who are silent too long (or: `who`) when the federation and their rows are locked: none beats meanwhile."""
    federation = dispatch.lock(federation_id)
    if federation is None:
        return []
    since = now - timedelta(seconds=federation.agent_timeout_seconds)
    silent = Agent.objects.linked().filter(who or Q(last_heartbeat_at__lt=since), federation=federation)
    locked = silent.order_by("pk").select_for_update(no_key=True, of=("self",))
    lost = list(locked.only("pk", "name", "last_heartbeat_at", "position", "federation"))
    if not lost:
        return []
    Agent.objects.filter(pk__in=[agent.pk for agent in lost]).update(
        availability=Agent.Availability.LOST, reported_load=None
    )
    lost.sort(key=lambda agent: agent.position)
    words = [_words(agent, now) for agent in lost]
    said = [(text, agent, None) for text, agent in zip(words, lost, strict=True)]
    journal.record_many(federation, Event.Kind.LOST, said, now=now)
    _tell(federation, lost, now)
    _release(federation, lost, now)
    wiring.rewire(federation=federation, why=_why(lost, words), now=now)
    return lost


def _words(agent: Agent, now: datetime) -> str:
    return f"{agent} was silent for {int((now - agent.last_heartbeat_at).total_seconds())} s: lost."


def _why(lost: Sequence[Agent], words: Sequence[str]) -> str:
    if len(lost) == 1:
        return words[0]
    named, others = ", ".join(agent.name[:40] for agent in lost[:NAMED]), len(lost) - NAMED
    return f"{len(lost):,} agents were silent too long: lost {named}{f' and {others:,} more' if others > 0 else ''}."


def _tell(federation: Federation, lost: Sequence[Agent], now: datetime) -> None:
    if outbox.is_wanted(federation.account_id, LOST):
        for agent in lost:
            told = {"agent": str(agent.pk), "federation": str(federation.pk), "name": agent.name}
            outbox.publish(account_id=federation.account_id, type=LOST, data=told, now=now)


def _release(federation: Federation, lost: Sequence[Agent], now: datetime) -> None:
    why = {agent.pk: f"{agent} was lost." for agent in lost}
    held = Attempt.objects.live().filter(agent__in=list(why)).order_by("task")
    released = [(attempt, why[attempt.agent_id]) for attempt in held]
    bulk.release(federation, released, now=now)
    live.agents_changed(federation, list(why))
