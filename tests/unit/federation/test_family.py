"""Where a task and its dependencies are drawn."""

from __future__ import annotations

import networkx as nx
from hypothesis import given
from hypothesis import strategies as some

from federation import family


def test_what_it_needs_stands_before_it_and_what_needs_it_behind():
    drawn = family.draw(["a", "b", "c", "d"], [("a", "c"), ("b", "c"), ("c", "d")], "c")

    columns = {name: place.x for name, place in drawn.places.items()}
    assert columns["a"] == columns["b"] < columns["c"] < columns["d"]
    assert drawn.places["a"].y != drawn.places["b"].y
    assert len(drawn.lines) == 3


def test_a_task_alone_is_one_box():
    drawn = family.draw(["a"], [], "a")

    assert (list(drawn.places), drawn.lines) == (["a"], [])
    assert drawn.width >= family.BOX_WIDTH


@given(
    some.integers(2, 9), some.sets(some.tuples(some.integers(0, 8), some.integers(0, 8)), max_size=20), some.integers()
)
def test_lines_of_whatever_is_connected_to_it_go_rightwards_and_no_boxes_overlap(n, pairs, which):
    """Of any family (ancestors and descendants of one) in the order in which each comes after what it needs."""
    graph = nx.DiGraph([(a, b) for a, b in pairs if a < b < n])
    graph.add_nodes_from(range(n))
    focus = which % n
    kept = sorted({focus} | nx.ancestors(graph, focus) | nx.descendants(graph, focus))
    links = list(graph.subgraph(kept).edges)

    drawn = family.draw(kept, links, focus)

    assert all(drawn.places[a].x < drawn.places[b].x for a, b in links)
    assert len({(place.x, place.y) for place in drawn.places.values()}) == len(kept)
    assert all(place.x + family.BOX_WIDTH <= drawn.width for place in drawn.places.values())
    assert all(place.y + family.BOX_HEIGHT <= drawn.height for place in drawn.places.values())
