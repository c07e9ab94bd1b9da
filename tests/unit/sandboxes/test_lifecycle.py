from datetime import UTC, datetime, timedelta

import pytest

from sandboxes import lifecycle

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize("state", lifecycle.FINAL)
def test_a_final_execution_goes_nowhere(state):
    for wanted in lifecycle.EXECUTION_STATES:
        with pytest.raises(lifecycle.IllegalMove) as refused:
            lifecycle.check_move(state, wanted)
        assert refused.value.extras == {"state": state}


@pytest.mark.parametrize("state", ["queued", "starting", "running"])
def test_an_execution_can_be_cancelled_from_every_live_state(state):
    lifecycle.check_move(state, "cancelled")

    assert state in lifecycle.sources_of("cancelled")


def test_a_lost_execution_goes_back_into_the_queue():
    lifecycle.check_move("starting", "queued")
    lifecycle.check_move("running", "queued")


def test_a_queued_execution_cannot_run_without_starting():
    with pytest.raises(lifecycle.IllegalMove, match="It is queued, so it cannot become running"):
        lifecycle.check_move("queued", "running")


@pytest.mark.parametrize(
    ("ended", "state"),
    [
        ({"exit_code": 0, "breach": None, "cancelled": False}, "succeeded"),
        ({"exit_code": 3, "breach": None, "cancelled": False}, "failed"),
        ({"exit_code": None, "breach": None, "cancelled": False}, "failed"),
        ({"exit_code": None, "breach": "timeout", "cancelled": False}, "timed_out"),
        ({"exit_code": 1, "breach": "memory", "cancelled": False}, "failed"),
        ({"exit_code": None, "breach": None, "cancelled": True}, "cancelled"),
        ({"exit_code": None, "breach": "timeout", "cancelled": True}, "cancelled"),
    ],
)
def test_how_a_program_ended_decides_the_state(ended, state):
    assert lifecycle.ending(**ended) == state


def test_waits_between_attempts_double_and_are_capped():
    waits = [lifecycle.retry_wait(attempt=attempt, chance=1) for attempt in range(1, 8)]

    assert waits == [2, 4, 8, 16, 30, 30, 30]


def test_waits_are_spread_over_their_upper_half():
    assert lifecycle.retry_wait(attempt=2, chance=0) == 2
    assert lifecycle.retry_wait(attempt=2, chance=0.5) == 3


def test_e3_e4_a_sandbox_begins_creating_then_is_ready_then_running():
    assert lifecycle.SANDBOX_STATES[0] == "creating"
    assert "ready" in lifecycle.SANDBOX_MOVES["creating"]
    assert "running" in lifecycle.SANDBOX_MOVES["ready"]


def test_e6_a_sandbox_is_idle_only_past_the_idle_time():
    limit = timedelta(milliseconds=100)

    assert not lifecycle.is_idle(ready_at=NOON, now=NOON, idle_timeout=limit)
    assert not lifecycle.is_idle(ready_at=NOON, now=NOON + limit, idle_timeout=limit)
    assert lifecycle.is_idle(ready_at=NOON, now=NOON + timedelta(milliseconds=150), idle_timeout=limit)


def test_every_state_can_be_left_or_is_an_end():
    assert {state for state, targets in lifecycle.EXECUTION_MOVES.items() if not targets} == set(lifecycle.FINAL)
    assert [state for state, targets in lifecycle.SANDBOX_MOVES.items() if not targets] == ["gone"]
