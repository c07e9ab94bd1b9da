import itertools

import networkx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation import topology
from federation.topology import SHAPES, Topology

SIZES = (*range(1, 61), 64, 65, 66, 85, 128)
shapes = st.sampled_from(SHAPES)
sizes = st.one_of(st.integers(1, 60), st.sampled_from((64, 65, 66, 130)))


def as_graph(shape: Topology[int]) -> networkx.Graph:
    graph = networkx.Graph()
    graph.add_nodes_from(range(len(shape)))
    graph.add_edges_from(shape.links())
    return graph


@pytest.mark.parametrize(
    ("shape", "fan_out"),
    [
        ("mesh", 4),
        ("ring", 4),
        ("star", 4),
        ("adaptive", 4),
        ("hierarchical", 2),
        ("hierarchical", 4),
        ("hierarchical", 8),
    ],
)
def test_numbers_agree_with_networkx(shape, fan_out):
    for size in SIZES:
        made = Topology(shape, range(size), fan_out=fan_out)
        graph = as_graph(made)
        metrics = made.metrics()

        assert metrics.links == graph.number_of_edges()
        if size > 1:
            assert metrics.diameter == networkx.diameter(graph)
            assert metrics.mean_hops == pytest.approx(networkx.average_shortest_path_length(graph))


@given(shape=shapes, size=sizes, fan_out=st.integers(2, 9), seeds=st.tuples(st.integers(0), st.integers(0)))
def test_a_route_follows_links_and_is_as_short_as_can_be(shape, size, fan_out, seeds):
    made = Topology(shape, range(size), fan_out=fan_out)
    start, end = (seed % size for seed in seeds)
    graph = as_graph(made)

    path = made.route(start, end)

    assert (path[0], path[-1]) == (start, end)
    assert all(graph.has_edge(a, b) for a, b in itertools.pairwise(path))
    assert len(path) - 1 == networkx.shortest_path_length(graph, start, end)
    assert made.next_hop(start, end) == path[min(1, len(path) - 1)]


@given(shape=shapes, size=sizes, fan_out=st.integers(2, 9))
def test_neighbours_are_exactly_the_linked_members(shape, size, fan_out):
    made = Topology(shape, range(size), fan_out=fan_out)
    graph = as_graph(made)

    for member in range(size):
        assert made.neighbours(member) == sorted(graph.neighbors(member))


@given(shape=shapes, size=sizes, fan_out=st.integers(2, 9), seed=st.integers(0))
def test_a_broadcast_reaches_each_once_along_links_in_the_fewest_rounds(shape, size, fan_out, seed):
    made = Topology(shape, range(size), fan_out=fan_out)
    source = seed % size
    graph = as_graph(made)

    plan = made.broadcast_plan(source)

    assert sorted(step.receiver for step in plan) == [member for member in range(size) if member != source]
    assert all(graph.has_edge(step.sender, step.receiver) for step in plan)
    distances = networkx.single_source_shortest_path_length(graph, source)
    assert all(step.round == distances[step.receiver] for step in plan)


@given(size=st.integers(1, 40), leaving=st.integers(0))
def test_a_ring_closes_when_a_member_leaves(size, leaving):
    members = list(range(size + 1))
    members.pop(leaving % (size + 1))

    graph = as_graph(Topology("ring", members))

    assert networkx.is_connected(graph)
    if size > 2:
        assert {degree for _, degree in graph.degree()} == {2}


@given(shape=shapes, size=st.one_of(st.integers(2, 40), st.just(66)), leaving=st.integers(0))
def test_whoever_leaves_the_rest_stay_connected(shape, size, leaving):
    members = [member for member in range(size) if member != leaving % size]

    assert networkx.is_connected(as_graph(Topology(shape, members)))


def test_a_ring_of_two_has_one_link():
    made = Topology("ring", ["a", "b"])

    assert list(made.links()) == [(0, 1)]
    assert made.neighbours("a") == ["b"]


def test_equally_long_ways_round_a_ring_go_clockwise():
    assert Topology("ring", "abcd").route("a", "c") == ["a", "b", "c"]
    assert Topology("ring", "abcd").route("c", "a") == ["c", "d", "a"]


def test_levels_count_from_the_root():
    made = Topology("hierarchical", range(10), fan_out=3)

    assert [made.level(member) for member in range(10)] == [0, 1, 1, 1, 2, 2, 2, 2, 2, 2]
    assert [Topology("star", range(3)).level(member) for member in range(3)] == [0, 1, 1]
    assert Topology("ring", range(3)).level(2) == 0


@pytest.mark.parametrize(
    ("size", "shape"),
    [(1, "mesh"), (10, "mesh"), (11, "star"), (50, "star"), (51, "hierarchical")],
)
def test_adaptive_takes_a_shape_by_size(size, shape):
    assert topology.effective("adaptive", size) == shape
    assert Topology("adaptive", range(size)).shape == shape


def test_adaptive_takes_what_was_measured_best_whatever_the_size():
    assert topology.effective("adaptive", 5, "ring") == "ring"
    assert topology.effective("star", 5, "ring") == "star"


@pytest.mark.parametrize("shape", topology.FIXED)
@pytest.mark.parametrize("size", [1, 2, 3, 4, 22, 70])
def test_what_a_loss_cuts_off_agrees_with_networkx(shape, size):
    made = Topology(shape, range(size), fan_out=3)
    graph = as_graph(made)
    cut = 0
    for gone in range(size):
        rest = graph.subgraph(set(range(size)) - {gone})
        parts = sorted((len(part) for part in networkx.connected_components(rest)), reverse=True)
        # Whoever hangs below the lost member waits; a lost root leaves all others waiting.
        cut += (size - 1 if gone == 0 else sum(parts[1:])) if shape in ("star", "hierarchical") else sum(parts[1:])

    assert made.stranded() == pytest.approx(cut / size if size > 2 else 0.0)


@pytest.mark.parametrize("shape", SHAPES)
def test_fewer_than_two_members_have_no_numbers(shape):
    assert Topology(shape, []).metrics() == topology.Metrics(0, 0, 0.0)
    assert Topology(shape, ["only"]).metrics() == topology.Metrics(0, 0, 0.0)
    assert Topology(shape, ["only"]).neighbours("only") == []


def test_strangers_have_no_route():
    with pytest.raises(topology.NotAMember, match="eve is not a member"):
        Topology("mesh", ["a"]).route("a", "eve")


@pytest.mark.parametrize("arguments", [("cube", "ab", 4), ("mesh", "aa", 4), ("mesh", "ab", 1)])
def test_nonsense_is_refused(arguments):
    shape, members, fan_out = arguments

    with pytest.raises(ValueError):
        Topology(shape, members, fan_out=fan_out)


def test_F4_in_a_mesh_of_three_each_has_two_neighbours():
    made = Topology("mesh", ["agent-1", "agent-2", "agent-3"])

    assert len(made.neighbours("agent-1")) == 2
    assert len(made) == 3
