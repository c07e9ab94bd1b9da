"""Pure. The course of what an execution used, as charts show it: the share of its cores, the memory of its limit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

MIB = 1024 * 1024
# Below this share of a limit its line would only flatten the course.
NEAR = 0.25
HEIGHT = 150


def usage(samples: Sequence[Sequence[int]], *, cpu: float, memory_mb: float) -> list[dict[str, Any]]:
    """Two charts of samples (frames.Sample) over the seconds of a run; without samples they are empty."""
    seconds = [at_ms / 1000 for _, at_ms, *_ in samples]
    held = [round(memory / MIB, 2) for *_, memory, _ in samples]
    cores = f"{cpu:g} core{'' if cpu == 1 else 's'}"
    return [
        _chart("cpu", f"CPU, of {cores}", seconds, _shares(samples, cpu), limit=100, unit="%"),
        _chart("memory", f"Memory, of {memory_mb:g} MiB", seconds, held, limit=memory_mb, unit="MiB"),
    ]


def _shares(samples: Sequence[Sequence[int]], cpu: float) -> list[float]:
    """Of the cores it may use, in percent, since the sample before."""
    shares, was_at, was_used = [], 0, 0
    for _, at_ms, cpu_ms, *_ in samples:
        passed = max(1, at_ms - was_at)
        shares.append(round(max(0, cpu_ms - was_used) / passed / cpu * 100, 1))
        was_at, was_used = at_ms, cpu_ms
    return shares


def _chart(
    name: str, title: str, seconds: list[float], values: list[float], *, limit: float, unit: str
) -> dict[str, Any]:
    near = max(values, default=0.0) > limit * NEAR
    return {
        "id": f"usage-{name}",
        "title": title,
        "height": HEIGHT,
        "sync": "usage",
        "time": False,
        "zero": True,
        "x_label": "Seconds",
        "x": seconds,
        "series": [
            {"label": title.split(",")[0], "values": values, "unit": unit, "fill": True},
            {"label": "Limit", "values": [limit if near else None] * len(values), "unit": unit, "dash": True},
        ],
    }
