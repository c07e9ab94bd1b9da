"""The adaptive topology at work: measures each window from what really happened, and re-wires where that pays.

Messages, hand-overs and losses are counted from their own rows; `adapting` decides.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models import Count, F, Q, QuerySet, Sum

from federation import adapting, dispatch, journal, live, maps, wiring
from federation.adapting import Traffic
from federation.models import Agent, Attempt, Event, Federation, Message, Reading, TopologyVersion
from federation.topology import ADAPTIVE, Topology

# The history of messages is written within a second or two of the sending.
SETTLED_SECONDS = 2
# Ways are learnt from so many of a window's messages; the totals count all.
SAMPLE = 1000
FEWEST_MEMBERS = 3
KEPT = timedelta(days=1)
WINDOW = timedelta(seconds=adapting.WINDOW_SECONDS)


def see_to_shapes(*, now: datetime) -> list[UUID]:
    """Measure every adaptive federation's last full window, once; returns those that were re-wired."""
    ended_at = window_end(now)
    measured = Reading.objects.filter(ended_at=ended_at).values("federation")
    found = Federation.objects.present().filter(topology=ADAPTIVE).exclude(pk__in=measured)
    return [federation.pk for federation in found.order_by("pk") if _see_to(federation, ended_at, now)]


def window_end(now: datetime) -> datetime:
    """The end of the last window that is settled; windows are the same for every process."""
    seconds = int(now.timestamp() - SETTLED_SECONDS)
    return datetime.fromtimestamp(seconds - seconds % adapting.WINDOW_SECONDS, UTC)


def _see_to(federation: Federation, ended_at: datetime, now: datetime) -> bool:
    shape = maps.shape(federation)
    if len(shape) < FEWEST_MEMBERS:
        return False
    traffic = measure(federation=federation, shape=shape, since=ended_at - WINDOW, until=ended_at)
    costs = adapting.costs(shape.members, traffic, fan_out=federation.fan_out)
    with transaction.atomic():
        locked = dispatch.lock(federation.pk)
        if locked is None or locked.topology != ADAPTIVE or not _keep(locked, shape, traffic, costs, ended_at):
            return False
        return _change(locked, now)


def measure(*, federation: Federation, shape: Topology[UUID], since: datetime, until: datetime) -> Traffic[UUID]:
    """What the federation's members did in that time."""
    messages = Message.objects.filter(federation=federation, created_at__gte=since, created_at__lt=until)
    totals = messages.aggregate(
        direct=Count("pk", filter=Q(recipient__isnull=False)),
        broadcasts=Count("pk", filter=Q(recipient=None)),
        relayed=Sum(F("hops") - 1, filter=Q(recipient__isnull=False, hops__gt=1)),
    )
    handed = Attempt.objects.filter(assigned_at__gte=since, assigned_at__lt=until, task__federation=federation)
    events = Event.objects.filter(federation=federation, created_at__gte=since, created_at__lt=until)
    sample = list(messages.order_by("-created_at", "-pk").values_list("sender", "recipient")[:SAMPLE])
    leader = shape.members[0]
    handovers = list(handed.values_list("agent").annotate(n=Count("pk")))
    known = sum(recipient is not None for _, recipient in sample)
    ways = _scaled(_ways(sample, shape), totals["direct"], known)
    for agent, count in handovers:
        if agent in shape and agent != leader:
            ways[leader, agent] += count
    return Traffic(
        ways=ways,
        sources=Counter(sender for sender, recipient in sample if recipient is None and sender in shape),
        direct=totals["direct"],
        relayed=totals["relayed"] or 0,
        broadcasts=totals["broadcasts"],
        handed=sum(count for _, count in handovers),
        failures=events.filter(kind__in=(Event.Kind.LOST, Event.Kind.LEFT)).count(),
    )


def _ways(sample: Iterable[tuple[UUID, UUID | None]], shape: Topology[UUID]) -> Counter[tuple[UUID, UUID]]:
    return Counter((a, b) for a, b in sample if b is not None and a in shape and b in shape)


def _scaled(ways: Counter[tuple[UUID, UUID]], total: int, known: int) -> Counter[tuple[UUID, UUID]]:
    """So that ways of messages and of hand-overs weigh alike, each message of a sample stands for several."""
    return Counter({way: round(count * max(total / known, 1)) for way, count in ways.items()}) if known else ways


def _keep(
    federation: Federation, shape: Topology[UUID], traffic: Traffic[UUID], costs: dict[str, float], ended_at: datetime
) -> bool:
    """False when another process was first."""
    _, is_new = Reading.objects.get_or_create(
        federation=federation,
        ended_at=ended_at,
        defaults={
            "shape": shape.shape,
            "members": len(shape),
            "direct": traffic.direct,
            "relayed": traffic.relayed,
            "broadcasts": traffic.broadcasts,
            "handed": traffic.handed,
            "failures": traffic.failures,
            "costs": costs,
        },
    )
    if is_new:
        Reading.objects.filter(federation=federation, ended_at__lt=ended_at - KEPT).delete()
        live.shape_measured(federation)
    return is_new


def _change(federation: Federation, now: datetime) -> bool:
    readings = list(latest(federation)[: adapting.CONSECUTIVE])
    change = adapting.decide([reading.verdict for reading in readings], changes=_changes(federation, now), now=now)
    members = Agent.objects.linked().filter(federation=federation).count()
    if change is None or change.shape == federation.effective_topology(members):
        return False
    federation.adapted = change.shape
    journal.record(federation, Event.Kind.REWIRED, f"Re-wired as {change.shape}. {change.reason}", now=now)
    wiring.rewire(federation=federation, why=change.reason, now=now, figures=[_figures(each) for each in readings])
    return True


def latest(federation: Federation) -> QuerySet[Reading]:
    return Reading.objects.filter(federation=federation).order_by("-ended_at")


def _changes(federation: Federation, now: datetime) -> list[datetime]:
    """When the shape was changed by measurement in the last hour."""
    lately = TopologyVersion.objects.filter(federation=federation, created_at__gt=now - timedelta(hours=1))
    return list(lately.exclude(figures=None).values_list("created_at", flat=True))


def _figures(reading: Reading) -> dict[str, Any]:
    counted = ("shape", "members", "direct", "relayed", "broadcasts", "handed", "failures", "costs")
    return {"ended_at": reading.ended_at.isoformat(), **{name: getattr(reading, name) for name in counted}}
