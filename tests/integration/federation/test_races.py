"""Two at once, on real connections: one wins, nothing happens twice."""

from concurrent.futures import ThreadPoolExecutor
from random import Random

import pytest
from django.db import connection
from django.utils import timezone

from federation import agents, attempts, dispatch, showcase
from federation.models import Agent, Attempt, Federation, Task
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

    at_once(*[lambda: agents.see_to_leaders(now=timezone.now())] * 3)

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
