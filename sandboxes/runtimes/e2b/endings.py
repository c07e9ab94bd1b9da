"""Pure. What a run at E2B came to, from the guest's report."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from sandboxes.daemon import breaches
from sandboxes.runtimes import Outcome, Sample

KILLED = 9


def outcome(report: Mapping[str, Any], streams: Mapping[str, bytes | bytearray], *, startup_ms: float) -> Outcome:
    exit_code, signal = _status(report["status"])
    return Outcome(
        exit_code=exit_code,
        signal=signal,
        breach=_breach(report, bytes(streams["stderr"]), failed=exit_code != 0, signal=signal),
        cancelled=report["stopped"] == "cancelled",
        stdout=bytes(streams["stdout"]),
        stderr=bytes(streams["stderr"]),
        stdout_truncated="stdout" in report["truncated"],
        stderr_truncated="stderr" in report["truncated"],
        artifacts=tuple(report["contents"]),
        artifacts_truncated=tuple(report["artifacts_truncated"]),
        duration_ms=report["duration_ms"],
        startup_ms=startup_ms,
        cpu_ms=report["cpu_ms"],
        peak_memory_bytes=report["peak_memory_bytes"],
        disk_bytes=report["disk_bytes"],
        network_sent_bytes=report["network_sent_bytes"],
        network_received_bytes=report["network_received_bytes"],
    )


def _status(status: int | None) -> tuple[int | None, int | None]:
    """None is a program that was ended from outside."""
    if status is None:
        return None, KILLED
    return (None, os.WTERMSIG(status)) if os.WIFSIGNALED(status) else (os.WEXITSTATUS(status), None)


def _breach(report: Mapping[str, Any], stderr: bytes, *, failed: bool, signal: int | None) -> str | None:
    return breaches.recognise(
        breaches.Facts(
            stopped=report["stopped"],
            failed=failed,
            memory_kills=report["memory_kills"],
            soft_memory_exceeded=report["soft_memory_exceeded"],
            refused_forks=report["refused_forks"],
            disk_is_full=report["disk_is_full"],
            signal=signal,
            stderr=stderr[-breaches.TAIL_BYTES :],
        )
    )


def sample(used: Mapping[str, Any]) -> Sample:
    return Sample(
        at_ms=used["at_ms"],
        cpu_ms=round(used["cpu_ms"]),
        memory_bytes=used["memory_bytes"],
        disk_bytes=used["disk_bytes"],
    )


NOTHING = {
    "cpu_ms": 0.0,
    "peak_memory_bytes": 0,
    "disk_bytes": 0,
    "network_sent_bytes": 0,
    "network_received_bytes": 0,
}


def cut_short(
    streams: Mapping[str, bytes | bytearray], *, used: Mapping[str, Any], lasted_ms: float, startup_ms: float
) -> Outcome:
    """Cancelled, and no more is known of it than what it had used when the guest last said so."""
    return Outcome(
        exit_code=None,
        signal=KILLED if lasted_ms else None,
        breach=None,
        cancelled=True,
        stdout=bytes(streams["stdout"]),
        stderr=bytes(streams["stderr"]),
        stdout_truncated=False,
        stderr_truncated=False,
        artifacts=(),
        artifacts_truncated=(),
        duration_ms=lasted_ms,
        startup_ms=startup_ms,
        **{name: used.get(name, nothing) for name, nothing in NOTHING.items()},
    )
