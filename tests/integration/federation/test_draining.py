"""An agent that drains takes no new work; it finishes what it runs, and leaves then if it was to."""

from random import Random

import pytest
from django.utils import timezone

from federation import agents, attempts, coordination, dispatch
from federation.models import Agent, Attempt, Event, Task
from tests import factories

pytestmark = pytest.mark.django_db
NOW = timezone.now()


@pytest.fixture
def federation():
    return factories.make_federation()


@pytest.fixture
def anna(federation):
    return factories.make_agent(federation, "anna", max_concurrent_tasks=1)


def assign(federation):
    return dispatch.assign(federation_id=federation.pk, now=timezone.now(), rng=Random(1))


def claim(agent):
    return dispatch.claim(agent=agent, now=timezone.now())


def statuses(federation):
    return {agent.name: agent.mark for agent in Agent.objects.members().with_running()}


def test_no_new_work_comes_until_it_resumes(federation, anna):
    agents.drain(agent=anna, by="Alice", now=NOW)
    agents.drain(agent=anna, by="Alice", now=NOW)
    factories.make_task(federation)

    assert (assign(federation), claim(anna)) == ([], None)
    assert statuses(federation) == {"anna": "draining"}
    assert Event.objects.get(kind="draining").text == "anna drains, by Alice."

    agents.resume(agent=anna, now=NOW)
    assert claim(anna) is not None


def test_what_it_has_not_begun_goes_to_others_and_what_it_runs_it_finishes(federation):
    anna = factories.make_agent(federation, "anna", max_concurrent_tasks=2)
    for _ in range(2):
        factories.make_task(federation)
    assign(federation)
    begun = claim(anna)
    bert = factories.make_agent(federation, "bert")

    agents.drain(agent=anna, now=NOW)

    (moved,) = assign(federation)
    assert moved.agent_id == bert.pk
    done = attempts.complete(task_id=begun.task_id, epoch=begun.epoch, result=1, now=timezone.now())
    assert (done.state, done.assigned_to_id) == ("succeeded", anna.pk)


def test_it_leaves_when_it_has_finished(federation, anna):
    factories.make_task(federation)
    attempt = claim(anna)

    coordination.remove_agent(agent=anna, by="Alice", now=NOW, when_done=True)
    assert agents.see_off(now=NOW) == 0
    attempts.complete(task_id=attempt.task_id, epoch=1, result=1, now=timezone.now())

    assert agents.see_off(now=NOW) == 1
    assert agents.see_off(now=NOW) == 0
    assert not Agent.objects.members().exists()
    assert Task.objects.get().state == "succeeded"


def test_an_idle_one_leaves_at_once(anna):
    coordination.remove_agent(agent=anna, by="Alice", now=NOW, when_done=True)

    assert not Agent.objects.members().exists()


def test_eviction_gives_what_it_runs_to_others(federation, anna):
    factories.make_task(federation)
    claim(anna)

    coordination.remove_agent(agent=anna, by="Alice", now=NOW)

    assert Task.objects.get().state == "queued"
    assert not Attempt.objects.live().exists()
    with pytest.raises(agents.Gone):
        agents.heartbeat(agent=anna, status="idle", load=None, running=[], now=NOW)


def test_an_attempt_that_began_meanwhile_is_not_taken_back(federation, anna):
    factories.make_task(federation)
    (attempt,) = assign(federation)
    seen = Attempt.objects.select_related("agent").get(pk=attempt.pk)
    claim(anna)

    assert attempts.take_back(attempt=seen, why="late", now=NOW) is None
    assert Task.objects.get().state == "running"


def test_changes_are_told_once_and_by_whom(federation, anna):
    coordination.change_agent(agent=anna, by="Alice", now=NOW, capabilities=["b", "a"], weight=3, region="eu")
    coordination.change_agent(agent=anna, by="Alice", now=NOW, capabilities=["a", "b"])

    found = Agent.objects.get()
    assert (found.capabilities, found.weight, found.region) == (["a", "b"], 3, "eu")
    assert [event.text for event in Event.objects.filter(kind="changed")] == [
        "Alice changed capabilities, weight, region of anna."
    ]
