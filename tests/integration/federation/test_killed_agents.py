"""A remote agent that falls silent in the middle of a task, a hundred times, by an advanced clock."""

from datetime import timedelta
from random import Random

import pytest
from django.utils import timezone

from federation import agents, attempts, dispatch
from federation.models import Attempt, Federation, Task
from tests import factories

pytestmark = pytest.mark.django_db


def test_a_silent_agents_task_goes_to_another_by_the_first_sweep_after_its_lease_100_times_of_100():
    """The sweep comes every second, so that is the lease and a second at most."""
    federation = factories.make_federation(factories.make_account(), lease_seconds=5)
    crew = {agent.pk: agent for agent in (factories.make_agent(federation, name) for name in ("one", "two"))}
    now, rng = timezone.now(), Random(1)

    for number in range(100):
        task = factories.make_task(federation, now=now)
        (attempt,) = dispatch.assign(federation_id=federation.pk, now=now, rng=rng)
        silent = crew[attempt.agent_id]
        assert dispatch.claim(agent=silent, now=now) is not None
        heard = now + timedelta(seconds=rng.uniform(0, 60))
        lease = attempts.extend(task_id=task.pk, agent_id=silent.pk, epoch=1, now=heard)

        attempts.lapse(now=lease - timedelta(milliseconds=1))
        assert Task.objects.get(pk=task.pk).epoch == 1
        swept = lease + timedelta(seconds=rng.uniform(0, 1))
        attempts.lapse(now=swept)
        dispatch.assign(federation_id=federation.pk, now=swept, rng=rng)

        again = Task.objects.get(pk=task.pk)
        assert (again.epoch, again.state) == (2, "assigned"), number
        assert again.assigned_to_id not in (None, silent.pk)
        with pytest.raises(attempts.StaleEpoch):
            attempts.complete(task_id=task.pk, epoch=1, agent_id=silent.pk, result="late", now=swept)
        now = swept + timedelta(seconds=1)
        dispatch.claim(agent=crew[again.assigned_to_id], now=now)
        attempts.complete(task_id=task.pk, epoch=2, result=number, now=now)

    assert Task.objects.filter(state="succeeded").count() == 100
    assert Attempt.objects.filter(state="lapsed", is_late=True).count() == 100


def test_of_ten_killed_at_once_none_is_given_what_another_had():
    """They have room, and by their heartbeats they could be alive: these come every ten seconds, a lease lasts three."""
    federation = factories.make_federation(factories.make_account(), lease_seconds=3, heartbeat_seconds=10)
    now, rng = timezone.now(), Random(1)
    doomed = [factories.make_agent(federation, f"doomed-{n}", now=now, max_concurrent_tasks=2) for n in range(10)]
    renewed = {}
    for number, agent in enumerate(doomed):
        task = factories.make_task(federation, now=now)
        assert dispatch.claim(agent=agent, now=now).task == task
        renewed[task.pk] = now + timedelta(seconds=number / 10)
        agents.heartbeat(
            agent=agent, status="busy", load=None, running=[{"task": task.pk, "epoch": 1}], now=renewed[task.pk]
        )
    spare = factories.make_agent(federation, "spare", now=now + timedelta(seconds=1), max_concurrent_tasks=10)

    given = {}
    for tenth in range(10, 50):
        moment = now + timedelta(seconds=tenth / 10)
        attempts.lapse(now=moment)
        for attempt in dispatch.assign(federation_id=federation.pk, now=moment, rng=rng):
            given[attempt.task_id] = (attempt.agent, moment - renewed[attempt.task_id])

    assert {agent for agent, _ in given.values()} == {spare}
    assert {after for _, after in given.values()} == {timedelta(seconds=3)}
    assert len(given) == 10


def test_an_agent_that_let_a_lease_run_out_is_trusted_again_when_it_is_heard():
    federation = factories.make_federation(
        factories.make_account(), lease_seconds=3, heartbeat_seconds=60, agent_timeout_seconds=120
    )
    now, rng = timezone.now(), Random(1)
    slow = factories.make_agent(federation, "slow", now=now)
    factories.make_task(federation, now=now)
    dispatch.claim(agent=slow, now=now)
    other = factories.make_agent(federation, "other", now=now)
    later = now + timedelta(seconds=4)
    attempts.lapse(now=later)

    def next_goes_to():
        factories.make_task(federation, now=later)
        Federation.objects.update(rotation=0)
        return [attempt.agent for attempt in dispatch.assign(federation_id=federation.pk, now=later, rng=rng)]

    assert next_goes_to() == [other, other]  # the lapsed one and the new one
    later += timedelta(seconds=1)
    agents.heartbeat(agent=slow, status="idle", load=None, running=[], now=later)
    assert next_goes_to() == [slow]
