"""Pools that follow their load: the target, the group that comes with the product, and what claims make of it."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import IntegrityError, transaction
from django.urls import reverse
from django.utils import timezone

from sandboxes import built_in, claims, executor, pools, programs, tasks
from sandboxes.models import Execution, Pool
from sandboxes.scaling_target import TYPE, PoolTarget
from scaling import autoscaler, targets
from scaling.models import Decision, Group
from scaling.policy import Policy
from tests import factories, scripted

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("runtime")]
NOW = timezone.now()


@pytest.fixture
def account():
    return factories.make_account()


@pytest.fixture
def group():
    return Group.objects.get()


def python() -> Pool:
    return Pool.objects.get(account=None, name="python")


def shrink(to: int = 2) -> Pool:
    pools.resize(pool=python(), to=to)
    return python()


def submit(account, count: int) -> None:
    for _ in range(count):
        factories.make_execution(account)


def claim_all() -> list[Execution]:
    return list(iter(lambda: claims.claim(now=timezone.now()), None))


def evaluate(group: Group, after: float = 0) -> Decision:
    """As the schedule does it, some seconds from now."""
    now = timezone.now() + timedelta(seconds=after)
    return autoscaler.evaluate(group_id=group.pk, by=autoscaler.SCALER, now=now)


# --- the group that comes with the product


def test_a_group_for_the_python_pool_is_there_from_the_start(group, settings):
    assert (group.target_type, group.target_id) == (TYPE, str(python().pk))
    assert (group.policy_type, group.min_size, group.max_size) == ("target_tracking", 2, settings.MAX_SANDBOXES)
    assert python().size == settings.MAX_SANDBOXES


def test_ensuring_again_changes_nothing_and_brings_no_removed_group_back(group):
    built_in.ensure()
    kept = Group.objects.get() == group
    autoscaler.remove(group=group)

    built_in.ensure()

    assert kept
    assert not Group.objects.exists()


# --- up and down


def test_load_makes_the_pool_larger_and_claims_take_more(account, group):
    shrink(to=2)
    submit(account, 8)
    before = len(claim_all())

    decision = evaluate(group)

    assert before == 2
    assert (decision.action, decision.current, decision.applied) == ("up", 2, 3)
    assert decision.reason == "Occupancy is at 100%, aiming for 70%."
    assert decision.inputs["queue"] == 6
    assert python().size == 3
    assert len(claim_all()) == 1


def test_under_lasting_load_it_reaches_its_maximum(account, group, settings):
    shrink(to=2)
    submit(account, 12)

    sizes = []
    for second in range(0, 60, 5):
        claim_all()
        evaluate(group, second)
        sizes.append(python().size)

    assert sizes == sorted(sizes)
    assert sizes[-1] == settings.MAX_SANDBOXES
    assert Execution.objects.live().count() == settings.MAX_SANDBOXES


def test_a_long_queue_counts_with_what_recent_executions_took(account, group, runtime):
    runtime.script = lambda request: scripted.outcome(duration_ms=10_000.0)
    submit(account, 7)
    executor.run(execution=claims.claim(now=timezone.now()), clock=timezone.now)
    shrink(to=2)

    decision = evaluate(group)

    # Six that take ten seconds each should be done within five: twelve, of which a step allows six in all.
    assert decision.inputs["seconds_each"] == 10
    assert (decision.recommended, decision.applied, decision.limited_by) == (12, 6, "step")


def test_an_idle_pool_shrinks_to_its_minimum_only_after_the_window(group):
    at_once = [evaluate(group, second).action for second in range(0, 300, 20)]

    later = evaluate(group, 320)

    assert set(at_once) == {"held"}
    assert (later.action, later.applied, python().size) == ("down", 2, 2)


def test_shrinking_ends_nothing_and_lets_nothing_new_in(account, group):
    submit(account, 6)
    running = claim_all()

    shrink(to=2)
    submit(account, 1)

    assert len(running) == Execution.objects.live().count() == 6
    assert claims.claim(now=timezone.now()) is None
    assert PoolTarget().load(str(python().pk), now=NOW).busy == 1.0


def test_switched_off_it_says_what_it_would_do_and_does_not(account, group, settings):
    settings.AUTO_SCALE = False
    shrink(to=2)
    submit(account, 8)
    claim_all()

    decision = evaluate(group)

    assert (decision.action, decision.limited_by, decision.recommended) == ("held", "auto_scale_off", 3)
    assert python().size == 2
    assert claims.claim(now=timezone.now()) is None


def test_the_schedule_evaluates_it_under_the_lease(account, group):
    shrink(to=2)
    submit(account, 8)
    claim_all()

    assert autoscaler.evaluate_all(now=timezone.now()) == 1
    assert python().size == 3


def test_a_larger_pool_rings_for_those_that_wait(monkeypatch, django_capture_on_commit_callbacks):
    rung = []
    monkeypatch.setattr(tasks.run_execution, "apply_async", lambda *args, **options: rung.append(args))
    shrink(to=2)

    with django_capture_on_commit_callbacks(execute=True):
        pools.resize(pool=python(), to=5)

    assert len(rung) == 3


# --- bounds


@pytest.mark.parametrize(("to", "most", "size"), [(0, 10, 2), (1, 10, 2), (7, 10, 7), (99, 10, 10), (9, 4, 4)])
def test_a_size_stays_within_the_pools_bounds_and_the_setting(settings, to, most, size):
    settings.MAX_SANDBOXES = most

    pools.resize(pool=python(), to=to)

    assert python().size == size


def test_a_group_that_wants_more_than_the_pool_allows_says_so(account):
    pool = factories.make_pool(account, max_size=3)
    pools.resize(pool=pool, to=2)
    wanted = Policy(min=4, max=20)
    group = autoscaler.create(name="g", target_type=TYPE, target_id=str(pool.pk), wanted=wanted, now=NOW)

    first, second = evaluate(group), evaluate(group, 5)

    assert (first.action, first.applied, first.limited_by) == ("up", 3, "target")
    assert (second.action, second.limited_by) == ("held", "target")
    assert "allows no other size than 3" in second.reason


@pytest.mark.parametrize("size", [0, 1, 11])
def test_the_database_refuses_a_size_outside_the_bounds(size):
    with pytest.raises(IntegrityError), transaction.atomic():
        Pool.objects.filter(pk=python().pk).update(size=size)


def test_a_pool_at_its_maximum_follows_it_and_another_stays_where_it_is(account):
    by = factories.make_staff()
    full = pools.open_pool(account=account, name="full", template="python", by=by, max_size=4)
    scaled = pools.open_pool(account=account, name="scaled", template="python", by=by, max_size=4)
    pools.resize(pool=scaled, to=3)

    sizes = [pools.change_pool(pool=pool, changes={"max_size": 8}, by=by).size for pool in (full, scaled)]

    assert sizes == [8, 3]
    assert pools.change_pool(pool=scaled, changes={"min_size": 5}, by=by).size == 5
    assert pools.change_pool(pool=scaled, changes={"min_size": 1, "max_size": 2}, by=by).size == 2


def test_bounds_that_contradict_each_other_are_refused_in_words(account):
    with pytest.raises(programs.Refused):
        pools.open_pool(account=account, name="odd", template="python", by=None, min_size=5, max_size=4)


# --- the target


def test_every_pool_can_be_chosen_by_a_name_that_says_whose_it_is(account):
    factories.make_pool(account)

    names = [name for _, name in PoolTarget().choices()]

    assert sorted(names) == sorted(["python", "node", f"mine of {account.name}"])


@pytest.mark.parametrize("target_id", ["", "nope", "0198c000-0000-7000-8000-000000000000"])
def test_a_pool_that_is_gone_is_an_unknown_target(target_id):
    with pytest.raises(targets.UnknownTarget):
        PoolTarget().current(target_id)


def test_a_closed_pools_group_is_held_and_says_why(account):
    pool = factories.make_pool(account)
    group = autoscaler.create(name="g", target_type=TYPE, target_id=str(pool.pk), wanted=Policy(), now=NOW)
    pools.close_pool(pool=pool, by=factories.make_staff())

    decision = evaluate(group)

    assert (decision.action, decision.limited_by) == ("held", "target")
    assert "was closed" in decision.reason


def test_a_pool_that_ran_nothing_has_no_time_for_each(account):
    load = PoolTarget().load(str(python().pk), now=NOW)

    assert (load.busy, load.queue, load.seconds_each, load.failed()) == (0.0, 0, None, [])


def test_what_waits_for_its_next_attempt_is_not_yet_queue(account):
    submit(account, 1)
    Execution.objects.update(available_at=NOW + timedelta(hours=1))

    assert PoolTarget().load(str(python().pk), now=NOW).queue == 0


# --- pages


def test_staff_see_size_and_the_last_decision_with_a_link(client, account, group):
    shrink(to=2)
    submit(account, 8)
    claim_all()
    evaluate(group)
    client.force_login(factories.make_staff())

    shown = client.get(reverse("sandboxes:pools", args=[account])).content.decode()
    link = reverse("scaling:group", args=[account, group.pk])
    scaled = client.get(link).content.decode()

    assert "Occupancy is at 100%, aiming for 70%." in shown
    assert f'href="{link}"' in shown
    assert "Occupancy is at 100%, aiming for 70%." in scaled
    assert "3 now, 2 to 10" in scaled


def test_customers_see_the_size_and_not_the_operators_reasons(client, account, group):
    owner = factories.make_user()
    mine = factories.make_account(owner)
    shrink(to=2)
    submit(account, 8)
    claim_all()
    evaluate(group)
    client.force_login(owner)

    shown = client.get(reverse("sandboxes:pools", args=[mine])).content.decode()

    assert "of 3 running" in shown
    assert "Occupancy" not in shown
