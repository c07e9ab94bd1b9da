"""What the charts of an execution show, from its samples."""

from __future__ import annotations

from sandboxes import charts, frames

MIB = 1024 * 1024


def course(*moments: tuple[int, int, int]):
    """(milliseconds, milliseconds of CPU, MiB) by turns."""
    return [(number, at, cpu, memory * MIB, 0) for number, (at, cpu, memory) in enumerate(moments, frames.FIRST_OUTPUT)]


def shown(samples, **limits):
    cpu, memory = charts.usage(samples, **{"cpu": 1.0, "memory_mb": 64} | limits)
    return cpu, memory


def test_the_share_is_of_what_passed_since_the_sample_before():
    cpu, _ = shown(course((250, 250, 1), (500, 300, 1), (1000, 300, 1)))

    assert cpu["x"] == [0.25, 0.5, 1.0]
    assert cpu["series"][0]["values"] == [100.0, 20.0, 0.0]


def test_the_share_is_of_the_cores_it_may_use():
    cpu, _ = shown(course((250, 500, 1), (500, 750, 1)), cpu=4.0)

    assert cpu["series"][0]["values"] == [50.0, 25.0]
    assert cpu["title"] == "CPU, of 4 cores"


def test_memory_is_in_mib_of_its_limit():
    _, memory = shown(course((250, 0, 10), (500, 0, 48)))

    assert memory["series"][0]["values"] == [10.0, 48.0]
    assert memory["series"][1]["values"] == [64, 64]
    assert memory["title"] == "Memory, of 64 MiB"


def test_a_limit_that_is_far_away_does_not_flatten_the_course():
    _, memory = shown(course((250, 0, 10), (500, 0, 16)))

    assert memory["series"][1]["values"] == [None, None]


def test_a_count_that_goes_back_is_no_negative_share():
    cpu, _ = shown(course((250, 100, 1), (250, 90, 1)))

    assert cpu["series"][0]["values"] == [40.0, 0.0]


def test_without_samples_the_charts_are_empty():
    assert [chart["x"] for chart in shown([])] == [[], []]
