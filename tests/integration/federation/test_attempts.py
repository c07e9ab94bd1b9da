"""One task through its attempts: results once, stale ones without effect, nothing lost."""

from datetime import timedelta
from random import Random

import pytest
from django.utils import timezone

from federation import agents, attempts, coordination, dispatch, losses, tasks
from federation.models import Attempt, DeadLetter, Event, Task
from tests import factories

pytestmark = pytest.mark.django_db
NOW = timezone.now()
LATER = NOW + timedelta(seconds=31)


@pytest.fixture
def federation():
    return factories.make_federation()


@pytest.fixture
def agent(federation):
    return factories.make_agent(federation, "anna", now=NOW)


def claim(agent, now=NOW):
    return dispatch.claim(agent=agent, now=now)


def complete(attempt, result="done", now=NOW):
    return attempts.complete(
        task_id=attempt.task_id, epoch=attempt.epoch, agent_id=attempt.agent_id, result=result, now=now
    )


def fail(attempt, retryable=True, now=NOW):
    return attempts.fail(
        task_id=attempt.task_id,
        epoch=attempt.epoch,
        agent_id=attempt.agent_id,
        error="boom",
        retryable=retryable,
        now=now,
    )


def test_a_completed_task_has_its_result_and_frees_its_agent(federation, agent):
    factories.make_task(federation, now=NOW)
    attempt = claim(agent)

    task = complete(attempt, {"n": 1})

    assert (task.state, task.result, task.finished_at) == ("succeeded", {"n": 1}, NOW)
    attempt.refresh_from_db()
    assert (attempt.state, attempt.ended_at) == ("succeeded", NOW)
    assert not Attempt.objects.live().exists()


def test_completing_twice_changes_nothing(federation, agent):
    factories.make_task(federation, now=NOW)
    attempt = claim(agent)
    complete(attempt, 1)

    again = complete(attempt, 1, now=LATER)

    assert (again.state, again.finished_at) == ("succeeded", NOW)
    with pytest.raises(attempts.TaskSettled):
        complete(attempt, 2, now=LATER)
    assert Task.objects.get().result == 1


def test_a_late_result_is_kept_on_its_attempt_without_effect(federation, agent):
    factories.make_task(federation, now=NOW)
    first = claim(agent)
    attempts.lapse(now=LATER)
    second = claim(factories.make_agent(federation, "bert", now=LATER), LATER)

    with pytest.raises(attempts.StaleEpoch) as refused:
        complete(first, "late", now=LATER)

    assert refused.value.extras == {"epoch": 2}
    first.refresh_from_db()
    assert (first.state, first.is_late, first.answer) == ("lapsed", True, {"result": "late"})
    assert complete(second, "in time", now=LATER).result == "in time"


def test_another_agent_cannot_complete_in_its_name(federation, agent):
    factories.make_task(federation, now=NOW)
    attempt = claim(agent)
    other = factories.make_agent(federation, "other", now=NOW)

    with pytest.raises(attempts.StaleEpoch):
        attempts.complete(task_id=attempt.task_id, epoch=1, agent_id=other.pk, result=1, now=NOW)

    assert Task.objects.get().state == "running"


def test_a_retryable_failure_is_tried_again_after_a_growing_pause_and_ends_as_a_dead_letter(federation, agent):
    factories.make_task(federation, max_attempts=3, now=NOW)
    now, pauses = NOW, []

    for _ in range(3):
        task = fail(claim(agent, now), now=now)
        pauses.append((task.not_before - now).total_seconds())
        now = task.not_before

    assert (task.state, task.error, task.tries) == ("dead", "boom", 3)
    assert pauses[:2] == [1, 2]
    letter = DeadLetter.objects.get()
    assert (letter.kind, letter.reason, letter.task) == ("task", "attempts", task)
    assert Event.objects.filter(kind="dead").count() == 1


def test_a_final_failure_is_not_tried_again(federation, agent):
    factories.make_task(federation, now=NOW)

    task = fail(claim(agent), retryable=False)

    assert (task.state, task.error) == ("failed", "boom")
    assert not DeadLetter.objects.exists()


def test_a_success_after_a_failure_shows_no_error(federation, agent):
    factories.make_task(federation, now=NOW)
    fail(claim(agent))

    task = complete(claim(agent, LATER), now=LATER)

    assert (task.state, task.error) == ("succeeded", "")


def test_a_lapsed_lease_gives_the_task_to_another_with_the_next_epoch(federation, agent):
    factories.make_task(federation, now=NOW)
    claim(agent)
    factories.make_agent(federation, "bert", now=NOW)

    assert attempts.lapse(now=NOW + timedelta(seconds=29)) == []
    assert attempts.lapse(now=LATER) == [federation.pk]
    made = dispatch.assign(federation_id=federation.pk, now=LATER, rng=Random(1))

    assert [(attempt.agent.name, attempt.epoch) for attempt in made] == [("bert", 2)]
    assert Event.objects.filter(kind="reassigned").count() == 1


def test_extending_keeps_the_lease_and_tells_progress(federation, agent):
    factories.make_task(federation, now=NOW)
    attempt = claim(agent)

    until = attempts.extend(
        task_id=attempt.task_id, agent_id=agent.pk, epoch=1, progress=0.25, now=NOW + timedelta(seconds=20)
    )

    assert until == NOW + timedelta(seconds=50)
    assert attempts.lapse(now=LATER) == []
    assert Task.objects.get().progress == 0.25
    with pytest.raises(attempts.StaleEpoch):
        attempts.extend(task_id=attempt.task_id, agent_id=agent.pk, epoch=7, now=NOW)


def test_an_agent_that_is_lost_in_the_middle_loses_its_task_to_another(federation, agent):
    factories.make_task(federation, now=NOW)
    attempt = claim(agent)
    silent_until = NOW + timedelta(seconds=61)
    bert = factories.make_agent(federation, "bert", now=silent_until)

    assert losses.lose_silent(now=silent_until) == [federation.pk]

    made = dispatch.assign(federation_id=federation.pk, now=silent_until, rng=Random(1))
    assert [(each.agent, each.epoch) for each in made] == [(bert, 2)]
    with pytest.raises(attempts.StaleEpoch):
        complete(attempt, now=silent_until)


def test_a_task_that_nobody_began_costs_no_attempt_when_its_agent_leaves(federation, agent):
    task = factories.make_task(federation, max_attempts=1, now=NOW)
    dispatch.assign(federation_id=federation.pk, now=NOW, rng=Random(1))

    agents.leave(agent=agent, now=NOW)

    task.refresh_from_db()
    assert (task.state, task.tries) == ("queued", 0)


def test_a_begun_task_with_no_attempts_left_dies_with_its_agent(federation, agent):
    task = factories.make_task(federation, max_attempts=1, now=NOW)
    claim(agent)

    agents.leave(agent=agent, now=NOW)

    task.refresh_from_db()
    assert (task.state, task.error) == ("dead", "anna left.")


@pytest.mark.parametrize("begun", [False, True])
def test_cancelling_ends_a_task_at_once_and_what_comes_later_has_no_effect(federation, agent, begun):
    task = factories.make_task(federation, now=NOW)
    attempt = claim(agent) if begun else None

    cancelled = coordination.cancel_task(task=task, now=NOW)

    assert (cancelled.state, cancelled.finished_at) == ("cancelled", NOW)
    with pytest.raises(attempts.TaskSettled):
        coordination.cancel_task(task=task, now=NOW)
    if attempt:
        with pytest.raises(attempts.TaskSettled):
            complete(attempt)
        assert Task.objects.get().result is None


def test_a_task_past_its_deadline_expires_wherever_it_is(federation, agent):
    running = factories.make_task(federation, deadline=NOW + timedelta(seconds=5), now=NOW)
    claim(agent)
    queued = factories.make_task(federation, required_capabilities=["x"], deadline=NOW + timedelta(seconds=5), now=NOW)
    factories.make_task(federation, deadline=NOW + timedelta(seconds=50), now=NOW)

    stopped = attempts.expire(now=NOW + timedelta(seconds=5))

    assert [attempt.task for attempt in stopped] == [running]
    assert set(Task.objects.filter(state="expired")) == {running, queued}
    assert attempts.expire(now=NOW + timedelta(seconds=6)) == []


def test_a_retried_task_begins_afresh(federation, agent):
    task = factories.make_task(federation, max_attempts=1, deadline=NOW + timedelta(seconds=5), now=NOW)
    fail(claim(agent))

    retried = coordination.retry_task(task=task, now=LATER)

    assert (retried.state, retried.tries, retried.error, retried.deadline) == ("queued", 0, "", None)
    assert complete(claim(agent, LATER), now=LATER).state == "succeeded"
    with pytest.raises(attempts.TaskSettled):
        coordination.retry_task(task=task, now=LATER)


def test_a_refused_start_waits_with_its_reason_and_costs_no_attempt(federation, agent):
    task = factories.make_task(federation, max_attempts=1, now=NOW)
    made = dispatch.assign(federation_id=federation.pk, now=NOW, rng=Random(1))

    attempts.refuse(attempt=made[0], reason="Insufficient credits: need 2, have 1", now=NOW)

    task.refresh_from_db()
    assert (task.state, task.reason, task.tries) == ("queued", "Insufficient credits: need 2, have 1", 0)
    assert dispatch.assign(federation_id=federation.pk, now=NOW, rng=Random(1)) == []
    assert len(dispatch.assign(federation_id=federation.pk, now=LATER, rng=Random(1))) == 1


def test_agents_that_were_silent_because_we_were_late_are_forgiven(federation, agent):
    factories.make_task(federation, now=NOW)
    claim(agent)

    agents.forgive(seconds=3600)

    an_hour_on = NOW + timedelta(seconds=3600 + 20)
    assert attempts.lapse(now=an_hour_on) == []
    assert losses.lose_silent(now=an_hour_on) == []


def test_of_a_hundred_tasks_whose_agents_were_killed_each_is_reassigned_within_its_lease_and_a_second(federation):
    """Twenty agents are killed at different moments with five tasks each; the sweep looks once a second."""
    chance = Random(7)
    doomed = [factories.make_agent(federation, f"doomed-{n}", now=NOW) for n in range(20)]
    for _ in range(100):
        factories.make_task(federation, now=NOW)
    lease_ends = {}
    for agent in doomed:
        for attempt in dispatch.claim_many(agent=agent, most=5, now=NOW):
            last = NOW + timedelta(seconds=chance.uniform(0, 25))
            lease_ends[attempt.task_id] = attempts.extend(
                task_id=attempt.task_id, agent_id=agent.pk, epoch=attempt.epoch, now=last
            )
    spare = factories.make_agent(federation, "spare", now=NOW, max_concurrent_tasks=100)

    late_by = {}
    for second in range(26, 58):
        now = NOW + timedelta(seconds=second + 0.37)
        agents.heartbeat(agent=spare, status="idle", load=None, running=[], now=now)
        attempts.lapse(now=now)
        for attempt in dispatch.assign(federation_id=federation.pk, now=now, rng=chance):
            assert (attempt.agent, attempt.epoch) == (spare, 2)
            late_by[attempt.task_id] = (now - lease_ends[attempt.task_id]).total_seconds()

    assert len(late_by) == 100
    assert 0 <= min(late_by.values()) <= max(late_by.values()) <= 1


def test_when_the_clock_is_set_back_by_an_hour_nothing_waits_for_it_to_catch_up(federation, agent):
    """Everything was written by the clock that was an hour ahead."""
    held = factories.make_task(federation, now=NOW)
    claim(agent)
    queued = factories.make_task(federation, now=NOW)

    agents.forgive(seconds=-3600)

    back = NOW - timedelta(seconds=3600)
    bert = factories.make_agent(federation, "bert", now=back)
    made = dispatch.assign(federation_id=federation.pk, now=back, rng=Random(1))
    assert [attempt.task for attempt in made] == [queued]
    assert attempts.lapse(now=back + timedelta(seconds=29)) == []
    assert attempts.lapse(now=back + timedelta(seconds=31)) == [federation.pk]
    agents.heartbeat(agent=bert, status="idle", load=None, running=[], now=back + timedelta(seconds=31))
    made = dispatch.assign(federation_id=federation.pk, now=back + timedelta(seconds=31), rng=Random(1))
    assert {(attempt.task, attempt.epoch) for attempt in made} == {(held, 2), (queued, 2)}


def test_a_lease_that_ends_before_the_next_sweep_is_awaited(federation, agent, monkeypatch):
    factories.make_task(federation, now=timezone.now())
    dispatch.assign(federation_id=federation.pk, now=timezone.now(), rng=Random(1))
    attempt = Attempt.objects.get()
    sent = []
    monkeypatch.setattr(tasks.lapse, "apply_async", lambda **how: sent.append(how))
    until = timezone.now().timestamp() + 2

    tasks.lapse(until=until)
    assert sent == []

    Attempt.objects.update(lease_expires_at=timezone.now() + timedelta(seconds=1.5))
    tasks.lapse(until=until)
    (again,) = sent
    assert (again["kwargs"], again["queue"]) == ({"until": until}, "sweeps")
    assert 1 < again["countdown"] < 1.6

    Attempt.objects.update(lease_expires_at=timezone.now())
    tasks.lapse(until=until)
    attempt.refresh_from_db()
    assert (attempt.state, len(sent)) == ("lapsed", 1)


def test_what_waits_at_an_agent_that_keeps_claiming_does_not_lapse(federation):
    """It has room for five and begins one every ten seconds; a lease lasts thirty."""
    slow = factories.make_agent(federation, "slow", now=NOW)
    for _ in range(5):
        factories.make_task(federation, now=NOW)
    dispatch.assign(federation_id=federation.pk, now=NOW, rng=Random(1))

    for number in range(5):
        now = NOW + timedelta(seconds=10 * number)
        attempt = claim(slow, now)
        attempts.complete(task_id=attempt.task_id, epoch=attempt.epoch, result=number, now=now)
        assert attempts.lapse(now=now + timedelta(seconds=9)) == []

    assert set(Attempt.objects.values_list("epoch", "state")) == {(1, "succeeded")}


def test_what_waits_at_an_agent_that_stopped_claiming_lapses(federation):
    gone = factories.make_agent(federation, "gone", now=NOW)
    for _ in range(2):
        factories.make_task(federation, now=NOW)
    dispatch.assign(federation_id=federation.pk, now=NOW, rng=Random(1))
    claim(gone)

    attempts.lapse(now=LATER)

    assert list(Attempt.objects.values_list("state", flat=True)) == ["lapsed", "lapsed"]
