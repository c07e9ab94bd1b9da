"""Picks: a balancer's choice among the nodes that are healthy now, counted as in flight until released."""

from __future__ import annotations

import random
from datetime import datetime, timedelta
from uuid import UUID

from django.db import IntegrityError, transaction
from django.db.models import Count, Q

from scaling import balancer as rules
from scaling import live
from scaling.health import Status
from scaling.models import Balancer, Node, Pick

# A pick nobody releases stops counting after this long.
PICK_SECONDS = 300
KEEP_PICKS = timedelta(days=1)
RETRY_SECONDS = 1.0
# A degraded node gets half of what it would get healthy.
WEIGHT_OF = {Status.HEALTHY: 2, Status.DEGRADED: 1}


class BalancerExists(Exception):
    """Raised when a balancer of that name exists."""

    code = "conflict"


class NothingHealthy(Exception):
    """Raised by `pick` when no node may get work."""

    code = "scaling_error"
    retry_after = RETRY_SECONDS


class AlreadyReleased(Exception):
    """Raised by `release` the second time."""

    code = "conflict"
    extras = {"state": "released"}


def create(*, name: str, strategy: str, role: str = "", region: str = "", now: datetime) -> Balancer:
    try:
        with transaction.atomic():
            return Balancer.objects.create(name=name, strategy=strategy, role=role, region=region, created_at=now)
    except IntegrityError as taken:
        raise BalancerExists(f"There is a balancer “{name}” already. Choose another name.") from taken


def change(*, balancer: Balancer, **fields: str) -> Balancer:
    """Another name, strategy, role or region. What the rotation remembered starts anew."""
    for field, value in fields.items():
        setattr(balancer, field, value)
    balancer.last_pick, balancer.owed = "", {}
    try:
        with transaction.atomic():
            balancer.save(update_fields=[*fields, "last_pick", "owed"])
            live.balancer_changed(balancer.pk)
    except IntegrityError as taken:
        raise BalancerExists("There is a balancer of that name already. Choose another name.") from taken
    return balancer


def remove(*, balancer: Balancer) -> None:
    balancer.delete()


@transaction.atomic
def pick(*, balancer: Balancer, key: str = "", now: datetime) -> Pick:
    """One node for one piece of work. Counted at once, so that the next pick sees it."""
    # The row's lock makes the counts exact: picks of one balancer happen one after the other.
    balancer = Balancer.objects.select_for_update().get(pk=balancer.pk)
    choices = _choices(balancer, now)
    if not choices:
        raise NothingHealthy("No healthy node can take work now. Try again in a moment.")
    turn = rules.Turn(last=balancer.last_pick, owed=balancer.owed)
    chosen, turn = rules.pick(balancer.strategy, list(choices), turn=turn, draw=random.SystemRandom(), key=key or None)
    Balancer.objects.filter(pk=balancer.pk).update(last_pick=turn.last, owed=dict(turn.owed))
    found = Pick.objects.create(
        balancer=balancer,
        node=choices[chosen],
        key=key[:200],
        created_at=now,
        expires_at=now + timedelta(seconds=PICK_SECONDS),
    )
    live.balancer_changed(balancer.pk)
    return found


def _choices(balancer: Balancer, now: datetime) -> dict[rules.Choice, Node]:
    nodes = Node.objects.filter(status__in=list(WEIGHT_OF), draining=False, weight__gt=0)
    if balancer.role:
        nodes = nodes.filter(role=balancer.role)
    if balancer.region:
        nodes = nodes.filter(region=balancer.region)
    flying = in_flight(balancer=balancer, now=now)
    return {
        rules.Choice(
            name=node.name,
            weight=node.weight * WEIGHT_OF[Status(node.status)],
            in_flight=flying.get(node.pk, 0),
            latency_ms=balancer.latencies_ms.get(str(node.pk)),
        ): node
        for node in nodes.order_by("name")
    }


def in_flight(*, balancer: Balancer, now: datetime) -> dict[UUID, int]:
    """How many picks of each node are open."""
    is_open = Pick.objects.filter(balancer=balancer, released_at__isnull=True, expires_at__gt=now)
    return dict(is_open.values_list("node").annotate(Count("pk")).order_by("node"))


@transaction.atomic
def release(*, pick: Pick, latency_ms: float | None = None, ok: bool = True, now: datetime) -> Pick:
    """End a pick and learn from how it went; without a latency the time since the pick counts."""
    balancer = Balancer.objects.select_for_update().get(pk=pick.balancer_id)
    took_ms = max((now - pick.created_at).total_seconds() * 1000, 0.0) if latency_ms is None else latency_ms
    is_open = Pick.objects.filter(pk=pick.pk, released_at__isnull=True)
    if not is_open.update(released_at=now, latency_ms=took_ms, ok=ok):
        raise AlreadyReleased("This pick was released before.")
    node = str(pick.node_id)
    balancer.latencies_ms[node] = rules.averaged(balancer.latencies_ms.get(node), took_ms, ok=ok)
    balancer.save(update_fields=["latencies_ms"])
    live.balancer_changed(balancer.pk)
    pick.refresh_from_db()
    return pick


def shares(*, balancer: Balancer, now: datetime) -> list[dict[str, object]]:
    """For each node with picks in the last hour: how many, in flight, failed, and its average latency."""
    recent = (
        Pick.objects.filter(balancer=balancer, created_at__gt=now - timedelta(hours=1))
        .values("node", "node__name", "node__status", "node__draining")
        .annotate(
            picks=Count("pk"),
            failed=Count("pk", filter=Q(ok=False)),
            in_flight=Count("pk", filter=Q(released_at__isnull=True, expires_at__gt=now)),
        )
        .order_by("node__name")
    )
    total = sum(row["picks"] for row in recent) or 1
    return [
        {**row, "share": row["picks"] / total, "latency_ms": balancer.latencies_ms.get(str(row["node"]))}
        for row in recent
    ]


def prune(*, now: datetime) -> int:
    """Forget picks of long ago; returns how many."""
    return int(Pick.objects.filter(expires_at__lt=now - KEEP_PICKS).delete()[0])
