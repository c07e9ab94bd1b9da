from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from billing.outgoing import backoff

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def test_the_waits_are_those_of_the_standard_and_last_three_days() -> None:
    waits = [backoff.next_wait(attempts, chance=0.5) for attempts in range(1, backoff.MOST_ATTEMPTS)]

    assert waits == list(backoff.WAITS)
    assert timedelta(days=3) < sum(waits, timedelta()) < timedelta(days=4)


def test_the_last_attempt_is_followed_by_none() -> None:
    assert backoff.next_wait(backoff.MOST_ATTEMPTS, chance=0.5) is None
    assert backoff.next_wait(backoff.MOST_ATTEMPTS, chance=0.5, retry_after=60) is None


@pytest.mark.parametrize(("chance", "seconds"), [(0.0, 270), (0.5, 300), (1.0, 330)])
def test_a_wait_is_up_to_a_tenth_off(chance: float, seconds: float) -> None:
    assert backoff.next_wait(2, chance=chance) == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("asked", "seconds"), [(None, 300), (60, 300), (7200, 7200), (10**9, 86_400)]
)  # a day at the longest
def test_a_receiver_may_ask_for_more_time_but_not_for_ever(asked: float | None, seconds: float) -> None:
    assert backoff.next_wait(2, chance=0.5, retry_after=asked) == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("status", "said", "seconds"),
    [
        (429, "120", 120),
        (503, "0", 0),
        (500, "120", None),  # not busy
        (429, "", None),
        (429, "-5", None),
        (429, "Wed, 21 Oct 2026 07:28:00 GMT", None),
        (429, "٣", None),
        (429, "9" * 400, None),
    ],
)
def test_what_counts_as_asking_for_time(status: int, said: str, seconds: float | None) -> None:
    assert backoff.retry_after(status, said) == seconds


@pytest.mark.parametrize(
    ("status", "good"), [(200, True), (204, True), (301, False), (410, False), (500, False), (None, False)]
)
def test_only_a_2xx_is_success(status: int | None, good: bool) -> None:
    assert backoff.is_success(status) is good


def test_an_endpoint_is_given_up_after_three_days_of_failures() -> None:
    assert not backoff.has_failed_for_days(NOW, now=NOW + timedelta(days=3, seconds=-1))
    assert backoff.has_failed_for_days(NOW, now=NOW + timedelta(days=3))
