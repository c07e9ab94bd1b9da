"""What the overview shows: key numbers, the topology of one federation, what happened, the federations."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from itertools import chain
from typing import Any

from django.db.models import Count, Max, Q, Sum
from django.db.models.functions import TruncMinute
from django.urls import reverse
from django.utils import timezone

from billing.models import Account, LedgerAccount, UsageRecord
from federation.models import Agent, Event, Federation, Task
from ntd_site import formats
from sandboxes.models import Execution
from scaling.models import Node, StatusChange

MINUTES = 15
FEDERATIONS = 8
EVENTS = 12
LIVE_EXECUTIONS = ("queued", "starting", "running")
# How an event of a federation is marked; its words are in its text.
MARK_OF_EVENT = {"lost": "lost", "leaderless": "lost", "dead": "dead", "reassigned": "degraded", "left": "gone"}


def kpis(account: Account, principal: Any, now: datetime) -> list[dict[str, Any]]:
    """The key numbers; each links to what it counts."""
    numbers = [_agents(account), _tasks(account, now), _executions(account), _credits(account), _spent(account, now)]
    if principal.is_staff:
        numbers.insert(1, _nodes(account))
    return numbers


def _agents(account: Account) -> dict[str, Any]:
    members = Agent.objects.members().filter(federation__account=account, federation__deleted_at=None)
    found = members.aggregate(all=Count("pk"), off=Count("pk", filter=~Q(availability=Agent.Availability.AVAILABLE)))
    note = f"{found['off']} lost or unavailable" if found["off"] else "all available"
    url = reverse("federation:federations", args=[account])
    return {"id": "kpi-agents", "label": "Agents", "value": found["all"], "note": note, "url": url}


def _nodes(account: Account) -> dict[str, Any]:
    found = Node.objects.aggregate(all=Count("pk"), healthy=Count("pk", filter=Q(status="healthy")))
    share = found["healthy"] / found["all"] if found["all"] else None
    ailing = found["all"] - found["healthy"]
    return {
        "id": "kpi-nodes",
        "label": "Healthy nodes",
        "value": found["healthy"],
        "unit": f"of {found['all']}",
        "note": "" if share is None or share == 1 else f"{ailing} {'needs' if ailing == 1 else 'need'} a look",
        "url": reverse("scaling:nodes", args=[account]),
    }


def _tasks(account: Account, now: datetime) -> dict[str, Any]:
    series = finished_per_minute(Task.objects.filter(federation__account=account), now)
    waiting = Task.objects.queued().filter(federation__account=account).count()
    return {
        "id": "kpi-tasks",
        "label": "Tasks finished",
        "value": sum(series),
        "unit": f"in {MINUTES} min",
        "note": f"{waiting} waiting" if waiting else "none waiting",
        "series": series,
        "url": reverse("federation:federations", args=[account]),
    }


def finished_per_minute(tasks: Any, now: datetime) -> list[int]:
    """How many of them ended in each of the last minutes, the oldest first."""
    this_minute = now.replace(second=0, microsecond=0)
    first = this_minute - timedelta(minutes=MINUTES - 1)
    rows = tasks.filter(finished_at__gte=first).annotate(minute=TruncMinute("finished_at")).values_list("minute")
    counts = dict(rows.annotate(Count("pk")).order_by())
    return [counts.get(first + timedelta(minutes=number), 0) for number in range(MINUTES)]


def _executions(account: Account) -> dict[str, Any]:
    found = Execution.objects.filter(account=account, state__in=LIVE_EXECUTIONS).aggregate(
        running=Count("pk", filter=~Q(state="queued")), queued=Count("pk", filter=Q(state="queued"))
    )
    return {
        "id": "kpi-executions",
        "label": "Sandboxes in use",
        "value": found["running"],
        "note": f"{found['queued']} queued" if found["queued"] else "nothing queued",
        "url": reverse("sandboxes:executions", args=[account]),
    }


def _credits(account: Account) -> dict[str, Any]:
    wallet = LedgerAccount.objects.filter(account=account).order_by("pk").first()
    available, held = (wallet.available_ucr, wallet.held_ucr) if wallet else (0, 0)
    return {
        "id": "kpi-credits",
        "label": "Credits available",
        "value": formats.credits(available, 2),
        "note": f"{formats.credits(held)} on hold" if held else "none on hold",
        "url": reverse("billing:overview", args=[account]),
    }


def _spent(account: Account, now: datetime) -> dict[str, Any]:
    today = now.replace(hour=0, minute=0, second=0, microsecond=0)
    spent = UsageRecord.objects.filter(account=account, occurred_at__gte=today).aggregate(Sum("cost_ucr"))
    return {
        "id": "kpi-spent",
        "label": "Spent today",
        "value": formats.credits(spent["cost_ucr__sum"] or 0, 2),
        "note": "since midnight UTC",
        "url": reverse("billing:usage", args=[account]),
    }


def federations(account: Account, now: datetime) -> list[dict[str, Any]]:
    """The newest federations, with how they are."""
    member = Q(agents__left_at=None, agents__isnull=False)
    available = member & Q(agents__availability=Agent.Availability.AVAILABLE)
    found = list(
        Federation.objects.present()
        .filter(account=account)
        .annotate(
            members=Count("agents", filter=member, distinct=True),
            available=Count("agents", filter=available, distinct=True),
        )
        .order_by("-created_at", "-pk")[:FEDERATIONS]
    )
    last = dict(Event.objects.filter(federation__in=found).values_list("federation").annotate(Max("created_at")))
    return [_federation(account, one, last.get(one.pk), now) for one in found]


def _federation(account: Account, one: Any, last_event_at: datetime | None, now: datetime) -> dict[str, Any]:
    health = one.available / one.members if one.members else None
    return {
        "id": one.pk,
        "name": one.name,
        "url": reverse("federation:federation", args=[account, one.pk]),
        "topology": one.topology,
        "state": state_of(health),
        "agent_count": one.members,
        "health": health,
        "spark": finished_per_minute(Task.objects.filter(federation=one), now),
        "last_event_at": last_event_at,
    }


def state_of(health: float | None) -> str:
    """How a federation is, from the share of its agents that are available."""
    if health is None:
        return "idle"
    if health == 1:
        return "healthy"
    return "degraded" if health >= 0.5 else "unhealthy"


def activity(account: Account, principal: Any) -> list[dict[str, Any]]:
    """What happened last: events of federations, executions that failed, and for staff how nodes fare."""
    sources: list[Iterable[dict[str, Any]]] = [_events(account), _failures(account)]
    if principal.is_staff:
        sources.append(_node_changes(account))
    return sorted(chain(*sources), key=lambda item: item["at"], reverse=True)[:EVENTS]


def _events(account: Account) -> Iterable[dict[str, Any]]:
    found = Event.objects.filter(federation__account=account, federation__deleted_at=None)
    for event in found.select_related("federation").order_by("-created_at", "-pk")[:EVENTS]:
        yield {
            "state": MARK_OF_EVENT.get(event.kind, "active"),
            "text": f"{event.federation.name}: {event.text}",
            "url": reverse("federation:federation", args=[account, event.federation_id]),
            "at": event.created_at,
        }


def _failures(account: Account) -> Iterable[dict[str, Any]]:
    found = Execution.objects.filter(account=account, state__in=("failed", "timed_out"), finished_at__isnull=False)
    for execution in found.order_by("-created_at", "-pk").only("id", "state", "finished_at", "breach", "metadata")[
        :EVENTS
    ]:
        how = f"ended at its {execution.breach} limit" if execution.breach else "failed"
        yield {
            "state": execution.state,
            "text": f"Execution {execution.name} {how}",
            "url": reverse("sandboxes:execution", args=[account, execution.pk]),
            "at": execution.finished_at,
        }


def _node_changes(account: Account) -> Iterable[dict[str, Any]]:
    """The last of each node: one that wavers must not push everything else out."""
    latest = StatusChange.objects.select_related("node").order_by("node", "-at", "-pk").distinct("node")
    for change in sorted(latest, key=lambda change: change.at, reverse=True)[:EVENTS]:
        yield {
            "state": change.after,
            "text": f"Node {change.node.name} is {change.after}: {change.reason}",
            "url": reverse("scaling:node", args=[account, change.node_id]),
            "at": change.at,
        }


def pinned(account: Account) -> dict[str, Any] | None:
    """The federation drawn on the overview: the newest with agents."""
    found = (
        Federation.objects.present()
        .filter(account=account, agents__left_at=None)
        .order_by("-created_at", "-pk")
        .distinct()
        .first()
    )
    if found is None:
        return None
    placeholder = "00000000-0000-0000-0000-000000000000"
    agents = Agent.objects.members().filter(federation=found).with_running().order_by("position")
    return {
        "name": found.name,
        "url": reverse("federation:federation", args=[account, found.pk]),
        "snapshot_url": reverse("federation:graph", args=[account, found.pk]),
        "agent_url": reverse("federation:agent", args=[account, placeholder]).replace(placeholder, "__id__"),
        "topic": f"topology-{found.pk}",
        "agents": [
            {"name": agent.name, "state": agent.status, "url": reverse("federation:agent", args=[account, agent.pk])}
            for agent in agents[:200]
        ],
    }


def page(account: Account, principal: Any) -> dict[str, Any]:
    now = timezone.now()
    return {
        "kpis": kpis(account, principal, now),
        "pinned": pinned(account),
        "activity": activity(account, principal),
        "federations": federations(account, now),
    }
