"""The auto-scaler: reads, decides, applies, records; and what holds it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import IntegrityError, transaction
from django.utils import timezone

from scaling import autoscaler, leases, targets, tasks
from scaling.models import Decision, Group
from scaling.policy import Load, Policy
from tests.factories import make_group
from tests.fakes import FakeTarget

pytestmark = pytest.mark.django_db
NOW = timezone.now()


def evaluate(group: Group, at: float = 0, **options: Any) -> Decision:
    now = NOW + timedelta(seconds=at)
    return autoscaler.evaluate(**{"group_id": group.pk, "by": autoscaler.SCALER, "now": now} | options)


def test_a_busy_target_gets_more_and_the_decision_says_why(fake_target: FakeTarget) -> None:
    fake_target.metrics["cpu"] = 1.0
    group = make_group()

    decision = evaluate(group)

    assert fake_target.moves == [("resize", "one", 3)]
    kept = Decision.objects.get()
    assert (kept.pk, kept.action, kept.current, kept.recommended, kept.applied) == (decision.pk, "up", 2, 3, 3)
    assert kept.reason == "CPU is at 100%, aiming for 70%."
    assert kept.inputs["cpu"] == 1.0


def test_an_idle_target_is_drained_after_the_window(fake_target: FakeTarget) -> None:
    fake_target.sizes["one"] = 6
    fake_target.metrics |= {"cpu": 0.1, "memory": 0.1}
    group = make_group()

    for second in range(0, 320, 10):
        evaluate(group, second)

    assert fake_target.moves == [("drain", "one", 2)]


def test_memory_between_evaluations_counts_violations(fake_target: FakeTarget) -> None:
    fake_target.metrics["cpu"] = 0.9
    group = make_group(policy_type="threshold")

    actions = [evaluate(group, second).action for second in (0, 5, 10, 15)]

    assert actions == ["held", "held", "up", "held"]
    assert fake_target.sizes["one"] == 3


def test_the_minimum_is_kept_even_when_nothing_is_known(fake_target: FakeTarget) -> None:
    fake_target.sizes["one"] = 0
    fake_target.metrics |= {"cpu": None, "memory": None}

    evaluate(make_group(min_size=2))

    assert fake_target.sizes["one"] == 2


@pytest.mark.parametrize(
    ("paused", "auto_scale", "limited_by"), [(True, True, "paused"), (False, False, "auto_scale_off")]
)
def test_paused_or_switched_off_it_only_records_what_it_would_do(
    fake_target: FakeTarget, settings: Any, paused: bool, auto_scale: bool, limited_by: str
) -> None:
    settings.AUTO_SCALE = auto_scale
    fake_target.metrics["cpu"] = 1.0

    decision = evaluate(make_group(paused=paused))

    assert fake_target.moves == []
    assert (decision.action, decision.limited_by, decision.recommended, decision.applied) == ("held", limited_by, 3, 2)


def test_a_dry_run_changes_and_keeps_nothing(fake_target: FakeTarget) -> None:
    fake_target.metrics["cpu"] = 1.0
    group = make_group()

    decision = evaluate(group, dry_run=True)

    group.refresh_from_db()
    assert decision.action == "up"
    assert (fake_target.moves, Decision.objects.count(), group.memory, group.evaluated_at) == ([], 0, {}, None)


def test_given_metrics_stand_in_for_the_targets(fake_target: FakeTarget) -> None:
    decision = evaluate(make_group(), load=Load(observed_at=NOW, cpu=1.0, memory=0.5))

    assert decision.action == "up"


def test_a_target_that_fails_leaves_a_held_decision_with_its_words(fake_target: FakeTarget) -> None:
    fake_target.metrics["cpu"] = 1.0
    fake_target.fails_with = RuntimeError("no room left")

    decision = evaluate(make_group())

    assert (decision.action, decision.limited_by) == ("held", "target")
    assert "no room left" in decision.reason


def test_a_target_that_goes_less_far_is_believed(fake_target: FakeTarget) -> None:
    fake_target.metrics["cpu"] = 1.0
    fake_target.sizes["one"] = 10
    fake_target.most = 12
    group = make_group()

    first, second = evaluate(group), evaluate(group, 5)

    assert (first.action, first.recommended, first.applied, first.limited_by) == ("up", 15, 12, "target")
    assert first.reason.endswith("The target allows 12.")
    assert (second.action, second.applied, second.limited_by) == ("held", 12, "target")


def test_the_latest_decision_of_each_target_is_known(fake_target: FakeTarget) -> None:
    fake_target.metrics["cpu"] = 1.0
    one, two = make_group("one"), make_group("two")
    evaluate(one)
    newest = {"one": evaluate(one, 5), "two": evaluate(two, 5)}

    assert autoscaler.latest("fake") == newest
    assert autoscaler.latest("pool") == {}


def test_a_target_that_is_gone_is_said_and_harms_no_other_group(fake_target: FakeTarget) -> None:
    fake_target.metrics["cpu"] = 1.0
    make_group("gone")
    make_group("one")

    autoscaler.evaluate_all(now=NOW)

    assert fake_target.sizes["one"] == 3
    assert Decision.objects.get(group__target_id="gone").limited_by == "target"


def test_the_same_answer_again_only_counts_up(fake_target: FakeTarget) -> None:
    fake_target.metrics["cpu"] = 1.0
    group = make_group(paused=True)

    for second in (0, 5, 10):
        evaluate(group, second)

    decision = Decision.objects.get()
    assert (decision.repeats, decision.last_at, decision.created_at) == (2, NOW + timedelta(seconds=10), NOW)


def test_a_held_answer_with_another_number_is_still_the_same_answer(fake_target: FakeTarget) -> None:
    group = make_group(paused=True)
    for second, cpu in enumerate((0.9, 1.0)):
        fake_target.metrics["cpu"] = cpu
        fake_target.sizes["one"] = 10
        evaluate(group, second)

    decision = Decision.objects.get()
    assert (decision.repeats, decision.recommended, decision.inputs["cpu"]) == (1, 15, 1.0)


def test_nothing_to_do_is_not_kept_unless_a_person_asked(fake_target: FakeTarget) -> None:
    group = make_group()

    evaluate(group)
    by_machine = Decision.objects.count()
    evaluate(group, by="Stella")

    assert (by_machine, Decision.objects.get().action) == (0, "none")


# --- all groups, one evaluator


def test_every_due_group_is_evaluated_once_per_round(fake_target: FakeTarget) -> None:
    make_group("one")
    make_group("two")

    counts = [autoscaler.evaluate_all(now=NOW + timedelta(seconds=second)) for second in (0, 1, 5)]

    assert counts == [2, 0, 2]


def test_while_another_process_leads_nothing_is_evaluated(fake_target: FakeTarget) -> None:
    make_group()
    leases.take(name=autoscaler.LEASE, holder="another", ttl_seconds=30, now=NOW)

    assert autoscaler.evaluate_all(now=NOW) == 0


def test_a_dead_leader_is_replaced_when_its_lease_ends(fake_target: FakeTarget) -> None:
    make_group()
    leases.take(name=autoscaler.LEASE, holder="dead", ttl_seconds=30, now=NOW)

    assert autoscaler.evaluate_all(now=NOW + timedelta(seconds=31)) == 1


def test_a_target_that_cannot_be_read_does_not_stop_the_others(fake_target: FakeTarget) -> None:
    class Broken(FakeTarget):
        def load(self, target_id: str, *, now: Any) -> Load:
            raise RuntimeError("cannot be read")

    targets.register("broken", Broken())
    make_group("one", target_type="broken")
    make_group("one")

    assert autoscaler.evaluate_all(now=NOW) == 1
    targets.unregister("broken")


def test_the_background_tasks_run(fake_target: FakeTarget) -> None:
    make_group()

    tasks.evaluate_groups()
    tasks.sweep_nodes()
    tasks.prune()

    assert Group.objects.get().evaluated_at


# --- groups


def test_a_group_is_made_for_a_registered_target_only(fake_target: FakeTarget) -> None:
    made = autoscaler.create(name="g", target_type="fake", target_id="one", wanted=Policy(max=9), now=NOW)

    assert autoscaler.policy_of(made) == Policy(max=9)
    with pytest.raises(targets.UnknownTarget, match="kubernetes"):
        autoscaler.create(name="h", target_type="kubernetes", target_id="one", wanted=Policy(), now=NOW)
    with pytest.raises(targets.UnknownTarget, match="three"):
        autoscaler.create(name="h", target_type="fake", target_id="three", wanted=Policy(), now=NOW)


def test_a_target_has_one_group(fake_target: FakeTarget) -> None:
    make_group("one")

    with pytest.raises(autoscaler.GroupExists):
        autoscaler.create(name="g", target_type="fake", target_id="one", wanted=Policy(), now=NOW)


def test_a_policy_that_contradicts_itself_is_refused(fake_target: FakeTarget) -> None:
    with pytest.raises(autoscaler.Contradiction) as refused:
        autoscaler.change(group=make_group(), name="g", wanted=Policy(min=9, max=3))

    assert list(refused.value.extras["errors"]) == ["policy.max"]


def test_of_two_changes_to_one_version_the_second_is_refused(fake_target: FakeTarget) -> None:
    group = make_group()
    stale = Group.objects.get()
    autoscaler.change(group=group, name="g", wanted=Policy(max=9))

    with pytest.raises(autoscaler.Changed):
        autoscaler.change(group=stale, name="h", wanted=Policy(max=8))

    assert Group.objects.get().max_size == 9


def test_old_decisions_are_forgotten(fake_target: FakeTarget) -> None:
    fake_target.metrics["cpu"] = 1.0
    evaluate(make_group())

    assert autoscaler.prune(now=NOW + timedelta(days=91)) == 1


@pytest.mark.parametrize(
    "broken",
    [
        {"min_size": 5, "max_size": 4},
        {"scale_down_cpu_threshold": 0.8},
        {"scale_down_memory_threshold": 0.75},
        {"tolerance": 1},
        {"violations": 0},
        {"step": 0},
        {"cooldown_seconds": -1},
        {"target_utilisation": 0},
        {"policy_type": "magic"},
    ],
)
def test_the_database_refuses_an_impossible_policy(broken: dict[str, Any]) -> None:
    with pytest.raises(IntegrityError), transaction.atomic():
        make_group(**broken)


def test_the_database_refuses_a_decision_that_did_not_do_what_it_says() -> None:
    lie = {"current": 2, "recommended": 3, "applied": 2, "action": "up", "reason": "x", "by": "x"}

    with pytest.raises(IntegrityError), transaction.atomic():
        Decision.objects.create(group=make_group(), last_at=NOW, created_at=NOW, **lie)
