"""Many signs of life in a handful of statements."""

from datetime import timedelta

import pytest
from django.utils import timezone

from federation import agents, dispatch
from federation.beats import Beat
from federation.models import Agent, Attempt, Task
from tests import factories

pytestmark = pytest.mark.django_db
NOW = timezone.now()


def after(seconds):
    return NOW + timedelta(seconds=seconds)


def many(beats, seconds=1):
    return agents.heartbeat_many(beats=beats, now=after(seconds))


def test_each_is_answered_in_order_with_its_own_neighbours():
    ring = factories.make_federation(topology="ring")
    star = factories.make_federation(ring.account, topology="star")
    ours = [factories.make_agent(ring, f"r{n}", now=NOW) for n in range(4)]
    hub, leaf = factories.make_agent(star, "hub", now=NOW), factories.make_agent(star, "leaf", now=NOW)
    gone = factories.make_agent(star, "gone", now=NOW)
    agents.leave(agent=gone, now=NOW)

    replies = many([Beat(leaf.pk), Beat(ours[0].pk, load=0.5), Beat(gone.pk), Beat(ours[2].pk, "unavailable")])

    assert replies[0].neighbours == [hub.pk]
    assert replies[1].neighbours == [ours[1].pk, ours[3].pk]
    assert isinstance(replies[2], agents.Gone)
    assert (replies[0].topology_version, replies[1].topology_version) == (5, 5)
    assert Agent.objects.get(pk=ours[0].pk).reported_load == 0.5
    assert Agent.objects.get(pk=ours[2].pk).availability == "unavailable"
    assert Agent.objects.get(pk=ours[0].pk).last_heartbeat_at == after(1)
    assert Agent.objects.get(pk=ours[1].pk).last_heartbeat_at == NOW


def test_leases_are_renewed_and_what_is_no_longer_theirs_is_to_stop():
    federation = factories.make_federation(lease_seconds=30)
    crew = [factories.make_agent(federation, f"a{n}", now=NOW) for n in range(2)]
    tasks = [factories.make_task(federation, now=NOW) for _ in range(2)]
    held = [dispatch.claim(agent=agent, now=NOW) for agent in crew]

    replies = many(
        [
            Beat(crew[0].pk, running=[{"task": held[0].task_id, "epoch": 1, "progress": 0.25}]),
            Beat(
                crew[1].pk,
                running=[{"task": held[1].task_id, "epoch": 1}, {"task": held[0].task_id, "epoch": 1, "progress": 1.0}],
            ),
        ],
        seconds=10,
    )

    assert [reply.cancel for reply in replies] == [[], [held[0].task_id]]
    assert set(Attempt.objects.values_list("lease_expires_at", flat=True)) == {after(40)}
    assert Task.objects.get(pk=held[0].task_id).progress == 0.25
    assert len(tasks) == 2


def test_of_two_beats_of_one_agent_the_last_counts():
    agent = factories.make_agent(factories.make_federation(), now=NOW)

    replies = many([Beat(agent.pk, load=0.1), Beat(agent.pk, load=0.9)])

    assert len(replies) == 2
    assert Agent.objects.get().reported_load == 0.9


def test_whoever_takes_work_again_is_told_apart():
    agent = factories.make_agent(factories.make_federation(), now=NOW)

    answers = [many([Beat(agent.pk, status)])[0].came_back for status in ("idle", "unavailable", "unavailable", "busy")]

    assert answers == [False, False, False, True]


def test_only_loads_that_look_different_are_told(monkeypatch):
    told = []
    monkeypatch.setattr("federation.live.agents_changed", lambda federation, ids: told.append(sorted(ids)))
    federation = factories.make_federation()
    one, two = (factories.make_agent(federation, name, now=NOW) for name in ("one", "two"))

    many([Beat(one.pk, load=0.5), Beat(two.pk)])
    many([Beat(one.pk, load=0.51), Beat(two.pk)])
    many([Beat(one.pk, load=0.7), Beat(two.pk, load=0.0)])

    assert told == [[one.pk], sorted([one.pk, two.pk])]


@pytest.mark.parametrize("count", [1, 40])
def test_it_takes_as_many_statements_however_many_beat(count, django_assert_max_num_queries):
    federation = factories.make_federation(topology="star")
    crew = [factories.make_agent(federation, f"a{n}", now=NOW) for n in range(count)]
    for _ in crew:
        factories.make_task(federation, now=NOW)
    held = [dispatch.claim(agent=agent, now=NOW) for agent in crew]
    beats = [
        Beat(agent.pk, running=[{"task": attempt.task_id, "epoch": 1, "progress": 0.5}])
        for agent, attempt in zip(crew, held, strict=True)
    ]
    many(beats)

    # Two for the leader's lease, one for the agents, three for tasks and leases, one for the federation and its shape each.
    with django_assert_max_num_queries(10):
        replies = many(beats)

    assert [reply.cancel for reply in replies] == [[]] * count


def test_nobody_beats():
    assert many([]) == []
