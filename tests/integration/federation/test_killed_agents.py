"""A remote agent that falls silent in the middle of a task, a hundred times, by an advanced clock."""

from datetime import timedelta
from random import Random

import pytest
from django.utils import timezone

from federation import attempts, dispatch
from federation.models import Attempt, Task
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
