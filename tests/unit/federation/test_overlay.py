"""The mesh of many: six links each, few hops, little change."""

import networkx
import pytest

from federation import overlay

NAMES = [f"agent-{number}" for number in range(2001)]


def as_graph(near):
    return networkx.Graph([(a, b) for a, others in enumerate(near) for b in others])


@pytest.mark.parametrize("size", [*range(65, 130), 200, 500, 2000])
def test_everyone_has_exactly_six_links_and_reaches_everyone(size):
    near = overlay.neighbours(NAMES[:size])

    graph = as_graph(near)
    assert {degree for _, degree in graph.degree()} == {6}
    assert graph.number_of_nodes() == size
    assert networkx.is_connected(graph)


@pytest.mark.parametrize("size", [65, 100, 150])
def test_the_numbers_agree_with_networkx(size):
    near = overlay.neighbours(NAMES[:size])
    graph = as_graph(near)

    diameter, mean = overlay.spread(near)

    assert diameter == networkx.diameter(graph)
    assert mean == pytest.approx(networkx.average_shortest_path_length(graph))
    assert dict(enumerate(overlay.distances(near, 7))) == networkx.single_source_shortest_path_length(graph, 7)


def test_two_thousand_are_at_most_seven_hops_apart():
    diameter, mean = overlay.spread(overlay.neighbours(NAMES[:2000]))

    assert diameter <= 7
    assert mean < 5


def test_nobody_is_cut_off_by_a_loss():
    assert not list(networkx.articulation_points(as_graph(overlay.neighbours(NAMES[:300]))))


def test_one_more_member_changes_few_links():
    def links(names):
        near = overlay.neighbours(names)
        return {frozenset((names[a], names[b])) for a, others in enumerate(near) for b in others}

    before, after = links(NAMES[:1000]), links(NAMES[:1001])

    # Its own six and the three they replace; a repeated link mended elsewhere may add a few.
    assert len(before ^ after) <= 30
