"""Nodes: beats in one statement, damping, silence, lateness, drains."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any

import pytest
import redis
from django.conf import settings
from django.db import DatabaseError, IntegrityError, connection, transaction
from django.utils import timezone

from scaling import leases, nodes
from scaling.models import HealthReport, Node, StatusChange
from tests.factories import make_account, make_key, make_node, make_staff, make_user

pytestmark = pytest.mark.django_db
NOW = timezone.now()


def beat(at: float = 0, **changes: Any) -> Node:
    now = NOW + timedelta(seconds=at)
    return nodes.report(**{"name": "alpha", "cpu": 0.2, "memory": 0.3, "observed_at": now, "now": now} | changes)


def status() -> str:
    return Node.objects.get(name="alpha").status


def sweep(at: float, *, after: float = 1) -> int:
    """A sweep at a domain time, `after` real seconds after the one before."""
    sweep.real += after  # type: ignore[attr-defined]
    return nodes.sweep(now=NOW + timedelta(seconds=at), real_seconds=sweep.real)  # type: ignore[attr-defined]


sweep.real = 1000.0  # type: ignore[attr-defined]


# --- reports


def test_a_first_beat_makes_the_node_and_sets_its_status() -> None:
    beat(role="worker", region="eu", in_flight=3, latency_ms=12)

    node = Node.objects.get(name="alpha")
    assert (node.status, node.role, node.region, node.in_flight, node.latency_ms) == ("healthy", "worker", "eu", 3, 12)
    assert node.last_seen_at == node.heard_at == NOW
    assert [(change.before, change.after) for change in node.changes.all()] == [("unknown", "healthy")]


def test_a_further_beat_is_one_statement(django_assert_num_queries: Any) -> None:
    beat()

    with django_assert_num_queries(1):
        beat(1)


def test_what_a_reporter_does_not_measure_keeps_its_last_value() -> None:
    beat(in_flight=4, disk=0.5)
    beat(1)

    node = Node.objects.get(name="alpha")
    assert (node.in_flight, node.disk) == (4, 0.5)


def test_processes_of_one_machine_keep_a_line_each() -> None:
    beat(metadata={"cores": 2, "processes": {"web": {"pid": 1}}})
    beat(0.1, metadata={"processes": {"worker": {"pid": 2}}})
    beat(0.2, metadata={"processes": {"web": {"pid": 3}}})

    assert Node.objects.get(name="alpha").metadata == {
        "cores": 2,
        "processes": {"web": {"pid": 3}, "worker": {"pid": 2}},
    }


def test_a_report_older_than_the_last_has_no_effect() -> None:
    beat(10, cpu=0.2)

    late = beat(11, cpu=0.99, observed_at=NOW)

    node = Node.objects.get(name="alpha")
    assert late.pk == node.pk
    assert (node.cpu, node.last_seen_at) == (0.2, NOW + timedelta(seconds=10))


def test_a_clock_that_runs_ahead_does_not_make_the_next_report_look_old() -> None:
    beat(0, observed_at=NOW + timedelta(minutes=5))
    beat(1, cpu=0.5)

    assert Node.objects.get(name="alpha").cpu == 0.5


def test_a_reading_that_is_not_a_number_is_stored_as_unknown() -> None:
    beat(cpu=float("nan"))

    node = Node.objects.get(name="alpha")
    assert (node.cpu, node.status) == (None, "degraded")


def test_readings_are_kept_every_five_seconds() -> None:
    for second in range(12):
        beat(second)

    kept = HealthReport.objects.order_by("at").values_list("at", flat=True)
    assert [(at - NOW).total_seconds() for at in kept] == [0, 5, 10]


def test_one_bad_reading_flips_nothing_and_two_do() -> None:
    beat()
    beat(1, cpu=0.95)
    after_one = status()
    beat(2, cpu=0.95)

    assert (after_one, status()) == ("healthy", "unhealthy")
    assert StatusChange.objects.latest("at").reason == "CPU is at 95%; the limit is 90%."


def test_alternating_readings_never_flip() -> None:
    for second in range(20):
        beat(second, cpu=0.95 if second % 2 else 0.1)

    assert StatusChange.objects.count() == 1


def test_two_good_beats_recover() -> None:
    beat()
    beat(1, cpu=0.8)
    beat(2, cpu=0.8)
    worst = status()
    beat(3)
    after_one = status()
    beat(4)

    assert (worst, after_one, status()) == ("degraded", "degraded", "healthy")


# --- silence


def test_silence_degrades_and_then_ends_the_lease() -> None:
    beat()
    seen = []
    for second in (0.5, 1.5, 2.5, 3.5, 4.5, 5.5):
        sweep(second)
        seen.append(status())

    assert seen == ["healthy", "healthy", "degraded", "degraded", "unhealthy", "unhealthy"]
    assert "4 missed" in StatusChange.objects.latest("at").reason


def test_a_node_with_a_slower_beat_has_a_longer_lease() -> None:
    make_node("slow", beat_seconds=10, now=NOW)
    nodes.report(name="slow", cpu=0.1, observed_at=NOW + timedelta(seconds=1), now=NOW + timedelta(seconds=1))

    sweep(20)

    assert Node.objects.get(name="slow").status == "healthy"


def test_a_node_back_from_silence_needs_two_beats_in_a_row() -> None:
    beat()
    sweep(10)
    beat(20)
    after_one = status()
    beat(30)
    still = status()
    beat(31)

    assert (after_one, still, status()) == ("unhealthy", "unhealthy", "healthy")


def test_a_registered_node_that_never_reported_stays_unknown() -> None:
    make_node("new", status="unknown")

    sweep(1000)

    assert Node.objects.get(name="new").status == "unknown"


def test_a_quiet_sweep_is_few_queries_however_many_nodes(django_assert_num_queries: Any) -> None:
    for number in range(20):
        nodes.report(name=f"n{number}", cpu=0.1, observed_at=NOW, now=NOW)
    sweep(0.5)

    with django_assert_num_queries(2):  # the clock, the late ones
        sweep(1)


def test_a_late_sweep_forgives_the_silence_of_its_own_pause() -> None:
    beat()
    sweep(0)

    sweep(60, after=60)
    right_after = status()
    sweep(62)
    sweep(66)

    assert (right_after, status()) == ("healthy", "unhealthy")


def test_a_jump_of_the_test_clock_counts_as_silence() -> None:
    beat()
    sweep(0)

    sweep(60, after=0.2)

    assert status() == "unhealthy"


def test_forgiving_never_moves_a_beat_into_the_future() -> None:
    beat(59.5)
    sweep(0)

    sweep(60, after=60)

    node = Node.objects.get(name="alpha")
    assert node.heard_at == NOW + timedelta(seconds=60)
    assert node.last_seen_at == NOW + timedelta(seconds=59.5)


# --- registering, tokens, draining, removing


def test_a_token_stands_for_its_node_until_it_is_renewed() -> None:
    node, token = nodes.register(name="far", now=NOW)
    renewed = nodes.renew_token(node=node)

    assert nodes.of_token(token) is None
    assert nodes.of_token(renewed) == node
    assert renewed not in Node.objects.values_list("token_digest", flat=True)


def test_a_name_is_given_once() -> None:
    nodes.register(name="far", now=NOW)

    with pytest.raises(nodes.NameTaken, match="far"):
        nodes.register(name="far", now=NOW)


def test_draining_twice_is_once_and_resuming_ends_it() -> None:
    node = make_node()

    assert nodes.drain(node=node).draining
    assert nodes.drain(node=node).draining
    assert not nodes.resume(node=node).draining


def test_a_node_that_works_is_drained_before_it_is_removed() -> None:
    node = make_node()

    with pytest.raises(nodes.StillAlive):
        nodes.remove(node=node)
    nodes.drain(node=node)
    nodes.remove(node=node)

    assert not Node.objects.exists()


def test_old_readings_and_changes_are_forgotten() -> None:
    beat()
    beat(6)

    forgotten = nodes.prune(now=NOW + timedelta(days=1, seconds=3))

    assert (forgotten, HealthReport.objects.count(), StatusChange.objects.count()) == (1, 1, 1)


# --- who sees them, and what the database refuses


def test_only_staff_and_keys_of_the_area_see_nodes() -> None:
    make_node()
    account = make_account()
    reader, _ = make_key(account, scopes=("scaling:read",))
    other, _ = make_key(account, scopes=("billing:read",))
    from billing.keys import KeyPrincipal

    seen = {
        "stella": Node.objects.visible_to(make_staff()).count(),
        "charlie": Node.objects.visible_to(make_user("Charlie")).count(),
        "reader": Node.objects.visible_to(KeyPrincipal(reader)).count(),
        "reader writes": Node.objects.editable_by(KeyPrincipal(reader)).count(),
        "other": Node.objects.visible_to(KeyPrincipal(other)).count(),
    }

    assert seen == {"stella": 1, "charlie": 0, "reader": 1, "reader writes": 0, "other": 0}


@pytest.mark.parametrize(
    "broken",
    [
        {"status": "fine"},
        {"cpu": 1.1},
        {"error_rate": -0.1},
        {"latency_ms": -1},
        {"beat_seconds": 0},
        {"weight": 257},
        {"last_seen_at": None},
        {"status": "unhealthy", "last_seen_at": None, "heard_at": None},
    ],
)
def test_the_database_refuses_an_impossible_node(broken: dict[str, Any]) -> None:
    with pytest.raises(IntegrityError), transaction.atomic():
        make_node(**broken)


def test_a_beat_nudges_the_nodes_pages(django_capture_on_commit_callbacks: Any) -> None:
    listener = redis.Redis.from_url(settings.REDIS_URL).pubsub(ignore_subscribe_messages=True)
    listener.subscribe("ntd:live")
    listener.get_message(timeout=1)

    with django_capture_on_commit_callbacks(execute=True):
        node = beat()

    said = json.loads(listener.get_message(timeout=2)["data"])
    listener.close()
    assert said == [{"account": None, "topics": [f"node-{node.pk}", "nodes"]}]


# --- races


def together(*acts: Any) -> list[Any]:
    def run(act: Any) -> Any:
        try:
            return act()
        finally:
            connection.close()

    with ThreadPoolExecutor(len(acts)) as pool:
        return list(pool.map(run, acts))


@pytest.mark.django_db(transaction=True)
def test_first_beats_of_several_processes_make_one_node() -> None:
    def first(process: str) -> Any:
        return lambda: beat(int(process) / 1000, metadata={"processes": {process: {"pid": 1}}})

    together(*[first(str(number)) for number in range(4)])

    node = Node.objects.get()
    assert (node.status, StatusChange.objects.count()) == ("healthy", 1)
    assert node.metadata["processes"]


@pytest.mark.django_db(transaction=True)
def test_a_process_that_freezes_while_it_holds_a_node_does_not_hide_its_silence() -> None:
    beat()
    holds, thaw = threading.Event(), threading.Event()

    def freezes() -> None:
        with contextlib.suppress(DatabaseError), transaction.atomic():
            leases.limit_idleness(seconds=0.2)
            Node.objects.select_for_update().get()
            holds.set()
            thaw.wait(10)
        connection.close()

    frozen = threading.Thread(target=freezes)
    frozen.start()
    holds.wait(5)
    counted, tries = 0, time.monotonic() + 5
    while not counted and time.monotonic() < tries:
        counted = sweep(10)
    thaw.set()
    frozen.join()

    assert counted == 1


@pytest.mark.django_db(transaction=True)
def test_of_two_sweeps_at_once_one_marks_the_silent() -> None:
    beat()
    late: datetime = NOW + timedelta(seconds=10)

    counted = together(*[lambda: nodes.sweep(now=late, real_seconds=5.0)] * 3)

    assert sum(counted) == 1
    assert StatusChange.objects.filter(after="unhealthy").count() == 1
