from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.payment_states import (
    FINAL,
    LIVE,
    RefundState,
    State,
    action_lapsed,
    ask_after,
    credits_back,
    moves,
    never_arrived,
    refund_moves,
)

NOON = datetime(2026, 3, 18, 12, tzinfo=UTC)


def test_every_state_is_open_or_final():
    assert sorted([*LIVE, *FINAL]) == sorted(State)


@pytest.mark.parametrize("state", State)
def test_nothing_moves_a_payment_that_succeeded_and_nothing_moves_to_where_it_is(state):
    assert not moves(State.SUCCEEDED, state)
    assert not moves(state, state)


@pytest.mark.parametrize("state", [state for state in State if state != State.SUCCEEDED])
def test_success_is_always_heard(state):
    assert moves(state, State.SUCCEEDED)


@pytest.mark.parametrize(
    ("current", "said"),
    [("processing", "requires_action"), ("failed", "processing"), ("failed", "cancelled"), ("cancelled", "failed")],
)
def test_a_late_word_changes_nothing(current, said):
    assert not moves(current, said)


@given(st.lists(st.sampled_from(list(State)), max_size=8))
def test_in_whatever_order_words_come_the_highest_of_them_counts(said):
    def hear(words):
        state = State.CREATED
        for word in words:
            state = word if moves(state, word) else state
        return state

    ended = hear(said)
    assert (ended == State.SUCCEEDED) == (State.SUCCEEDED in said)
    assert hear(said + said) == ended


@pytest.mark.parametrize("current", RefundState)
@pytest.mark.parametrize("said", RefundState)
def test_a_refund_that_ended_stays_as_it_ended(current, said):
    if current in (RefundState.SUCCEEDED, RefundState.FAILED) or said == RefundState.CREATED:
        assert not refund_moves(current, said)


def test_asking_waits_5_10_20_seconds_and_never_more_than_an_hour():
    assert [ask_after(times).total_seconds() for times in (0, 1, 2, 3, 20, 10**6)] == [5, 10, 20, 40, 3600, 3600]


def test_what_never_arrived_in_ten_minutes_will_not():
    assert not never_arrived(created_at=NOON, now=NOON + timedelta(minutes=9, seconds=59))
    assert never_arrived(created_at=NOON, now=NOON + timedelta(minutes=10))


def test_nobody_confirms_after_a_day():
    assert not action_lapsed(created_at=NOON, now=NOON + timedelta(hours=23))
    assert action_lapsed(created_at=NOON, now=NOON + timedelta(hours=24))


@given(credits=st.integers(1, 10**15), parts=st.lists(st.integers(1, 10**6), min_size=1, max_size=6))
def test_refunds_of_all_parts_take_back_exactly_what_was_bought(credits, parts):
    captured, refunded, taken = sum(parts), 0, 0
    for part in parts:
        refunded += part
        back = credits_back(credits_ucr=credits, captured=captured, refunded=refunded, taken_ucr=taken)
        assert 0 <= back <= credits
        taken += back

    assert taken == credits
