"""What a process measures of its machine and of itself, and tells as its node's report."""

from __future__ import annotations

import contextlib
import math
import os
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from django.conf import settings
from django.utils import timezone

from scaling import nodes
from scaling.models import Node

# A burst says nothing about a machine: the CPU's share is averaged over about half a minute, and the time
# before the first reading counts as idle.
CPU_MEMORY_SECONDS = 30.0
_MACHINE: dict[str, object] = {
    "cores": psutil.cpu_count() or 1,
    "memory_bytes": psutil.virtual_memory().total,
    "system": f"{platform.system()} {platform.release()}",
    "python": platform.python_version(),
}


def node_name() -> str:
    """This machine's name among the nodes."""
    return str(settings.NODE_NAME or os.uname().nodename or "node")


@dataclass(frozen=True)
class Reading:
    cpu: float
    memory: float
    disk: float


class Machine:
    """Readings of the whole machine; `psutil` needs the time between two calls, so one of these is kept."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._cpu = 0.0
        self._read_at = time.monotonic()
        psutil.cpu_percent()

    def read(self) -> Reading:
        return Reading(
            cpu=self._smoothed(psutil.cpu_percent() / 100),
            memory=min(psutil.virtual_memory().percent / 100, 1.0),
            disk=min(psutil.disk_usage(str(self._folder)).percent / 100, 1.0),
        )

    def _smoothed(self, share: float) -> float:
        at = time.monotonic()
        keep = math.exp(-(at - self._read_at) / CPU_MEMORY_SECONDS)
        self._read_at = at
        self._cpu = min(max(self._cpu * keep + share * (1 - keep), 0.0), 1.0)
        return self._cpu


class Probe:
    """One process's view. The latency it tells is how long its last report took to be stored.

    `others` says which processes of the machine have no heart of their own: kind -> process id.
    `tells` says what else of the machine an app above wants known, by the app's own word: it is kept as it is.
    """

    def __init__(
        self,
        process: str,
        *,
        in_flight: Callable[[], int] | None = None,
        error_rate: Callable[[], float] | None = None,
        others: Callable[[], dict[str, int]] | None = None,
        tells: Callable[[], dict[str, dict[str, Any]]] | None = None,
    ) -> None:
        self.process = process
        self._in_flight = in_flight
        self._error_rate = error_rate
        self._others = others
        self._tells = tells
        self._machine = Machine(Path(settings.NTD_HOME))
        self._watched: dict[str, psutil.Process] = {process: psutil.Process()}
        self._latency_ms: float | None = None

    def report(self) -> Node:
        now = timezone.now()
        seen, reading = now.isoformat(), self._machine.read()
        began = time.perf_counter()
        node = nodes.report(
            name=node_name(),
            role=settings.FEDERATION_ROLE,
            cpu=reading.cpu,
            memory=reading.memory,
            disk=reading.disk,
            in_flight=self._in_flight() if self._in_flight else None,
            latency_ms=self._latency_ms,
            error_rate=self._error_rate() if self._error_rate else None,
            observed_at=now,
            now=now,
            metadata={**_MACHINE, "processes": self._lines(seen), "told": self._told(seen)},
        )
        self._latency_ms = (time.perf_counter() - began) * 1000
        return node

    def _told(self, seen: str) -> dict[str, dict[str, Any]]:
        return {word: {**said, "seen": seen} for word, said in (self._tells() if self._tells else {}).items()}

    def _lines(self, seen: str) -> dict[str, dict[str, object]]:
        self._watch_others()
        lines = {}
        for kind, process in self._watched.items():
            # One that has just ended has no line, and falls silent for those who look.
            with contextlib.suppress(psutil.Error):
                lines[kind] = {**_line(process), "seen": seen}
        return lines

    def _watch_others(self) -> None:
        """The same objects from beat to beat, because the CPU's share is measured between two readings."""
        said = self._others() if self._others else {}
        for kind in self._watched.keys() - {self.process}:
            if self._watched[kind].pid != said.get(kind):
                del self._watched[kind]
        for kind in said.keys() - self._watched.keys():
            with contextlib.suppress(psutil.Error):
                self._watched[kind] = psutil.Process(said[kind])


def _line(process: psutil.Process) -> dict[str, object]:
    with process.oneshot():
        return {
            "pid": process.pid,
            "rss": process.memory_info().rss,
            "threads": process.num_threads(),
            "cpu": round(process.cpu_percent() / 100, 4),
            "started": process.create_time(),
        }
