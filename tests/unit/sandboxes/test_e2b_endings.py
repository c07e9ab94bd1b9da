"""What a run at E2B came to, from what its guest reported."""

from __future__ import annotations

from typing import Any

import pytest

from sandboxes.runtimes import Artifact, Sample
from sandboxes.runtimes.e2b import endings


def report(**changes: Any) -> dict[str, Any]:
    usual = {
        "status": 0,
        "stopped": "",
        "truncated": [],
        "duration_ms": 250.0,
        "cpu_ms": 40.0,
        "peak_memory_bytes": 9 << 20,
        "disk_bytes": 8192,
        "disk_is_full": False,
        "memory_kills": 0,
        "soft_memory_exceeded": False,
        "refused_forks": 0,
        "network_sent_bytes": 0,
        "network_received_bytes": 0,
        "contents": [],
        "artifacts_truncated": [],
    }
    return usual | changes


def ended(stderr: bytes = b"", **changes: Any):
    return endings.outcome(report(**changes), {"stdout": bytearray(b"out"), "stderr": stderr}, startup_ms=300.0)


def test_what_was_measured_is_passed_on():
    outcome = ended(contents=[Artifact("a", b"1")], artifacts_truncated=["b"])

    assert (outcome.exit_code, outcome.breach, outcome.stdout) == (0, None, b"out")
    assert (outcome.duration_ms, outcome.cpu_ms, outcome.startup_ms) == (250.0, 40.0, 300.0)
    assert outcome.artifacts == (Artifact("a", b"1"),)
    assert outcome.artifacts_truncated == ("b",)


@pytest.mark.parametrize(
    ("status", "exit_code", "signal"), [(0, 0, None), (3 << 8, 3, None), (15, None, 15), (None, None, 9)]
)
def test_the_kernels_status_is_told_apart(status, exit_code, signal):
    outcome = ended(status=status)

    assert (outcome.exit_code, outcome.signal) == (exit_code, signal)


@pytest.mark.parametrize(
    ("changes", "breach"),
    [
        ({"stopped": "timeout", "status": None}, "timeout"),
        ({"stopped": "output", "status": None, "truncated": ["stdout"]}, "output"),
        ({"memory_kills": 1, "status": 9}, "memory"),
        ({"soft_memory_exceeded": True, "status": 9}, "memory"),
        ({"refused_forks": 2, "status": 256}, "processes"),
        ({"disk_is_full": True, "status": 256}, "disk"),
        ({"memory_kills": 1, "status": 0}, None),
        ({"status": 256}, None),
    ],
)
def test_the_limit_that_ended_it_is_named(changes, breach):
    assert ended(**changes).breach == breach


def test_a_programs_last_words_name_the_limit_when_the_kernel_does_not():
    assert ended(b"Traceback\nMemoryError\n", status=256).breach == "memory"


def test_a_cancelled_one_has_breached_nothing():
    outcome = ended(stopped="cancelled", status=None, memory_kills=1)

    assert (outcome.cancelled, outcome.breach) == (True, None)


def test_one_that_was_cut_short_invents_no_usage():
    streams = {"stdout": b"so far", "stderr": b""}
    outcome = endings.cut_short(streams, used={}, lasted_ms=120.0, startup_ms=80.0)

    assert (outcome.cancelled, outcome.signal, outcome.stdout, outcome.duration_ms) == (True, 9, b"so far", 120.0)
    assert (outcome.cpu_ms, outcome.peak_memory_bytes, outcome.disk_bytes) == (0.0, 0, 0)


def test_what_the_guest_says_of_its_use_is_a_sample():
    used = {"at_ms": 250, "cpu_ms": 12.6, "memory_bytes": 4096, "peak_memory_bytes": 8192, "disk_bytes": 1}

    assert endings.sample(used) == Sample(at_ms=250, cpu_ms=13, memory_bytes=4096, disk_bytes=1)


def test_one_that_was_cut_short_had_used_what_was_last_said_of_it():
    used = {"cpu_ms": 12.5, "peak_memory_bytes": 4096, "disk_bytes": 1}

    outcome = endings.cut_short({"stdout": b"", "stderr": b""}, used=used, lasted_ms=120.0, startup_ms=80.0)

    assert (outcome.cpu_ms, outcome.peak_memory_bytes, outcome.disk_bytes) == (12.5, 4096, 1)
    assert outcome.network_sent_bytes == 0


def test_one_that_never_ran_died_of_no_signal():
    nothing = {"stdout": b"", "stderr": b""}

    assert endings.cut_short(nothing, used={}, lasted_ms=0.0, startup_ms=0.0).signal is None
