"""Tasks given to agents: by strategy, within capacity, each to one at a time."""

from collections import Counter
from datetime import timedelta
from random import Random

import pytest
from django.utils import timezone

from federation import agents, assignment, attempts, dispatch
from federation.models import Attempt, Task
from tests import factories

pytestmark = pytest.mark.django_db
NOW = timezone.now()


def assign(federation, now=None):
    return dispatch.assign(federation_id=federation.pk, now=now or timezone.now(), rng=Random(1))


def test_round_robin_goes_on_over_several_rounds():
    federation = factories.make_federation(strategy="round_robin")
    names = [factories.make_agent(federation, f"agent-{n}", max_concurrent_tasks=100).name for n in range(3)]

    given = []
    for _ in range(6):
        factories.make_task(federation)
        given += [attempt.agent.name for attempt in assign(federation)]

    assert given == names * 2


def test_least_loaded_fills_evenly():
    federation = factories.make_federation(strategy="least_loaded")
    for n in range(4):
        factories.make_agent(federation, f"agent-{n}")
    for _ in range(12):
        factories.make_task(federation)

    made = assign(federation)

    assert set(Counter(attempt.agent_id for attempt in made).values()) == {3}


def test_nobody_gets_more_than_fits():
    federation = factories.make_federation()
    factories.make_agent(federation, max_concurrent_tasks=2)
    tasks = [factories.make_task(federation) for _ in range(3)]

    assert len(assign(federation)) == 2
    assert assign(federation) == []

    waiting = Task.objects.queued().get()
    assert waiting == tasks[2]
    assert waiting.reason == "Every capable agent is at its limit. The task starts when one has room."


def test_only_an_agent_with_all_capabilities_gets_the_task():
    federation = factories.make_federation(strategy="capability_match")
    factories.make_agent(federation, "half", capabilities=["research"])
    whole = factories.make_agent(federation, "whole", capabilities=["research", "trade", "more"])
    factories.make_task(federation, required_capabilities=["trade", "research"])

    assert [attempt.agent for attempt in assign(federation)] == [whole]


def test_a_task_nobody_can_do_waits_with_its_reason_and_starts_when_someone_joins():
    federation = factories.make_federation()
    factories.make_agent(federation, "other", capabilities=["trade"])
    task = factories.make_task(federation, required_capabilities=["research"])
    assign(federation)
    task.refresh_from_db()
    assert task.reason.startswith("No available agent has all of: research.")

    able = factories.make_agent(federation, "able", capabilities=["research"])

    assert [attempt.agent for attempt in assign(federation)] == [able]
    task.refresh_from_db()
    assert (task.state, task.reason, task.assigned_to, task.epoch) == ("assigned", "", able, 1)


def test_a_task_nobody_can_do_holds_up_none_behind_it():
    federation = factories.make_federation()
    factories.make_agent(federation)
    factories.make_task(federation, required_capabilities=["research"], priority=9)
    easy = factories.make_task(federation, priority=0)

    assert [attempt.task for attempt in assign(federation)] == [easy]


def test_the_urgent_come_first_and_waiting_makes_urgent():
    federation = factories.make_federation(strategy="priority", ageing_seconds=60)
    factories.make_agent(federation, max_concurrent_tasks=1)
    old = factories.make_task(federation, priority=1, now=NOW - timedelta(seconds=300))
    new = factories.make_task(federation, priority=5, now=NOW)
    factories.make_task(federation, priority=4, now=NOW)

    first = assign(federation, NOW)[0]
    attempts.complete(task_id=first.task_id, epoch=1, result=None, now=NOW)
    second = assign(federation, NOW)[0]

    assert [first.task, second.task] == [old, new]


def test_the_database_orders_as_the_rule_says():
    federation = factories.make_federation(ageing_seconds=45)
    for n in range(30):
        factories.make_task(federation, priority=n % 10, now=NOW - timedelta(seconds=(n * 37) % 400 - 20))

    ordered = list(dispatch.by_urgency(Task.objects.all(), federation=federation, now=NOW))

    def urgency(task):
        return assignment.effective_priority(
            priority=task.priority, queued_at=task.created_at, now=NOW, ageing_seconds=45
        )

    assert [task.urgency for task in ordered] == [urgency(task) for task in ordered]
    assert ordered == sorted(ordered, key=lambda task: (-urgency(task), task.created_at, task.pk))


def test_a_managed_agent_gets_only_what_it_can_run():
    federation = factories.make_federation()
    factories.make_agent(federation, runtime="managed")
    task = factories.make_task(federation, type="mystery")

    assert assign(federation) == []

    task.refresh_from_db()
    assert task.reason.startswith("No available agent runs tasks of the type mystery.")


def test_an_unavailable_agent_gets_nothing():
    federation = factories.make_federation()
    agent = factories.make_agent(federation)
    agents.heartbeat(agent=agent, status="unavailable", load=None, running=[], now=timezone.now())
    factories.make_task(federation)

    assert assign(federation) == []


def test_a_held_back_task_waits_for_its_time():
    federation = factories.make_federation()
    factories.make_agent(federation)
    task = factories.make_task(federation, now=NOW)
    Task.objects.filter(pk=task.pk).update(not_before=NOW + timedelta(seconds=5))

    assert assign(federation, NOW + timedelta(seconds=4)) == []
    assert len(assign(federation, NOW + timedelta(seconds=5))) == 1


def test_a_tasks_own_strategy_goes_before_the_federations():
    federation = factories.make_federation(strategy="round_robin")
    factories.make_agent(federation, "expert", capabilities=["a", "b", "c"])
    plain = factories.make_agent(federation, "plain", capabilities=["a"])
    factories.make_task(federation, required_capabilities=["a"], strategy="capability_match")

    assert assign(federation)[0].agent == plain


def test_a_deleted_federation_assigns_nothing():
    federation = factories.make_federation()
    federation.deleted_at = timezone.now()
    federation.save()

    assert assign(federation) == []


def test_assigning_an_idle_federation_costs_three_queries(django_assert_num_queries):
    federation = factories.make_federation()

    with django_assert_num_queries(5):  # three and the savepoint
        assign(federation)


# Claiming


def claim(agent, now=None):
    return dispatch.claim(agent=agent, now=now or timezone.now())


def test_an_agent_claims_what_is_assigned_to_it():
    federation = factories.make_federation()
    agent = factories.make_agent(federation)
    task = factories.make_task(federation)
    assign(federation)

    attempt = claim(agent)

    assert (attempt.task, attempt.state, attempt.epoch) == (task, "running", 1)
    task.refresh_from_db()
    assert (task.state, task.tries) == ("running", 1)
    assert claim(agent) is None


def test_an_agent_takes_a_queued_task_nobody_assigned_yet():
    federation = factories.make_federation()
    agent = factories.make_agent(federation)
    factories.make_task(federation, required_capabilities=["research"])
    task = factories.make_task(federation)

    assert claim(agent).task == task


def test_an_idle_agent_steals_what_waits_on_a_busy_peer():
    federation = factories.make_federation()
    busy = factories.make_agent(federation, "busy")
    first, second = factories.make_task(federation), factories.make_task(federation)
    assign(federation)
    claim(busy)
    idle = factories.make_agent(federation, "idle")

    stolen = claim(idle)

    assert (stolen.task, stolen.epoch, stolen.agent) == (second, 2, idle)
    with pytest.raises(attempts.StaleEpoch):
        attempts.complete(task_id=second.pk, epoch=1, agent_id=busy.pk, result=1, now=timezone.now())
    assert first.attempts.count() == 1


def test_nobody_steals_from_a_peer_that_has_not_begun_anything():
    federation = factories.make_federation()
    factories.make_agent(federation, "waiting")
    factories.make_task(federation)
    assign(federation)

    assert claim(factories.make_agent(federation, "idle")) is None
    assert Attempt.objects.count() == 1
