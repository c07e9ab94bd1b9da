"""What each shape costs, and when the change is worth it."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation import adapting
from federation.adapting import Reading, Traffic
from federation.topology import FIXED

NOW = datetime(2026, 11, 1, 12, 0, tzinfo=UTC)
DEAR = {"mesh": 10.0, "ring": 20.0, "star": 20.0, "hierarchical": 20.0}


def costs(size, traffic, fan_out=4):
    return adapting.costs(range(size), traffic, fan_out=fan_out)


def best(size, traffic):
    return Reading(NOW, "mesh", 100, costs(size, traffic)).best


def spoken(pairs, times):
    return Traffic(ways=dict.fromkeys(pairs, 1), direct=times)


EVERYONE = [(a, b) for a in range(20) for b in range(20) if a != b]
TO_THE_LEADER = [(a, 0) for a in range(1, 20)]
IN_TURN = [(a, (a + 1) % 20) for a in range(20)]


@pytest.mark.parametrize(
    ("traffic", "shape"),
    [
        (spoken(EVERYONE, 600), "mesh"),  # much talk between all: no detours
        (spoken(TO_THE_LEADER, 60), "star"),  # little talk with one: few links
        (spoken(IN_TURN, 300), "ring"),  # a pipeline
        (Traffic(sources={0: 1}, broadcasts=30), "hierarchical"),  # the root speaks to all: it passes on few itself
        (Traffic(ways={(0, a): 1 for a in range(1, 20)}, handed=60), "star"),  # tasks handed out
    ],
)
def test_each_kind_of_traffic_has_its_shape(traffic, shape):
    assert best(20, traffic) == shape


def test_a_cost_is_the_sum_of_what_the_docstring_names():
    traffic = Traffic(ways={(1, 2): 3}, direct=30, sources={1: 1}, broadcasts=15, failures=3)

    found = costs(3, traffic)

    # A star of three: 1-0-2. Carried 30 x 2 + 15 x 2, waited 15 x 2, the hub passes on 30 + 15 and member 1 30 + 15.
    # Two links; a loss breaks 4/3 of a link and cuts off 2/3.
    assert found["star"] == pytest.approx((60 + 30 + 30 + 2 * 45 + 10 * 3 * (4 / 3 + 2 / 3)) / 30 + 0.04)
    # A mesh of three: carried 30 + 30, waited 15, member 1 passes on 30 + 30; three links, nobody cut off.
    assert found["mesh"] == pytest.approx((30 + 30 + 15 + 2 * 60 + 10 * 3 * 2) / 30 + 0.06)


def test_a_sample_stands_for_all():
    whole = Traffic(ways={(1, 2): 10, (2, 3): 20}, direct=30)
    sample = Traffic(ways={(1, 2): 1, (2, 3): 2}, direct=30)

    assert costs(8, whole) == costs(8, sample)


def test_losses_count_against_what_they_cut_off():
    quiet, restless = costs(40, Traffic()), costs(40, Traffic(failures=30))
    dearer = {shape: restless[shape] - quiet[shape] for shape in FIXED}

    assert dearer["ring"] < dearer["star"] < dearer["hierarchical"] < dearer["mesh"]


def windows(count, *, costs=DEAR, shape="star", signals=100, until=NOW):
    return [Reading(until - timedelta(seconds=30 * number), shape, signals, costs) for number in range(count)]


def test_three_windows_that_agree_change_the_shape_with_reason_and_figures():
    change = adapting.decide(windows(3), changes=[], now=NOW)

    assert change is not None
    assert change.shape == "mesh"
    assert change.reason == (
        "Measured: mesh costs 10.0 and star 20.0 messages over links a second, 50% less in 3 windows of 30 s."
    )


@pytest.mark.parametrize(
    ("readings", "changes"),
    [
        (windows(2), []),
        (windows(3, signals=19), []),
        (windows(3, costs=DEAR | {"star": 12.4}), []),  # a gain of less than 20 %
        (windows(3, shape="mesh"), []),
        (windows(2) + windows(1, until=NOW - timedelta(seconds=90)), []),  # a window is missing
        (
            windows(2) + windows(1, costs=DEAR | {"ring": 5.0}, until=NOW - timedelta(seconds=60)),
            [],
        ),  # another was best
        (windows(2) + windows(1, shape="ring", until=NOW - timedelta(seconds=60)), []),  # changed in between
        (windows(3), [NOW - timedelta(seconds=299)]),
        (windows(3), [NOW - timedelta(minutes=minutes) for minutes in (10, 20, 30, 40)]),
    ],
)
def test_it_stays_otherwise(readings, changes):
    assert adapting.decide(readings, changes=changes, now=NOW) is None


@pytest.mark.parametrize("ago", [[300], [600, 1200, 1800], [600, 1200, 1800, 3600]])
def test_it_may_change_again_after_the_rest_and_within_the_hour(ago):
    changes = [NOW - timedelta(seconds=seconds) for seconds in ago]

    assert adapting.decide(windows(3), changes=changes, now=NOW) is not None


def played(period_seconds, minutes=120):
    """Changes made while the traffic swings between two shapes with that period."""
    cheap = {"mesh": {**DEAR}, "star": {**DEAR, "mesh": 20.0, "star": 10.0}}
    shape, readings, changes = "mesh", [], []
    for number in range(minutes * 2):
        now = NOW + timedelta(seconds=30 * number)
        wanted = "star" if (30 * number // (period_seconds / 2)) % 2 else "mesh"
        readings.insert(0, Reading(now, shape, 100, cheap[wanted]))
        if change := adapting.decide(readings, changes=changes, now=now):
            shape = change.shape
            changes.append(now)
    return changes


@pytest.mark.parametrize("period_seconds", [30, 60, 90, 120])
def test_traffic_that_swings_fast_changes_nothing(period_seconds):
    assert played(period_seconds) == []


def test_slow_swings_change_at_most_once_an_edge():
    assert 1 <= len(played(30 * 60)) <= 8


@given(period=st.integers(30, 4000))
def test_never_twice_within_the_rest_nor_five_times_an_hour(period):
    changes = played(period)

    assert all((later - earlier).total_seconds() >= 300 for earlier, later in zip(changes, changes[1:], strict=False))
    assert all((later - earlier).total_seconds() >= 3600 for earlier, later in zip(changes, changes[4:], strict=False))


@pytest.mark.parametrize("size", [3, 12, 70])
def test_every_shape_has_a_cost_above_nothing(size):
    found = costs(size, Traffic(ways={(0, 1): 1}, direct=5, sources={2: 1}, broadcasts=1, failures=1))

    assert set(found) == set(FIXED)
    assert min(found.values()) > 0
