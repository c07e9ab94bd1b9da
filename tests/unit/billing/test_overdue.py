from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from billing import overdue

DUE = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("days", "done", "steps"),
    [
        (-0.001, [], []),
        (0, [], [0]),
        (2.9, [0], []),
        (3, [0], [3]),
        (13.9, [0, 3], [7]),
        (14, [0, 3, 7], [14]),
        (20, [], [0, 3, 7, 14]),  # nothing ran for a while
        (500, [0, 3, 7, 14], []),
    ],
)
def test_steps_are_reached_on_their_days_and_made_once(days: float, done: list[int], steps: list[int]) -> None:
    assert overdue.reached(DUE, now=DUE + timedelta(days=days), done=done) == steps


def test_the_last_step_is_the_one_that_suspends() -> None:
    assert max(overdue.STEPS) == overdue.SUSPENDS
