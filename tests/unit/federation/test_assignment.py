from collections import Counter
from datetime import UTC, datetime, timedelta
from random import Random
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation import assignment
from federation.assignment import STRATEGIES, Candidate

NOW = datetime(2026, 1, 2, tzinfo=UTC)


def make_candidate(position: int, *, can: str = "", running: int = 0, capacity: int = 5, types=None) -> Candidate:
    return Candidate(UUID(int=position), position, frozenset(can.split()), running, capacity, types)


def pick(strategy, candidates, *, required="", last=0, type="execute", seed=1):
    return assignment.pick(
        strategy, candidates, type=type, required=frozenset(required.split()), last=last, rng=Random(seed)
    )


def test_round_robin_rotates_over_everyone():
    candidates = [make_candidate(position, capacity=100) for position in (1, 2, 5)]
    last, picked = 0, []

    for _ in range(9):
        chosen = pick("round_robin", candidates, last=last)
        last = chosen.position
        picked.append(chosen.position)

    assert picked == [1, 2, 5] * 3


def test_round_robin_goes_on_where_it_was_when_someone_joins():
    assert pick("round_robin", [make_candidate(1), make_candidate(2), make_candidate(3)], last=2).position == 3


def test_round_robin_passes_over_a_full_agent():
    assert pick("round_robin", [make_candidate(1), make_candidate(2, running=5)], last=1).position == 1


def test_least_loaded_goes_by_the_share_of_capacity_in_use():
    assert (
        pick(
            "least_loaded", [make_candidate(1, running=1, capacity=2), make_candidate(2, running=2, capacity=10)]
        ).position
        == 2
    )


def test_capability_match_prefers_the_least_over_qualified():
    candidates = [make_candidate(1, can="python research trade"), make_candidate(2, can="python research")]

    assert pick("capability_match", candidates, required="python").position == 2


def test_random_reaches_everyone_and_repeats_with_its_seed():
    candidates = [make_candidate(position) for position in range(1, 5)]

    counts = Counter(pick("random", candidates, seed=seed).position for seed in range(200))

    assert set(counts) == {1, 2, 3, 4}
    assert pick("random", candidates, seed=7) is pick("random", candidates, seed=7)


@given(
    strategy=st.sampled_from(STRATEGIES),
    agents=st.lists(st.tuples(st.sets(st.sampled_from("abc")), st.integers(0, 3), st.integers(1, 3)), max_size=8),
    required=st.sets(st.sampled_from("abc")),
    last=st.integers(0, 9),
)
def test_whatever_the_strategy_only_a_capable_agent_with_room_is_picked(strategy, agents, required, last):
    candidates = [
        make_candidate(position, can=" ".join(sorted(can)), running=running, capacity=capacity)
        for position, (can, running, capacity) in enumerate(agents, start=1)
    ]

    chosen = pick(strategy, candidates, required=" ".join(sorted(required)), last=last)

    possible = [each for each in candidates if required <= each.capabilities and each.running < each.capacity]
    assert (chosen is None) == (not possible)
    assert chosen is None or chosen in possible


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_an_agent_gets_only_types_it_runs(strategy):
    assert pick(strategy, [make_candidate(1, types=frozenset({"backtest"}))], type="mystery") is None


def test_waiting_raises_the_priority_one_step_a_period():
    def after(seconds):
        return assignment.effective_priority(
            priority=2, queued_at=NOW, now=NOW + timedelta(seconds=seconds), ageing_seconds=60
        )

    assert [after(0), after(59), after(60), after(600), after(-5)] == [2, 2, 3, 12, 2]


@pytest.mark.parametrize(
    ("candidates", "sentence"),
    [
        ([], "No agent is available"),
        ([make_candidate(1, can="trade")], "No available agent has all of: research"),
        ([make_candidate(1, can="research", types=frozenset())], "No available agent runs tasks of the type execute"),
        ([make_candidate(1, can="research", running=5)], "Every capable agent is at its limit"),
    ],
)
def test_a_waiting_task_can_say_why(candidates, sentence):
    assert assignment.why_waiting(candidates, type="execute", required=frozenset({"research"})).startswith(sentence)
