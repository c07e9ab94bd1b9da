"""Two at once, on real connections: one wins, nothing happens twice."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from itertools import pairwise
from random import Random

import pytest
from django.db import connection
from django.utils import timezone

from federation import adaptation, agents, attempts, dispatch, losses, showcase, wiring
from federation.beats import Beat
from federation.models import Agent, Attempt, Federation, Reading, Task, TopologyVersion
from tests import factories

pytestmark = pytest.mark.django_db(transaction=True)


def at_once(*calls):
    def one(call):
        try:
            return call()
        except Exception as error:  # noqa: BLE001 - the losers' errors are what is looked at
            return error
        finally:
            connection.close()

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(one, calls))


def assign(federation):
    return dispatch.assign(federation_id=federation.pk, now=timezone.now(), rng=Random(1))


def test_two_that_assign_at_once_give_each_task_once_and_stay_within_capacity():
    federation = factories.make_federation()
    for n in range(3):
        factories.make_agent(federation, f"agent-{n}", max_concurrent_tasks=4)
    for _ in range(20):
        factories.make_task(federation)

    made = at_once(*[lambda: assign(federation)] * 4)

    assert sum(len(each) for each in made) == 12
    assert Attempt.objects.live().count() == 12
    assert {agent.running for agent in Agent.objects.with_running()} == {4}


def test_two_that_claim_at_once_get_different_tasks():
    federation = factories.make_federation()
    crew = [factories.make_agent(federation, f"agent-{n}") for n in range(4)]
    for _ in range(4):
        factories.make_task(federation)

    claimed = at_once(*[lambda agent=agent: dispatch.claim(agent=agent, now=timezone.now()) for agent in crew])

    assert len({attempt.task_id for attempt in claimed}) == 4


def test_of_two_completions_at_once_one_is_recorded():
    federation = factories.make_federation()
    agent = factories.make_agent(federation)
    factories.make_task(federation)
    attempt = dispatch.claim(agent=agent, now=timezone.now())

    def complete(result):
        return attempts.complete(task_id=attempt.task_id, epoch=1, result=result, now=timezone.now())

    answers = at_once(lambda: complete("a"), lambda: complete("b"))

    losers = [answer for answer in answers if isinstance(answer, Exception)]
    (winner,) = [answer for answer in answers if isinstance(answer, Task)]
    assert [type(loser) for loser in losers] == [attempts.TaskSettled]
    assert Task.objects.get().result == winner.result


def test_completing_and_losing_the_agent_at_once_leaves_one_outcome():
    for _ in range(5):
        federation = factories.make_federation()
        agent = factories.make_agent(federation)
        factories.make_task(federation)
        attempt = dispatch.claim(agent=agent, now=timezone.now())

        at_once(
            lambda a=attempt: attempts.complete(task_id=a.task_id, epoch=1, result=1, now=timezone.now()),
            lambda a=agent: agents.leave(agent=a, now=timezone.now()),
        )

        task = Task.objects.get(federation=federation)
        assert task.state in ("succeeded", "queued")
        assert not Attempt.objects.live().filter(task=task).exists()


def test_two_sweeps_at_once_elect_one_leader():
    federation = factories.make_federation()
    for n in range(3):
        factories.make_agent(federation, f"agent-{n}")
    Federation.objects.update(leader_lease_expires_at=timezone.now())

    at_once(*[lambda: wiring.see_to_leaders(now=timezone.now())] * 3)

    federation.refresh_from_db()
    assert federation.epoch == 2


def test_joining_at_once_stays_within_the_limit_and_gives_each_a_position():
    federation = factories.make_federation(max_agents=3)

    at_once(*[lambda n=n: factories.make_agent(federation, f"agent-{n}") for n in range(6)])

    assert sorted(Agent.objects.values_list("position", flat=True)) == [1, 2, 3]
    federation.refresh_from_db()
    assert federation.topology_version == 4


def test_loading_the_sample_twice_at_once_makes_it_once():
    account = factories.make_account()

    at_once(*[lambda: showcase.load(account=account, now=timezone.now())] * 2)

    assert Federation.objects.count() == 2


def test_joins_leavings_losses_and_changes_of_shape_at_once_are_one_version_each_without_a_gap():
    federation = factories.make_federation(topology="hierarchical", fan_out=2)
    crew = [factories.make_agent(federation, f"agent-{n}") for n in range(6)]
    later = timezone.now() + timedelta(seconds=61)
    joins = [lambda n=n: factories.make_agent(federation, f"new-{n}") for n in range(4)]
    leavings = [lambda agent=agent: agents.leave(agent=agent, now=timezone.now()) for agent in crew[:2]]
    lost = [lambda agent=agent: losses.lose(agent=agent, now=later) for agent in crew[2:4]]
    again = [lambda: losses.lose(agent=crew[2], now=later), lambda: agents.leave(agent=crew[0], now=timezone.now())]

    answers = at_once(*leavings, *joins, *lost, *again)

    assert [answer for answer in answers if isinstance(answer, Exception)] == []
    versions = list(TopologyVersion.objects.filter(federation=federation).order_by("version"))
    assert [row.version for row in versions] == list(range(1, 1 + 1 + 6 + 4 + 2 + 2))
    steps = [later.members - earlier.members for earlier, later in pairwise(versions)]
    assert sorted(steps) == [-1] * 4 + [1] * 10
    federation.refresh_from_db()
    assert (federation.topology_version, versions[-1].members) == (versions[-1].version, 6)
    assert federation.leader_id in set(Agent.objects.available().values_list("pk", flat=True))


def test_heartbeats_of_many_at_once_and_the_end_of_what_they_run_wait_for_nobody():
    federation = factories.make_federation()
    crew = [factories.make_agent(federation, f"agent-{n}") for n in range(6)]
    for _ in crew:
        factories.make_task(federation)
    held = [dispatch.claim(agent=agent, now=timezone.now()) for agent in crew]
    beats = [
        Beat(agent.pk, load=0.5, running=[{"task": attempt.task_id, "epoch": 1, "progress": 0.5}])
        for agent, attempt in zip(crew, held, strict=True)
    ]

    answers = at_once(
        lambda: agents.heartbeat_many(beats=beats, now=timezone.now()),
        lambda: agents.heartbeat_many(beats=beats[::-1], now=timezone.now()),
        lambda: agents.leave(agent=crew[3], now=timezone.now()),
        lambda: attempts.complete(task_id=held[0].task_id, epoch=1, result=1, now=timezone.now()),
        lambda: agents.beat_managed(now=timezone.now()),
        lambda: wiring.see_to_leaders(now=timezone.now()),
    )

    assert [answer for answer in answers if isinstance(answer, Exception)] == []


def test_two_that_measure_at_once_keep_one_reading():
    federation = factories.make_federation(topology="adaptive")
    for n in range(3):
        factories.make_agent(federation, f"agent-{n}")

    at_once(*[lambda: adaptation.see_to_shapes(now=timezone.now())] * 3)

    assert Reading.objects.count() == 1
