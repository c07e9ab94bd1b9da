"""Nodes: registered, heard, drained, swept. The only writer of Node, HealthReport and StatusChange.

report  (every second, from each machine)   one statement; two more when the status changes
sweep   (every second, once for all)        finds the silent by one indexed query
"""

from __future__ import annotations

import hashlib
import json
import math
import secrets
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import IntegrityError, connection, transaction
from django.db.models import F, Value
from django.db.models.functions import Least
from uuid_utils.compat import uuid7

from scaling import health, leases, live, signals
from scaling.health import Status
from scaling.models import HealthReport, Node, StatusChange

TOKEN_PREFIX = "ntn_"
# A reading is kept this often, for a day; the status changes for a season.
KEEP_EVERY = timedelta(seconds=5)
KEEP_REPORTS = timedelta(days=1)
KEEP_CHANGES = timedelta(days=90)
SWEEP_SECONDS = 1.0
# A process that freezes while it holds a node's row must not hide that node's silence for longer than this.
FROZEN_SECONDS = 2.0


class NameTaken(Exception):
    """Raised when a node of that name exists."""

    code = "conflict"


class StillAlive(Exception):
    """Raised when a node is to be removed that works and takes work."""

    code = "conflict"


def register(
    *,
    name: str,
    role: str = "",
    region: str = "",
    weight: int = 1,
    beat_seconds: float = 1.0,
    metadata: dict[str, Any] | None = None,
    now: datetime,
) -> tuple[Node, str]:
    """Make a node that will report from elsewhere; the second value is its token, which cannot be had again."""
    token = _new_token()
    try:
        with transaction.atomic():
            node = Node.objects.create(
                name=name,
                role=role,
                region=region,
                weight=weight,
                beat_seconds=beat_seconds,
                metadata=metadata or {},
                token_digest=_digest(token),
                created_at=now,
            )
            live.node_changed(node.pk)
    except IntegrityError as taken:
        raise NameTaken(f"There is a node “{name}” already. Choose another name.") from taken
    return node, token


def renew_token(*, node: Node) -> str:
    """A new token for a node; the one before stops working."""
    token = _new_token()
    Node.objects.filter(pk=node.pk).update(token_digest=_digest(token))
    return token


def of_token(token: str) -> Node | None:
    """The node a token stands for, or None when it is unknown."""
    return Node.objects.filter(token_digest=_digest(token)).first()


def _new_token() -> str:
    return TOKEN_PREFIX + secrets.token_urlsafe(32)


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


# --- reports

# In the order of the model's fields, as `from_db` wants them.
_RETURNED = ("id", "name", "status", "weight", "draining", "beat_seconds", "heard_at", "worse", "better")
# What one beat does, in one statement so that beats of several processes cannot lose each other's parts:
# unmeasured parts keep their last value, processes are merged by kind, and every few seconds the reading
# is kept. A report older than the last one has no effect.
_BEAT = f"""
with beat as (
    insert into scaling_node as node (
        id, name, role, region, status, status_reason, cpu, memory, disk, in_flight, latency_ms, error_rate, weight,
        draining, beat_seconds, observed_at, last_seen_at, heard_at, check_at, kept_at, worse, better, metadata,
        token_digest, created_at)
    values (
        %(id)s, %(name)s, %(role)s, %(region)s, 'unknown', '', %(cpu)s, %(memory)s, %(disk)s, %(in_flight)s,
        %(latency_ms)s, %(error_rate)s, 1, false, %(beat_seconds)s, %(observed_at)s, %(now)s, %(now)s, null, %(now)s,
        0, 0, %(metadata)s::jsonb, '', %(now)s)
    on conflict (name) do update set
        role = coalesce(nullif(excluded.role, ''), node.role),
        region = coalesce(nullif(excluded.region, ''), node.region),
        cpu = coalesce(excluded.cpu, node.cpu),
        memory = coalesce(excluded.memory, node.memory),
        disk = coalesce(excluded.disk, node.disk),
        in_flight = coalesce(excluded.in_flight, node.in_flight),
        latency_ms = coalesce(excluded.latency_ms, node.latency_ms),
        error_rate = coalesce(excluded.error_rate, node.error_rate),
        observed_at = excluded.observed_at,
        last_seen_at = excluded.last_seen_at,
        heard_at = excluded.heard_at,
        check_at = excluded.heard_at + node.beat_seconds * interval '1 second' * case node.status
            when 'healthy' then {health.DEGRADED_AFTER_BEATS} when 'degraded' then {health.LEASE_BEATS} end,
        kept_at = case when node.kept_at is null or node.kept_at <= %(keep_before)s
            then excluded.last_seen_at else node.kept_at end,
        worse = case when %(level)s > case node.status when 'healthy' then 0 when 'degraded' then 1 else 2 end
            then least(node.worse + 1, 1000) else 0 end,
        better = case when %(level)s >= case node.status when 'healthy' then 0 when 'degraded' then 1 else 2 end
            then 0
            when excluded.heard_at - node.heard_at
                <= node.beat_seconds * interval '1 second' * {health.DEGRADED_AFTER_BEATS}
            then least(node.better + 1, 1000) else 1 end,
        metadata = node.metadata || excluded.metadata || case when excluded.metadata ? 'processes' then
            jsonb_build_object('processes',
                coalesce(node.metadata -> 'processes', '{{}}'::jsonb) || (excluded.metadata -> 'processes'))
            else '{{}}'::jsonb end || case when excluded.metadata ? 'told' then
            jsonb_build_object('told',
                coalesce(node.metadata -> 'told', '{{}}'::jsonb) || (excluded.metadata -> 'told'))
            else '{{}}'::jsonb end
    where node.observed_at is null or node.observed_at < excluded.observed_at
    returning *
), kept as (
    insert into scaling_healthreport (id, node_id, at, status, cpu, memory, disk, in_flight, latency_ms, error_rate)
    select %(report_id)s, id, last_seen_at, %(reading)s, cpu, memory, disk, in_flight, latency_ms, error_rate
    from beat where kept_at = last_seen_at
    on conflict do nothing
)
select {", ".join(_RETURNED)} from beat
"""


def report(
    *,
    name: str,
    role: str = "",
    region: str = "",
    cpu: float | None = None,
    memory: float | None = None,
    disk: float | None = None,
    in_flight: int | None = None,
    latency_ms: float | None = None,
    error_rate: float | None = None,
    observed_at: datetime,
    now: datetime,
    beat_seconds: float = 1.0,
    metadata: dict[str, Any] | None = None,
) -> Node:
    """A node's beat. A name not heard of before joins; None means not measured by this reporter."""
    metrics = health.Metrics(cpu=cpu, memory=memory, disk=disk, latency_ms=latency_ms, error_rate=error_rate)
    finding = health.classify(metrics)
    given = {field: _finite(getattr(metrics, field)) for field in metrics.__dataclass_fields__}
    with connection.cursor() as cursor:
        cursor.execute(
            _BEAT,
            {
                **given,
                "id": uuid7(),
                "report_id": uuid7(),
                "name": name,
                "role": role,
                "region": region,
                "in_flight": in_flight,
                "beat_seconds": beat_seconds,
                # A clock that runs ahead must not make the next reports look old.
                "observed_at": min(observed_at, now),
                "now": now,
                "keep_before": now - KEEP_EVERY,
                "level": health.LEVEL[finding.status],
                "reading": finding.status.value,
                "metadata": json.dumps(metadata or {}),
            },
        )
        row = cursor.fetchone()
    if row is None:
        return Node.objects.only(*_RETURNED).get(name=name)
    node: Node = Node.from_db(connection.alias, _RETURNED, row)
    if _after(node, finding).status != node.status:
        node = _turn(node.pk, finding, now)
    live.node_changed(node.pk)
    return node


def _after(node: Node, finding: health.Finding) -> health.Finding:
    return health.after_report(Status(node.status), finding, worse=node.worse, better=node.better)


@transaction.atomic
def _turn(node_id: UUID, finding: health.Finding, now: datetime) -> Node:
    """The status changes, unless another process's beat was first."""
    leases.limit_idleness(seconds=FROZEN_SECONDS)
    node = Node.objects.select_for_update().only(*_RETURNED).get(pk=node_id)
    after = _after(node, finding)
    if after.status != node.status:
        _move([(node, after)], at=now)
    return node


def _finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else value


def _move(moves: list[tuple[Node, health.Finding]], *, at: datetime) -> None:
    """Give locked nodes their new status, and say why."""
    changes = []
    before = {node.pk: node.status for node, _ in moves}
    for node, finding in moves:
        changes.append(
            StatusChange(node=node, at=at, before=node.status, after=finding.status, reason=finding.reason[:300])
        )
        node.status, node.status_reason = finding.status, finding.reason[:300]
        node.worse = node.better = 0
        node.check_at = health.look_again_at(
            finding.status, heard_at=node.heard_at or at, beat_seconds=node.beat_seconds
        )
    Node.objects.bulk_update(
        [node for node, _ in moves], ["status", "status_reason", "worse", "better", "check_at"], batch_size=500
    )
    StatusChange.objects.bulk_create(changes, batch_size=500)
    for node, _ in moves:
        signals.node_status_changed.send(sender=Node, node=node, before=before[node.pk], at=at)


# --- silence


def sweep(*, now: datetime, real_seconds: float) -> int:
    """Mark the nodes that fell silent; returns how many changed. `real_seconds` is the machine's own clock."""
    _forgive(seconds=_lateness(real_seconds), now=now)
    # Looked up without a lock: nearly always there is none, and then no transaction can freeze with one held.
    late = list(Node.objects.filter(check_at__lte=now).order_by("pk").values_list("pk", flat=True))
    return _mark_silent(late, now) if late else 0


@transaction.atomic
def _mark_silent(late: list[UUID], now: datetime) -> int:
    leases.limit_idleness(seconds=FROZEN_SECONDS)
    moves = []
    for node in Node.objects.select_for_update(skip_locked=True).filter(pk__in=late, check_at__lte=now).order_by("pk"):
        found = health.after_silence(
            Status(node.status), heard_at=node.heard_at or now, beat_seconds=node.beat_seconds, now=now
        )
        if found.status != node.status:
            moves.append((node, found))
    _move(moves, at=now)
    for node, _ in moves:
        live.node_changed(node.pk)
    return len(moves)


# The inner select sees the value from before, so one statement both reads and sets the clock.
_TICK = """
insert into scaling_sweepclock as clock (name, ran_at_seconds) values ('nodes', %(real)s)
on conflict (name) do update set ran_at_seconds = greatest(clock.ran_at_seconds, excluded.ran_at_seconds)
returning (select ran_at_seconds from scaling_sweepclock where name = 'nodes')
"""


def _lateness(real_seconds: float) -> float:
    with connection.cursor() as cursor:
        cursor.execute(_TICK, {"real": real_seconds})
        before = cursor.fetchone()[0]
    elapsed = 0.0 if before is None else real_seconds - before
    return health.lateness(elapsed_seconds=elapsed, interval_seconds=SWEEP_SECONDS)


def _forgive(*, seconds: float, now: datetime) -> None:
    """While no one swept, reports may have had nowhere to go: silence of that time does not count."""
    if not seconds:
        return
    late = timedelta(seconds=seconds)
    Node.objects.filter(check_at__isnull=False).update(
        check_at=F("check_at") + Least(Value(late), Value(now) - F("heard_at")),
        heard_at=Least(F("heard_at") + Value(late), Value(now)),
    )


@transaction.atomic
def prune(*, now: datetime) -> int:
    """Forget old readings and status changes; returns how many."""
    reports, _ = HealthReport.objects.filter(at__lt=now - KEEP_REPORTS).delete()
    changes, _ = StatusChange.objects.filter(at__lt=now - KEEP_CHANGES).delete()
    return int(reports + changes)


# --- by people


@transaction.atomic
def drain(*, node: Node) -> Node:
    """No new work for the node; what runs there goes on. Again: nothing changes."""
    return _set_draining(node, draining=True)


@transaction.atomic
def resume(*, node: Node) -> Node:
    """New work for the node again."""
    return _set_draining(node, draining=False)


def _set_draining(node: Node, *, draining: bool) -> Node:
    if Node.objects.filter(pk=node.pk, draining=not draining).update(draining=draining):
        live.node_changed(node.pk)
    node.refresh_from_db()
    return node


@transaction.atomic
def remove(*, node: Node) -> None:
    """Forget a machine that is gone, or one that was drained first."""
    gone = Node.objects.filter(pk=node.pk).exclude(draining=False, status__in=[Status.HEALTHY, Status.DEGRADED])
    if not gone.delete()[0]:
        raise StillAlive(f"The node {node.name} still works. Drain it first, then remove it.")
    live.node_changed(node.pk)
