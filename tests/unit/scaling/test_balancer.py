"""The rule of balancing: shares, ties, stickiness, and what must never be picked."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaling import balancer
from scaling.balancer import Choice, Strategy, Turn

names = st.lists(st.text("abcdefgh0123", min_size=1, max_size=4), min_size=1, max_size=8, unique=True)
weighted = names.flatmap(
    lambda found: st.tuples(*[st.builds(Choice, st.just(name), st.integers(0, 9)) for name in found])
)


def picks(strategy: str, choices: list[Choice], times: int, key: str = "k") -> list[str]:
    turn, draw, found = Turn(), Random(7), []
    for _ in range(times):
        chosen, turn = balancer.pick(strategy, choices, turn=turn, draw=draw, key=key)
        found.append(chosen.name)
    return found


@given(st.sampled_from(list(Strategy)), weighted, st.integers(0, 1000))
def test_no_strategy_picks_what_weighs_nothing(strategy: Strategy, choices: tuple[Choice, ...], seed: int) -> None:
    if not any(choice.weight for choice in choices):
        with pytest.raises(balancer.NothingToPick):
            balancer.pick(strategy, choices, turn=Turn(), draw=Random(seed), key="k")
        return

    found, _ = balancer.pick(strategy, choices, turn=Turn(), draw=Random(seed), key="k")

    assert found in choices
    assert found.weight > 0


@given(names, st.integers(0, 60))
def test_round_robin_spreads_within_one(found: list[str], times: int) -> None:
    counts = Counter(picks("round_robin", [Choice(name) for name in found], times))

    numbers = [counts[name] for name in found]
    assert max(numbers) - min(numbers) <= 1


def test_two_picks_in_a_row_differ() -> None:  # upstream's fact S6
    first, second = picks("round_robin", [Choice("a"), Choice("b")], 2)

    assert first != second


def test_round_robin_goes_on_when_one_leaves() -> None:
    turn = Turn(last="b")

    found, _ = balancer.round_robin([Choice("a"), Choice("c"), Choice("d")], turn)

    assert found.name == "c"


@given(weighted.filter(lambda choices: any(choice.weight for choice in choices)), st.integers(1, 3))
def test_weighted_rounds_give_each_exactly_its_weight(choices: tuple[Choice, ...], rounds: int) -> None:
    total = sum(choice.weight for choice in choices)

    counts = Counter(picks("weighted_round_robin", list(choices), total * rounds))

    assert counts == Counter({choice.name: choice.weight * rounds for choice in choices if choice.weight})


def test_weighted_rounds_are_interleaved() -> None:
    found = picks("weighted_round_robin", [Choice("a", 5), Choice("b", 1), Choice("c", 1)], 7)

    assert "".join(found) == "aabacaa"


def test_least_connections_counts_the_pick_itself_against_the_weight() -> None:
    choices = [Choice("big", 4, in_flight=3), Choice("small", 1, in_flight=1)]

    assert balancer.least_connections(choices, Random(1)).name == "big"


def test_ties_fall_by_lot_and_not_always_on_the_same() -> None:
    choices = [Choice("a"), Choice("b"), Choice("c")]

    assert {balancer.least_connections(choices, Random(seed)).name for seed in range(50)} == {"a", "b", "c"}


def test_the_fastest_with_a_queue_loses_to_a_slower_idle_one() -> None:
    choices = [Choice("fast", in_flight=9, latency_ms=10), Choice("slow", in_flight=0, latency_ms=50)]

    assert balancer.least_response_time(choices, Random(1)).name == "slow"


def test_one_never_tried_counts_as_average_not_as_infinitely_fast() -> None:
    choices = [Choice("new"), Choice("fast", latency_ms=10), Choice("slow", latency_ms=100)]

    assert balancer.least_response_time(choices, Random(1)).name == "fast"


def test_failing_fast_does_not_look_fast() -> None:
    failing = balancer.averaged(10, 1, ok=False)

    assert failing > balancer.averaged(10, 100, ok=True)


def test_the_average_moves_by_a_fifth_towards_a_sample() -> None:
    assert balancer.averaged(None, 80, ok=True) == 80
    assert balancer.averaged(100, 200, ok=True) == pytest.approx(120)


def test_of_two_drawn_the_less_loaded_is_picked() -> None:
    choices = [Choice("idle"), Choice("busy", in_flight=5)]

    assert {balancer.power_of_two(choices, Random(seed)).name for seed in range(20)} == {"idle"}


def test_power_of_two_with_one_choice_picks_it() -> None:
    assert balancer.power_of_two([Choice("only", in_flight=9)], Random(1)).name == "only"


def test_random_follows_the_weights() -> None:
    counts = Counter(picks("random", [Choice("a", 3), Choice("b", 1)], 4000))

    assert counts["a"] / 4000 == pytest.approx(0.75, abs=0.03)


@given(names, st.text(min_size=1, max_size=20))
def test_a_key_stays_where_it_is_when_another_leaves(found: list[str], key: str) -> None:
    choices = [Choice(name) for name in found]
    home = balancer.rendezvous(choices, key)

    for leaver in found:
        left = [choice for choice in choices if choice.name != leaver]
        if left and leaver != home.name:
            assert balancer.rendezvous(left, key) == home


def test_one_leaving_moves_about_its_own_share_of_keys() -> None:
    choices = [Choice(f"n{number}") for number in range(10)]
    moved = sum(
        balancer.rendezvous(choices, str(key)) != balancer.rendezvous(choices[:-1], str(key)) for key in range(2000)
    )

    assert moved / 2000 <= 0.15


def test_keys_spread_by_weight() -> None:
    choices = [Choice("a", 3), Choice("b", 1)]
    counts = Counter(balancer.rendezvous(choices, str(key)).name for key in range(4000))

    assert counts["a"] / 4000 == pytest.approx(0.75, abs=0.04)


def test_ip_hash_needs_a_key() -> None:
    with pytest.raises(balancer.KeyNeeded, match="needs a key"):
        balancer.pick("ip_hash", [Choice("a")], turn=Turn(), draw=Random(1))
