"""In which order the tasks of a batch are made."""

from __future__ import annotations

import networkx as nx
import pytest
from hypothesis import given
from hypothesis import strategies as some

from federation import sequence


@pytest.mark.parametrize(
    ("needs", "made", "refused"),
    [
        ([], [], set()),
        ([set(), set()], [0, 1], set()),
        ([{1}, set()], [1, 0], set()),
        ([{2}, {2}, set()], [2, 0, 1], set()),
        ([{1}, {0}, set()], [2], {0, 1}),
        ([{0}], [], {0}),
        ([{1}, {2}, {1}, {0}, set()], [4], {0, 1, 2, 3}),
    ],
)
def test_each_is_made_after_what_it_needs(needs, made, refused):
    found, why = sequence.order(needs, refused={})

    assert (found, set(why)) == (made, refused)


def test_a_circle_is_named_and_what_stands_behind_it_says_so():
    _, why = sequence.order([{1}, {0}, {1}], refused={})

    assert "0 -> 1 -> 0" in why[0] or "1 -> 0 -> 1" in why[0]
    assert why[2] == "It needs the task 1 of this batch, which was refused."


def test_what_needs_a_refused_one_is_refused_all_the_way():
    made, why = sequence.order([set(), {0}, {1}, set()], refused={0: "wrong"})

    assert made == [3]
    assert [why[item] for item in (0, 1)] == ["wrong", "It needs the task 0 of this batch, which was refused."]


@given(some.integers(1, 12).flatmap(lambda n: some.lists(some.sets(some.integers(0, n - 1)), min_size=n, max_size=n)))
def test_whatever_is_asked_only_circles_and_what_is_behind_them_are_refused(needs):
    graph = nx.DiGraph([(each, item) for item, needed in enumerate(needs) for each in needed])
    graph.add_nodes_from(range(len(needs)))
    in_circles = {item for part in nx.strongly_connected_components(graph) if len(part) > 1 for item in part}
    in_circles |= set(nx.nodes_with_selfloops(graph))
    behind = in_circles.union(*(nx.descendants(graph, item) for item in in_circles))

    made, why = sequence.order(needs, refused={})

    assert set(why) == behind
    assert sorted(made) == sorted(set(range(len(needs))) - behind)
    assert all(made.index(each) < made.index(item) for item in made for each in needs[item])
