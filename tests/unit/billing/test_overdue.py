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


def test_the_plan_of_an_open_invoice_says_what_was_sent_and_what_is_to_come() -> None:
    sent = {0: DUE, 3: DUE + timedelta(days=4)}

    planned = overdue.plan(DUE, sent=sent, is_open=True)

    assert [(each.days, each.at - DUE, each.sent_at, each.suspends) for each in planned] == [
        (0, timedelta(0), DUE, False),
        (3, timedelta(days=3), sent[3], False),
        (7, timedelta(days=7), None, False),
        (14, timedelta(days=14), None, True),
    ]


def test_of_one_that_is_not_open_only_what_was_sent_is_said() -> None:
    assert [each.days for each in overdue.plan(DUE, sent={3: DUE}, is_open=False)] == [3]
    assert overdue.plan(DUE, sent={}, is_open=False) == []
