from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from billing.replenishing import Facts, decide, pause

NOON = datetime(2026, 3, 18, 12, tzinfo=UTC)
LOW = Facts(available_ucr=99, threshold_ucr=100, is_active=True, is_open=False, paused_until=None, made_at=[])


def minutes_ago(*minutes):
    return [NOON - timedelta(minutes=each) for each in minutes]


def test_credits_are_bought_when_few_are_left():
    assert decide(LOW, now=NOON).buys


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"available_ucr": 100}, "enough is left"),
        ({"is_active": False}, "the account is not active"),
        ({"is_open": True}, "the outcome of the last one is open"),
        ({"paused_until": NOON + timedelta(seconds=1)}, "it is paused since the last one failed"),
        ({"made_at": minutes_ago(0, 5, 9)}, "there were 3 in ten minutes"),
    ],
)
def test_and_not_when_something_speaks_against_it(change, reason):
    decision = decide(replace(LOW, **change), now=NOON)

    assert (decision.buys, decision.reason) == (False, reason)


@pytest.mark.parametrize("change", [{"paused_until": NOON}, {"made_at": minutes_ago(1, 5, 10)}])
def test_a_pause_ends_and_the_ten_minutes_pass(change):
    assert decide(replace(LOW, **change), now=NOON).buys


def test_a_pause_is_twice_as_long_after_each_failure_and_at_most_a_day():
    hours = [pause(failed).total_seconds() / 3600 for failed in (1, 2, 3, 4, 5, 6, 7, 1000)]

    assert hours == [1, 2, 4, 8, 16, 24, 24, 24]


def test_a_bank_that_wants_the_owner_is_not_asked_every_hour():
    assert pause(1, "authentication_required") == timedelta(hours=24)
    assert pause(1, "card_declined") == timedelta(hours=1)
