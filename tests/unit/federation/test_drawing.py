"""Where members are drawn."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from federation import drawing
from federation.topology import FIXED, SHAPES, Topology


@settings(max_examples=60)
@given(
    shape=st.sampled_from(SHAPES),
    size=st.one_of(st.integers(1, 150), st.sampled_from((300, 2000))),
    fan_out=st.integers(2, 9),
)
def test_members_are_drawn_apart_and_inside_the_square(shape, size, fan_out):
    points = drawing.layout(Topology(shape, range(size), fan_out=fan_out))

    assert len(points) == len(set(points)) == size
    assert all(0 <= x <= 1 and 0 <= y <= 1 for x, y in points)


@pytest.mark.parametrize("shape", FIXED)
def test_two_thousand_have_room(shape):
    points = drawing.layout(Topology(shape, range(2000)))
    cells = {(int(x * 40), int(y * 40)) for x, y in points}

    # Spread over much of the square, not piled on a line.
    assert len(cells) > 350


@pytest.mark.parametrize("size", [5, 50, 300, 2000])
def test_neighbours_of_a_ring_stay_neighbours(size):
    made = Topology("ring", range(size))
    points = drawing.layout(made)
    longest = max(math.dist(points[a], points[b]) for a, b in made.links())

    assert longest <= max(1.0, 6 / math.sqrt(size)) if size < 90 else longest < 0.12


def test_the_leader_of_a_star_is_in_the_middle():
    for size in (5, 2000):
        assert drawing.layout(Topology("star", range(size)))[0] == (0.5, 0.5)


def test_a_child_is_drawn_below_its_parent():
    made = Topology("hierarchical", range(2000))
    points = drawing.layout(made)

    assert all(points[a][1] < points[b][1] for a, b in made.links())


@pytest.mark.parametrize("shape", SHAPES)
def test_nobody_and_one_alone(shape):
    assert drawing.layout(Topology(shape, [])) == []
    assert drawing.layout(Topology(shape, ["only"])) == [(0.5, 0.5)]
