"""Picks: only the healthy, counted exactly, learnt from."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from django.db import IntegrityError, connection, transaction
from django.utils import timezone

from scaling import balancer as rules
from scaling import nodes, picks
from scaling.models import Balancer, Pick
from tests.factories import make_balancer, make_node

pytestmark = pytest.mark.django_db
NOW = timezone.now()


def pick(balancer: Balancer, at: float = 0, key: str = "") -> Pick:
    return picks.pick(balancer=balancer, key=key, now=NOW + timedelta(seconds=at))


@pytest.mark.parametrize("strategy", list(rules.Strategy))
def test_every_strategy_picks_a_healthy_node(strategy: str) -> None:
    good = make_node("good")
    make_node("bad", status="unhealthy")
    make_node("new", status="unknown")
    make_node("leaving", draining=True)
    make_node("weightless", weight=0)

    assert {pick(make_balancer(strategy), key="10.0.0.1").node for _ in range(5)} == {good}


def test_with_nothing_healthy_it_says_so_and_when_to_come_back() -> None:
    make_node(status="unhealthy")

    with pytest.raises(picks.NothingHealthy) as refused:
        pick(make_balancer())

    assert (refused.value.code, refused.value.retry_after) == ("scaling_error", 1.0)


def test_a_balancer_keeps_to_its_role_and_region() -> None:
    make_node("other", role="coordinator")
    make_node("far", role="worker", region="us")
    near = make_node("near", role="worker", region="eu")

    assert pick(make_balancer(role="worker", region="eu")).node == near


def test_the_rotation_goes_on_from_pick_to_pick() -> None:
    for name in "abc":
        make_node(name)
    balancer = make_balancer("round_robin")

    assert "".join(pick(balancer).node.name for _ in range(6)) == "abcabc"


def test_weights_are_kept_exactly() -> None:
    make_node("a", weight=3)
    make_node("b", weight=1)
    balancer = make_balancer("weighted_round_robin")

    assert Counter(pick(balancer).node.name for _ in range(8)) == {"a": 6, "b": 2}


def test_a_degraded_node_gets_half() -> None:
    make_node("a")
    make_node("b", status="degraded")
    balancer = make_balancer("weighted_round_robin")

    assert Counter(pick(balancer).node.name for _ in range(9)) == {"a": 6, "b": 3}


def test_open_picks_count_until_released() -> None:
    make_node("a")
    make_node("b")
    balancer = make_balancer("least_connections")
    first, second = pick(balancer), pick(balancer)
    picks.release(pick=first, now=NOW)

    third = pick(balancer)

    assert {first.node, second.node} != {first.node}
    assert third.node == first.node


def test_a_pick_nobody_releases_stops_counting() -> None:
    node = make_node("a")
    balancer = make_balancer("least_connections")
    pick(balancer)

    during = picks.in_flight(balancer=balancer, now=NOW + timedelta(seconds=299))
    after = picks.in_flight(balancer=balancer, now=NOW + timedelta(seconds=300))

    assert (during, after) == ({node.pk: 1}, {})


def test_a_slow_node_gets_less() -> None:
    slow = make_node("slow")
    fast = make_node("fast")
    balancer = make_balancer("least_response_time", latencies_ms={str(slow.pk): 900.0, str(fast.pk): 30.0})

    found = Counter()
    for _ in range(10):
        chosen = pick(balancer)
        found[chosen.node.name] += 1
        picks.release(pick=chosen, latency_ms=900 if chosen.node == slow else 30, now=NOW)

    assert found == {"fast": 10}


def test_releasing_learns_the_latency_and_a_second_release_is_refused() -> None:
    node = make_node()
    balancer = make_balancer()
    chosen = pick(balancer)

    picks.release(pick=chosen, latency_ms=40, now=NOW)
    with pytest.raises(picks.AlreadyReleased):
        picks.release(pick=chosen, latency_ms=4000, now=NOW)

    balancer.refresh_from_db()
    assert balancer.latencies_ms == {str(node.pk): 40}


def test_without_a_latency_the_time_since_the_pick_counts() -> None:
    make_node()
    chosen = pick(make_balancer())

    assert picks.release(pick=chosen, now=NOW + timedelta(seconds=2)).latency_ms == 2000


def test_a_key_comes_back_to_its_node() -> None:
    for name in "abcd":
        make_node(name)
    balancer = make_balancer("ip_hash")

    assert len({pick(balancer, key="10.0.0.7").node_id for _ in range(5)}) == 1
    with pytest.raises(rules.KeyNeeded):
        pick(balancer)


def test_draining_takes_a_node_out_and_resuming_brings_it_back() -> None:
    make_node("a")
    b = make_node("b")
    balancer = make_balancer()
    nodes.drain(node=b)
    drained = {pick(balancer).node.name for _ in range(4)}
    nodes.resume(node=b)

    assert (drained, {pick(balancer).node.name for _ in range(4)}) == ({"a"}, {"a", "b"})


def test_changing_the_strategy_starts_the_rotation_anew() -> None:
    make_node("a")
    balancer = make_balancer()
    pick(balancer)

    picks.change(balancer=Balancer.objects.get(), strategy="random")

    changed = Balancer.objects.get()
    assert (changed.strategy, changed.last_pick) == ("random", "")


def test_a_balancers_name_is_given_once() -> None:
    picks.create(name="edge", strategy="random", now=NOW)
    other = picks.create(name="inner", strategy="random", now=NOW)

    with pytest.raises(picks.BalancerExists):
        picks.create(name="edge", strategy="random", now=NOW)
    with pytest.raises(picks.BalancerExists):
        picks.change(balancer=other, name="edge")


def test_shares_add_up() -> None:
    make_node("a")
    make_node("b")
    balancer = make_balancer()
    for number in range(4):
        chosen = pick(balancer)
        if number < 2:
            picks.release(pick=chosen, ok=False, latency_ms=5, now=NOW)

    found = picks.shares(balancer=Balancer.objects.get(), now=NOW)

    assert [(row["node__name"], row["picks"], row["failed"], row["in_flight"], row["share"]) for row in found] == [
        ("a", 2, 1, 1, 0.5),
        ("b", 2, 1, 1, 0.5),
    ]


def test_old_picks_are_forgotten() -> None:
    make_node()
    pick(make_balancer())

    assert picks.prune(now=NOW + timedelta(days=2)) == 1


@pytest.mark.parametrize("broken", [{"expires_at": NOW}, {"ok": True}, {"released_at": NOW}])
def test_the_database_refuses_an_impossible_pick(broken: dict[str, Any]) -> None:
    fields = {"created_at": NOW, "expires_at": NOW + timedelta(seconds=1)} | broken

    with pytest.raises(IntegrityError), transaction.atomic():
        Pick.objects.create(balancer=make_balancer(), node=make_node(), **fields)


@pytest.mark.django_db(transaction=True)
def test_picks_at_once_spread_within_one() -> None:
    for name in "abc":
        make_node(name)
    balancer = make_balancer("least_connections")

    def one(_: int) -> str:
        try:
            return pick(balancer).node.name
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as pool:
        found = Counter(pool.map(one, range(12)))

    assert set(found.values()) == {4}


@pytest.mark.django_db(transaction=True)
def test_of_releases_at_once_one_counts() -> None:
    make_node()
    chosen = pick(make_balancer())

    def one(_: int) -> str:
        try:
            picks.release(pick=Pick.objects.get(pk=chosen.pk), latency_ms=10, now=NOW)
        except picks.AlreadyReleased:
            return "refused"
        finally:
            connection.close()
        return "released"

    with ThreadPoolExecutor(3) as pool:
        assert Counter(pool.map(one, range(3))) == {"released": 1, "refused": 2}
