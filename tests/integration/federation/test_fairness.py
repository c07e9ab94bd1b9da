"""One federation's flood keeps nobody else's few waiting: in the sweeps, and in the line for sandboxes."""

from datetime import timedelta
from random import Random

import pytest
from django.utils import timezone

from federation import attempts, coordination, dispatch, managed, tasks, turns
from federation.models import Attempt, Task
from sandboxes.models import Execution
from tests import factories

pytestmark = pytest.mark.django_db
NOW = timezone.now()
PAYLOAD = {"code": "print(1)"}


@pytest.fixture
def account():
    return factories.make_account()


def flood(federation, number):
    """As many tasks as an operator would never want, written at once."""
    factories.make_agent(federation, "crew", runtime="managed", max_concurrent_tasks=1000, now=NOW)
    orders = [coordination.Order(type="execute", payload=PAYLOAD)] * number
    return coordination.submit_tasks(federation=federation, orders=orders, by="Bob", now=NOW)


def start(federation):
    dispatch.assign(federation_id=federation.pk, now=NOW, rng=Random(1))
    for attempt_id in managed.next_to_start(federation_id=federation.pk):
        managed.start(attempt_id=attempt_id, now=NOW)


def test_a_flood_leaves_the_line_for_sandboxes_short(account, runtime):
    greedy, modest = factories.make_federation(account), factories.make_federation(account)
    flood(greedy, 1000)
    flood(modest, 3)
    for _ in range(3):
        start(greedy)

    start(modest)

    assert Attempt.objects.filter(task__federation=greedy).count() == 600
    waiting = Execution.objects.filter(state="queued")
    assert waiting.filter(federation_attempt__task__federation=greedy).count() == managed.IN_LINE
    assert waiting.filter(federation_attempt__task__federation=modest).count() == 3
    start(greedy)
    assert waiting.filter(federation_attempt__task__federation=greedy).count() == managed.IN_LINE


def test_whoever_is_at_the_head_of_the_line_is_the_most_urgent(account, runtime):
    federation = factories.make_federation(account)
    flood(federation, 40)
    urgent = factories.make_task(federation, type="execute", payload=PAYLOAD, priority=9, now=NOW)
    dispatch.assign(federation_id=federation.pk, now=NOW, rng=Random(1))

    first = managed.next_to_start(federation_id=federation.pk)

    assert len(first) == managed.IN_LINE
    assert Attempt.objects.get(pk=first[0]).task == urgent


def test_the_sweeps_take_federations_in_turn(account):
    greedy, modest = factories.make_federation(account), factories.make_federation(account)
    for federation, number in ((greedy, 300), (modest, 2)):
        factories.make_agent(federation, max_concurrent_tasks=1000, now=NOW)
        orders = [coordination.Order(type="work")] * number
        coordination.submit_tasks(federation=federation, orders=orders, by="Bob", now=NOW)
        for _ in range(2):
            dispatch.assign(federation_id=federation.pk, now=NOW, rng=Random(1))
    assert Attempt.objects.count() == 302

    attempts.lapse(now=NOW + timedelta(seconds=31))

    left = Attempt.objects.live()
    assert not left.filter(task__federation=modest).exists()
    assert left.count() == 302 - attempts.ROUND


def test_turns_go_round_and_within_each_by_the_order(account):
    federations = [factories.make_federation(account) for _ in range(3)]
    for federation, number in zip(federations, (5, 1, 2), strict=True):
        for n in range(number):
            factories.make_task(federation, now=NOW + timedelta(seconds=n))

    taken = turns.fairly(Task.objects.all(), by="federation", order="created_at", most=6)

    assert {task.federation_id for task in taken[:3]} == {federation.pk for federation in federations}
    assert {task.federation_id for task in taken[3:5]} == {federations[0].pk, federations[2].pk}
    mine = [task.created_at for task in taken if task.federation_id == federations[0].pk]
    assert mine == sorted(mine)


def test_the_sweep_starts_at_most_what_the_line_takes(account, runtime, monkeypatch):
    federation = factories.make_federation(account)
    flood(federation, 50)
    dispatch.assign(federation_id=federation.pk, now=NOW, rng=Random(1))
    Attempt.objects.update(assigned_at=NOW - timedelta(seconds=5))

    found = managed.watch(now=NOW)

    assert len(found.to_start) == managed.IN_LINE
    asked = []
    monkeypatch.setattr(tasks.start, "delay", lambda **given: asked.append(given))
    monkeypatch.setattr(tasks.assign, "delay", lambda **given: None)
    tasks.sweep.run()
    assert len(asked) == managed.IN_LINE
