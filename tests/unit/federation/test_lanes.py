"""A task's time as bars."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as some

from federation import lanes
from federation.lanes import Stretch

START = datetime(2026, 11, 1, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def bars(lane: lanes.Lane) -> list[tuple[str, float, float]]:
    return [(bar.kind, bar.x, bar.width) for bar in lane.bars]


def test_waiting_attempts_and_the_pause_between_them_share_one_scale():
    tried = [Stretch(at(10), at(20), at(50)), Stretch(at(60), at(60), at(100))]

    waiting, first, second = lanes.draw(tried, created_at=at(0), finished_at=at(100), now=at(500))

    assert bars(waiting) == [("queued", 0, 100), ("queued", 500, 100)]
    assert bars(first) == [("assigned", 100, 100), ("running", 200, 300)]
    assert bars(second) == [("running", 600, 400)]


def test_what_is_not_over_ends_now():
    (waiting,) = lanes.draw([], created_at=at(0), finished_at=None, now=at(5))
    assert bars(waiting) == [("queued", 0, 1000)]

    _, attempt = lanes.draw([Stretch(at(0), at(4), None)], created_at=at(0), finished_at=None, now=at(5))
    assert bars(attempt) == [("assigned", 0, 800), ("running", 800, 200)]


def test_an_attempt_that_never_began_was_only_assigned():
    _, attempt = lanes.draw([Stretch(at(1), None, at(2))], created_at=at(0), finished_at=at(2), now=at(9))

    assert bars(attempt) == [("assigned", 500, 500)]


@given(some.lists(some.tuples(*[some.floats(0, 1e5)] * 3), max_size=6), some.floats(0, 1e6))
def test_every_bar_can_be_seen_and_lies_on_the_scale(steps, rest):
    moment, tried = 0.0, []
    for gap, held, ran in steps:
        tried.append(Stretch(at(moment + gap), at(moment + gap + held), at(moment + gap + held + ran)))
        moment += gap + held + ran

    drawn = lanes.draw(tried, created_at=at(0), finished_at=at(moment + rest), now=at(0))

    assert len(drawn) == len(tried) + 1
    for bar in (bar for lane in drawn for bar in lane.bars):
        assert bar.width >= lanes.LEAST
        assert 0 <= bar.x <= lanes.WIDTH - lanes.LEAST
