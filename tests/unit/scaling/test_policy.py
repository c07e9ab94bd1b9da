"""The rule of scaling: what is asked for, what holds it back, and what has the last word."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaling import policy
from scaling.policy import Action, History, Kind, Load, Policy, Verdict

NOW = datetime(2026, 1, 1, tzinfo=UTC)
TRACKING = Policy(min=1, max=20)
THRESHOLD = Policy(type=Kind.THRESHOLD, min=2, max=10)


def load(at: datetime = NOW, **metrics: Any) -> Load:
    return Load(**{"observed_at": at, "cpu": 0.7, "memory": 0.1} | metrics)


def decide(wanted: Policy, said: Load, current: int, history: History | None = None, now: datetime = NOW) -> Verdict:
    return policy.decide(wanted, said, current=current, history=history or History(), now=now)


def run(wanted: Policy, cpus: list[float], current: int, every: float = 5) -> list[Verdict]:
    """The verdicts of one sample after the other, each applied."""
    found, history, now = [], History(), NOW
    for cpu in cpus:
        verdict = decide(wanted, load(now, cpu=cpu, memory=0), current, history, now)
        history = verdict.history
        if verdict.desired != current:
            history = history.applied(by=verdict.desired - current, now=now)
            current = verdict.desired
        found.append(verdict)
        now += timedelta(seconds=every)
    return found


# --- target tracking


@pytest.mark.parametrize(
    ("cpu", "current", "recommended"),
    [(0.7, 3, 3), (0.77, 3, 3), (0.63, 3, 3), (0.78, 3, 4), (0.9, 2, 3), (1.0, 7, 10), (0.35, 10, 5), (0.0, 5, 1)],
)
def test_it_asks_for_the_ceiling_of_load_by_target_outside_the_dead_band(
    cpu: float, current: int, recommended: int
) -> None:
    assert decide(TRACKING, load(cpu=cpu), current).recommended == recommended


def test_more_is_applied_at_once_and_says_why() -> None:
    verdict = decide(TRACKING, load(cpu=0.98), 5)

    assert (verdict.action, verdict.desired) == (Action.UP, 7)
    assert verdict.reason == "CPU is at 98%, aiming for 70%."


def test_the_largest_recommendation_of_several_metrics_wins() -> None:
    assert decide(TRACKING, load(cpu=0.1, memory=1.0), 7).recommended == 10


def test_a_backlog_asks_for_enough_to_drain_it_in_time() -> None:
    verdict = decide(TRACKING, load(cpu=0.7, queue=60, seconds_each=3), 4)

    assert verdict.recommended == 6


def test_from_nothing_a_backlog_alone_starts_some() -> None:
    nothing_yet = Load(observed_at=NOW, queue=5, needed=frozenset())

    assert decide(Policy(min=0), nothing_yet, 0).desired == 1


def test_less_waits_until_it_was_not_needed_for_the_whole_window() -> None:
    verdicts = run(TRACKING, [0.3] * 62, current=8)

    assert {verdict.limited_by for verdict in verdicts[:60]} == {"down_window"}
    downs = [verdict for verdict in verdicts if verdict.action == Action.DOWN]
    assert downs[0].desired == 4


def test_a_peak_inside_the_window_keeps_what_it_needed() -> None:
    verdicts = run(TRACKING, [0.3] * 30 + [0.7] + [0.3] * 40, current=8)

    assert Action.DOWN not in {verdict.action for verdict in verdicts}


def test_an_up_window_waits_for_lasting_need() -> None:
    verdicts = run(Policy(min=1, up_window_seconds=10, down_window_seconds=10), [1.0] * 4, current=4)

    assert [verdict.action for verdict in verdicts][:3] == [Action.HELD] * 3
    assert verdicts[3].action == Action.UP


def test_growth_is_limited_to_doubling_or_four_per_period() -> None:
    huge = Policy(min=1, max=500, target_utilisation=0.05)

    assert decide(huge, load(cpu=1.0), 2).desired == 6
    assert decide(huge, load(cpu=1.0), 10).desired == 20
    assert [verdict.desired for verdict in run(huge, [1.0] * 4, current=2)] == [6, 6, 6, 12]


def test_a_step_limits_both_directions() -> None:
    stepped = Policy(min=1, step=1, down_window_seconds=0)

    assert decide(stepped, load(cpu=1.0), 10).desired == 11
    assert decide(stepped, load(cpu=0.1), 10).desired == 9


def test_the_maximum_has_the_last_word() -> None:
    verdict = decide(Policy(min=1, max=5), load(cpu=1.0), 4)
    held = decide(Policy(min=1, max=5), load(cpu=1.0), 5)

    assert (verdict.desired, verdict.limited_by) == (5, "max")
    assert (held.action, held.limited_by) == (Action.HELD, "max")


@pytest.mark.parametrize(
    ("current", "action", "desired"), [(0, Action.UP, 2), (1, Action.UP, 2), (25, Action.DOWN, 20)]
)
def test_bounds_are_enforced_even_without_any_metric(current: int, action: Action, desired: int) -> None:
    verdict = decide(Policy(), Load(observed_at=NOW), current)

    assert (verdict.action, verdict.desired) == (action, desired)


# --- what cannot be known


@pytest.mark.parametrize("wanted", [TRACKING, THRESHOLD])
@pytest.mark.parametrize(
    "said",
    [
        Load(observed_at=NOW),
        Load(observed_at=NOW, cpu=float("nan"), memory=None),
        Load(observed_at=NOW, cpu=-1, memory=float("inf")),
        load(at=NOW - timedelta(seconds=61), cpu=1.0),
        load(at=NOW + timedelta(minutes=1), cpu=1.0),
    ],
)
def test_missing_stale_and_impossible_metrics_hold(wanted: Policy, said: Load) -> None:
    verdict = decide(wanted, said, 5)

    assert (verdict.action, verdict.limited_by) == (Action.HELD, "metrics")


@pytest.mark.parametrize("wanted", [Policy(min=1, down_window_seconds=0), Policy(type=Kind.THRESHOLD, violations=1)])
def test_with_one_metric_failed_others_may_add_but_nothing_is_taken_away(wanted: Policy) -> None:
    assert decide(wanted, Load(observed_at=NOW, cpu=1.0), 5).action == Action.UP
    assert decide(wanted, Load(observed_at=NOW, cpu=0.1), 5).desired == 5


# --- the specification's thresholds


def test_upstreams_fact_s3_up_when_busy_and_down_when_idle() -> None:
    wanted = Policy(
        type=Kind.THRESHOLD,
        max=10,
        scale_up_cpu_threshold=0.7,
        scale_down_cpu_threshold=0.3,
        scale_down_memory_threshold=0.3,
        violations=1,
        cooldown_seconds=1,
    )

    assert decide(wanted, load(cpu=0.9, memory=0), 5).action == Action.UP
    assert decide(wanted, load(cpu=0.1, memory=0.1), 5).action == Action.DOWN


def test_three_violations_in_a_row_are_needed() -> None:
    verdicts = run(THRESHOLD, [0.9, 0.9, 0.9], current=5)

    assert [verdict.limited_by for verdict in verdicts] == ["violations", "violations", ""]
    assert verdicts[-1].desired == 6


def test_each_direction_counts_its_own_violations() -> None:
    verdicts = run(THRESHOLD, [0.9, 0.9, 0.1, 0.5, 0.9, 0.9], current=5)

    assert {verdict.desired for verdict in verdicts} == {5}


def test_after_a_move_the_cooldown_holds_the_next() -> None:
    verdicts = run(THRESHOLD, [0.9] * 70, current=5)

    ups = [index for index, verdict in enumerate(verdicts) if verdict.action == Action.UP]
    assert ups == [2, 62]
    assert verdicts[10].limited_by == "cooldown"


def test_exactly_on_a_threshold_is_inside() -> None:
    assert decide(THRESHOLD, load(cpu=0.75, memory=0.25), 5).action == Action.NONE


def test_memory_must_be_low_too_before_something_is_taken_away() -> None:
    eager = Policy(type=Kind.THRESHOLD, violations=1)

    assert decide(eager, load(cpu=0.1, memory=0.5), 5).action == Action.NONE


def test_a_long_queue_counts_as_a_violation() -> None:
    eager = Policy(type=Kind.THRESHOLD, violations=1)

    assert decide(eager, load(cpu=0.5, queue=31), 5).action == Action.UP


def test_a_waiting_queue_keeps_what_there_is() -> None:
    eager = Policy(type=Kind.THRESHOLD, violations=1)

    assert decide(eager, load(cpu=0.1, memory=0.1, queue=1), 5).action == Action.NONE


# --- always

metric = st.none() | st.floats(allow_nan=True, allow_infinity=True)
policies = st.builds(
    Policy,
    type=st.sampled_from(list(Kind)),
    min=st.integers(0, 5),
    max=st.integers(5, 50),
    violations=st.integers(1, 3),
    cooldown_seconds=st.sampled_from([0, 60]),
    up_window_seconds=st.sampled_from([0, 20]),
    down_window_seconds=st.sampled_from([0, 30]),
    step=st.none() | st.integers(1, 9),
)


@given(policies, st.integers(0, 80), st.lists(st.tuples(metric, metric, metric, metric), max_size=12))
def test_whatever_is_measured_the_size_stays_in_bounds_and_the_verdict_is_consistent(
    wanted: Policy, current: int, samples: list[tuple[float | None, ...]]
) -> None:
    history, now = History(), NOW
    for cpu, memory, busy, queue in samples:
        said = Load(observed_at=now, cpu=cpu, memory=memory, busy=busy, queue=queue)
        verdict = decide(wanted, said, current, history, now)

        assert wanted.min <= verdict.desired <= wanted.max
        assert verdict.reason
        assert (verdict.action == Action.UP) == (verdict.desired > current)
        assert (verdict.action == Action.DOWN) == (verdict.desired < current)
        assert bool(verdict.limited_by) or verdict.action != Action.HELD

        history = verdict.history
        if verdict.desired != current:
            history = history.applied(by=verdict.desired - current, now=now)
            current = verdict.desired
        now += timedelta(seconds=5)


def test_a_policy_that_contradicts_itself_is_told_where() -> None:
    wrong = Policy(min=5, max=4, scale_down_cpu_threshold=0.8)

    assert set(policy.problems(wrong)) == {"max", "scale_down_cpu_threshold"}
    assert policy.problems(Policy()) == {}
