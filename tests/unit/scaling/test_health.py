"""The rule of health: readings, damping, silence."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaling import health
from scaling.health import Finding, Metrics, Status

NOW = datetime(2026, 1, 1, tzinfo=UTC)
FINE = Finding(Status.HEALTHY, "fine")
BAD = Finding(Status.UNHEALTHY, "bad")


@pytest.mark.parametrize(
    ("metrics", "status"),
    [
        ({}, "healthy"),
        ({"cpu": 0.3, "memory": 0.4}, "healthy"),  # upstream's fact S9
        ({"cpu": 0.95}, "unhealthy"),  # upstream's fact S10
        ({"cpu": 0.7}, "degraded"),
        ({"cpu": 0.9}, "unhealthy"),
        ({"memory": 0.69}, "healthy"),
        ({"memory": 0.75, "cpu": 0.92}, "unhealthy"),
        ({"disk": 0.86}, "degraded"),
        ({"latency_ms": 499}, "healthy"),
        ({"latency_ms": 500}, "degraded"),
        ({"latency_ms": 2000}, "unhealthy"),
        ({"error_rate": 0.05}, "degraded"),
        ({"error_rate": 0.15}, "unhealthy"),
        ({"cpu": float("nan")}, "degraded"),
    ],
)
def test_a_reading_is_as_bad_as_its_worst_part(metrics: dict[str, float], status: str) -> None:
    assert health.classify(Metrics(**metrics)).status == status


def test_the_reason_names_the_part_the_value_and_the_limit() -> None:
    assert health.classify(Metrics(cpu=0.95)).reason == "CPU is at 95%; the limit is 90%."
    assert health.classify(Metrics(latency_ms=700)).reason == "Latency is at 700 ms; the limit is 500 ms."


def test_half_the_room_used_scores_between_nothing_and_one() -> None:  # upstream's fact S8
    assert health.score(Metrics(cpu=0.5, memory=0.5, disk=0, latency_ms=0, error_rate=0)) == pytest.approx(0.8)


def test_nothing_measured_scores_one() -> None:
    assert health.score(Metrics()) == 1.0


@given(st.builds(Metrics, *[st.none() | st.floats(allow_nan=True, allow_infinity=True)] * 5))
def test_a_score_is_always_a_share(metrics: Metrics) -> None:
    assert 0 <= health.score(metrics) <= 1


def test_the_first_report_sets_the_status_at_once() -> None:
    assert health.after_report(Status.UNKNOWN, BAD, worse=1, better=0).status == Status.UNHEALTHY


def test_one_odd_reading_flips_nothing() -> None:
    assert health.after_report(Status.HEALTHY, BAD, worse=1, better=0).status == Status.HEALTHY
    assert health.after_report(Status.UNHEALTHY, FINE, worse=0, better=1).status == Status.UNHEALTHY


def test_two_readings_in_a_row_do() -> None:
    assert health.after_report(Status.HEALTHY, BAD, worse=2, better=0) == BAD
    assert health.after_report(Status.UNHEALTHY, FINE, worse=0, better=2).status == Status.HEALTHY


@pytest.mark.parametrize(
    ("silent", "status"), [(0, "healthy"), (2.4, "healthy"), (2.5, "degraded"), (3.9, "degraded"), (4, "unhealthy")]
)
def test_two_missed_beats_degrade_and_the_end_of_the_lease_is_unhealthy(silent: float, status: str) -> None:
    heard_at = NOW - timedelta(seconds=silent)

    assert health.after_silence(Status.HEALTHY, heard_at=heard_at, beat_seconds=1, now=NOW).status == status


def test_the_reason_of_silence_counts_the_beats_missed() -> None:
    found = health.after_silence(Status.HEALTHY, heard_at=NOW - timedelta(seconds=41), beat_seconds=10, now=NOW)

    assert found.reason == "No beat for 41.0 s: 4 missed, one is due every 10 s."


@given(
    st.sampled_from([Status.HEALTHY, Status.DEGRADED, Status.UNHEALTHY]),
    st.floats(-5, 10_000),
    st.floats(0.1, 60),
)
def test_silence_never_makes_better(status: Status, silent: float, beat: float) -> None:
    heard_at = NOW - timedelta(seconds=silent)

    found = health.after_silence(status, heard_at=heard_at, beat_seconds=beat, now=NOW)

    assert health.LEVEL[found.status] >= health.LEVEL[status]


def test_a_node_never_heard_stays_unknown() -> None:
    long_ago = NOW - timedelta(days=1)

    assert health.after_silence(Status.UNKNOWN, heard_at=long_ago, beat_seconds=1, now=NOW).status == "unknown"


@given(st.sampled_from([Status.HEALTHY, Status.DEGRADED]), st.floats(0.1, 60))
def test_looking_again_at_the_named_moment_finds_a_change(status: Status, beat: float) -> None:
    moment = health.look_again_at(status, heard_at=NOW, beat_seconds=beat)

    assert moment is not None
    # Timestamps have microseconds; the next one is past any rounding.
    later = moment + timedelta(microseconds=1)
    assert health.after_silence(status, heard_at=NOW, beat_seconds=beat, now=later).status != status


@pytest.mark.parametrize("status", [Status.UNKNOWN, Status.UNHEALTHY])
def test_there_is_nothing_to_look_for_in_the_unknown_and_the_unhealthy(status: Status) -> None:
    assert health.look_again_at(status, heard_at=NOW, beat_seconds=1) is None


@pytest.mark.parametrize(("elapsed", "late"), [(1, 0), (2, 0), (2.1, 1.1), (60, 59), (-3, 0)])
def test_a_sweep_is_late_after_twice_its_interval(elapsed: float, late: float) -> None:
    assert health.lateness(elapsed_seconds=elapsed, interval_seconds=1) == pytest.approx(late)
