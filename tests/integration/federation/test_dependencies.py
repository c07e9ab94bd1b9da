"""Tasks that need others: they wait, read the results, and are cancelled when what they need ended badly."""

import json
from datetime import timedelta
from random import Random
from uuid import UUID

import pytest
from django.db import IntegrityError, transaction
from django.utils import timezone

from federation import agents, attempts, coordination, dependencies, dispatch, managed, workloads
from federation.models import Dependency, Task
from federation.submission import BadOrder
from sandboxes.models import Execution
from tests import factories

pytestmark = pytest.mark.django_db
NOW = timezone.now()


@pytest.fixture
def federation():
    return factories.make_federation()


@pytest.fixture
def agent(federation):
    return factories.make_agent(federation, "anna", max_concurrent_tasks=100, now=NOW)


def submit(federation, *orders):
    """A batch of tasks, each by its key with what it needs."""
    asked = [coordination.Order(type=key, key=key, depends_on=needed, queue_if_empty=True) for key, needed in orders]
    return coordination.submit_tasks(federation=federation, orders=asked, by="Alice", now=NOW)


def assign(federation, now=NOW):
    return [each.task.type for each in dispatch.assign(federation_id=federation.pk, now=now, rng=Random(1))]


def claim(agent, now=NOW):
    return dispatch.claim(agent=agent, now=now)


def complete(attempt, result=None, now=NOW):
    return attempts.complete(task_id=attempt.task_id, epoch=attempt.epoch, result=result, now=now)


def states():
    return dict(Task.objects.values_list("type", "state"))


def test_a_task_starts_when_all_it_needs_have_succeeded(federation, agent):
    submit(federation, ("a", []), ("b", []), ("c", ["a", "b"]))
    waiting = Task.objects.get(type="c")
    assert (waiting.is_waiting, waiting.reason) == (True, "It waits for 2 tasks to succeed.")

    first, second = claim(agent), claim(agent)
    assert claim(agent) is None
    complete(first, {"n": 1})
    assert claim(agent) is None
    complete(second, {"n": 2})

    third = claim(agent)
    assert third.task.type == "c"
    assert dependencies.payload_of(third.task) == {
        "dependencies": {str(first.task_id): {"n": 1}, str(second.task_id): {"n": 2}}
    }


def test_the_results_come_in_the_order_asked_for(federation, agent):
    submit(federation, ("a", []), ("b", []), ("c", ["b", "a", "b"]))
    for _ in range(2):
        attempt = claim(agent)
        complete(attempt, attempt.task.type)

    assert list(dependencies.results(Task.objects.get(type="c")).values()) == ["b", "a"]


def test_items_name_each_other_by_place_and_key_in_any_order(federation, agent):
    made = submit(federation, ("late", [2, "middle"]), ("middle", [2]), ("early", []))

    assert [task.type for task in made] == ["late", "middle", "early"]
    assert made[2].pk < made[1].pk < made[0].pk
    assert assign(federation) == ["early"]


def test_one_that_needs_what_has_succeeded_waits_for_nothing(federation, agent):
    done = factories.make_task(federation, now=NOW)
    complete(claim(agent))

    task = factories.make_task(federation, depends_on=[done.pk], now=NOW)

    assert (task.is_waiting, task.reason) == (False, "")
    assert claim(agent).task == task


@pytest.mark.parametrize("end", ["failed", "cancelled", "expired", "dead"])
def test_one_that_ends_badly_cancels_everything_behind_it_with_the_reason(federation, agent, end):
    submit(federation, ("a", []), ("b", ["a"]), ("c", ["b"]), ("other", []))
    root = Task.objects.get(type="a")
    attempt = claim(agent)
    if end == "cancelled":
        coordination.cancel_task(task=root, now=NOW)
    elif end == "expired":
        Task.objects.filter(pk=root.pk).update(deadline=NOW)
        attempts.expire(now=NOW)
    else:
        Task.objects.filter(pk=root.pk).update(max_attempts=1)
        attempts.fail(task_id=root.pk, epoch=attempt.epoch, error="boom", retryable=end == "dead", now=NOW)

    assert assign(federation) == ["other"]

    assert states() == {"a": end, "b": "cancelled", "c": "cancelled", "other": "assigned"}
    last = Task.objects.get(type="c")
    assert (last.error, last.stopped_by, last.finished_at) == (
        f"It was not started: it needs the task a ({root.pk}), which is {end}.", root, NOW,
    )  # fmt: skip


def test_a_chain_of_a_thousand_falls_in_one_round(federation, django_assert_max_num_queries):
    submit(federation, *[(str(n), [n - 1] if n else []) for n in range(1000)])
    coordination.cancel_task(task=Task.objects.get(type="0"), now=NOW)

    with django_assert_max_num_queries(12):
        assign(federation)

    assert set(states().values()) == {"cancelled"}


def test_retrying_the_first_queues_what_only_it_had_cancelled(federation, agent):
    submit(federation, ("a", []), ("x", []), ("b", ["a"]), ("c", ["b"]), ("both", ["a", "x"]))
    task = {each.type: each for each in Task.objects.all()}
    for name in ("a", "x"):
        coordination.cancel_task(task=task[name], now=NOW)
    assign(federation)
    assert set(states().values()) == {"cancelled"}

    coordination.retry_task(task=task["a"], now=NOW)

    assert assign(federation) == ["a"]
    assert states() == {"a": "assigned", "x": "cancelled", "b": "queued", "c": "queued", "both": "cancelled"}
    assert Task.objects.get(type="both").stopped_by == task["x"]
    for _ in range(3):
        complete(claim(agent))
    assert states()["c"] == "succeeded"


def test_what_needs_a_task_that_ended_badly_cannot_be_retried_before_it(federation):
    submit(federation, ("a", []), ("b", ["a"]))
    coordination.cancel_task(task=Task.objects.get(type="a"), now=NOW)
    assign(federation)

    with pytest.raises(dependencies.NeedsAnother, match="which is cancelled. Retry that one first"):
        coordination.retry_task(task=Task.objects.get(type="b"), now=NOW)


def test_a_task_that_waits_can_be_cancelled_and_expires(federation):
    submit(federation, ("a", []), ("b", ["a"]), ("c", ["a"]))
    coordination.cancel_task(task=Task.objects.get(type="b"), now=NOW)
    Task.objects.filter(type="c").update(deadline=NOW)
    attempts.expire(now=NOW)
    root = Task.objects.get(type="a")

    assert states() == {"a": "queued", "b": "cancelled", "c": "expired"}
    retried = coordination.retry_task(task=Task.objects.get(type="c"), now=NOW)
    assert (retried.is_waiting, retried.reason) == (True, f"It waits for the task {root.pk} to succeed.")


def test_a_lost_agent_in_the_middle_starts_no_dependant(federation, agent):
    submit(federation, ("a", []), ("b", ["a"]))
    claim(agent)
    agents.leave(agent=agent, now=NOW)
    factories.make_agent(federation, "bert", now=NOW)

    assert assign(federation) == ["a"]


def test_the_sweep_finds_what_no_message_told(federation, agent):
    assert set(dispatch.federations_with_due_tasks(now=NOW)) == set()
    submit(federation, ("a", []), ("b", ["a"]))
    attempt = claim(agent)
    assert set(dispatch.federations_with_due_tasks(now=NOW)) == set()

    complete(attempt)

    assert set(dispatch.federations_with_due_tasks(now=NOW)) == {federation.pk}


@pytest.mark.parametrize(
    ("needed", "sentence"),
    [
        (["nobody"], "There is no task nobody in this federation."),
        ([0], "There is no task 0 in this federation."),
        ([UUID(int=1)], "There is no task 00000000-0000-0000-0000-000000000001 in this federation."),
        ([UUID(int=n) for n in range(51)], "A task depends on at most 50 others."),
    ],
)
def test_what_is_not_there_cannot_be_needed(federation, needed, sentence):
    with pytest.raises(BadOrder) as refused:
        factories.make_task(federation, depends_on=needed)

    assert refused.value.extras == {"errors": {"depends_on": [sentence]}}


def test_a_task_of_another_federation_cannot_be_needed(federation):
    foreign = factories.make_task(factories.make_federation(federation.account))

    with pytest.raises(BadOrder, match="There is no task"):
        factories.make_task(federation, depends_on=[foreign.pk])


def test_circles_and_what_is_behind_them_are_refused_the_rest_is_made(federation):
    answers = submit(federation, ("a", ["b"]), ("b", ["a"]), ("c", [0]), ("d", []), ("d", []))

    assert [type(each) for each in answers] == [BadOrder, BadOrder, BadOrder, Task, BadOrder]
    assert "in a circle" in str(answers[0])
    assert list(answers[4].extras["errors"]) == ["key"]
    assert states() == {"d": "queued"}


@pytest.mark.parametrize("payload", [[1], None, {"dependencies": 1}])
def test_the_results_need_a_payload_they_fit_into(federation, payload):
    needed = factories.make_task(federation)

    with pytest.raises(BadOrder, match="the payload is an object without `dependencies`"):
        factories.make_task(federation, depends_on=[needed.pk], payload=payload)


def test_an_id_made_by_a_clock_an_hour_ahead_is_no_hindrance():
    ahead = UUID(int=dependencies.new_id([]).int + (3_600_000 << 80))

    assert dependencies.new_id([ahead]) > ahead


def test_a_deadline_that_has_passed_is_refused_with_the_time_here(federation):
    with pytest.raises(BadOrder, match=f"it is {NOW:%Y-%m-%dT%H:%M:%S}Z here"):
        factories.make_task(federation, deadline=NOW - timedelta(hours=1), now=NOW)


# What the database holds


@transaction.atomic
def _store(federation, task, needs):
    Dependency.objects.create(federation=federation, task=task, needs=needs, position=0)
    with transaction.get_connection().cursor() as cursor:
        cursor.execute("set constraints all immediate")


def test_the_database_refuses_circles_foreign_tasks_and_early_starts(federation, agent):
    first, second = factories.make_task(federation), factories.make_task(federation)
    foreign = factories.make_task(factories.make_federation(federation.account))
    for needs, task in [(second, first), (first, foreign)]:
        with pytest.raises(IntegrityError):
            _store(federation, task, needs)
    with pytest.raises(IntegrityError, match="only_queued_tasks_wait"), transaction.atomic():
        Task.objects.filter(pk=first.pk).update(is_waiting=True, state="running", assigned_to=agent)


# Managed agents


def test_a_managed_program_finds_the_results_in_a_file(federation, runtime):
    factories.make_agent(federation, "managed", runtime="managed", now=NOW)
    needed = factories.make_task(federation, now=NOW)
    worker = factories.make_agent(federation, "worker", now=NOW)
    task = factories.make_task(
        federation, type="execute", payload={"code": "1", "files": {"a": "b"}}, depends_on=[needed.pk], now=NOW
    )
    complete(claim(worker), {"n": 1})
    agents.leave(agent=worker, now=NOW)

    dispatch.assign(federation_id=federation.pk, now=NOW, rng=Random(1))
    for attempt_id in managed.next_to_start(federation_id=federation.pk):
        managed.start(attempt_id=attempt_id, now=NOW)

    files = Execution.objects.get(metadata__task=str(task.pk)).files
    assert set(files) == {"a", workloads.DEPENDENCIES_PATH}
    given = workloads.execution_arguments(type="execute", payload=task.payload, dependencies={"x": 1})["files"]
    assert json.loads(given[workloads.DEPENDENCIES_PATH]) == {"x": 1}
