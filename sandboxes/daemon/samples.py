"""What a run uses at a moment, for whoever watches it: read from the kernel a few times a second, never for short runs.

What no controller counts is added up over the processes under the slot's pid 1.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass

from sandboxes.daemon.engines import Slot

OFTEN_SECONDS = 0.25
SELDOM_SECONDS = 0.5
# As long as somebody is likely to be looking at every one.
OFTEN_UNTIL_SECONDS = 60
TICK_MS = 1000 / os.sysconf("SC_CLK_TCK")
# In /proc/<pid>/stat behind the name: the times of the process, then those of its buried children.
TIMES = slice(11, 15)


@dataclass(frozen=True, slots=True)
class Sample:
    at_ms: int
    cpu_ms: int
    memory_bytes: int
    disk_bytes: int


class Sampler:
    """Knows when the next sample is due, and takes it."""

    def __init__(self, slot: Slot, *, begun: float, wanted: bool) -> None:
        self._slot, self._begun = slot, begun
        self.due = begun + OFTEN_SECONDS if wanted else math.inf

    def take(self, now: float) -> Sample:
        self.due = now + (OFTEN_SECONDS if now - self._begun < OFTEN_UNTIL_SECONDS else SELDOM_SECONDS)
        disk = os.fstatvfs(self._slot.scratch)
        disk_bytes = (disk.f_blocks - disk.f_bfree) * disk.f_frsize
        used = self._slot.used()
        cpu_ms, memory_bytes = used.cpu_ms, used.memory_bytes
        if cpu_ms is None or memory_bytes is None:
            pids = list(family(_pid_of(self._slot.pidfd)))
            cpu_ms = sum(map(_cpu_ms, pids)) if cpu_ms is None else cpu_ms
            # The first is the slot's own.
            memory_bytes = sum(map(_private_bytes, pids[1:])) + disk_bytes if memory_bytes is None else memory_bytes
        return Sample(round((now - self._begun) * 1000), round(cpu_ms), memory_bytes, disk_bytes)


def family(pid: int) -> Iterator[int]:
    """A process and everything below it; what dies meanwhile is left out."""
    yield pid
    for child in _children(pid):
        yield from family(child)


def _children(pid: int) -> list[int]:
    found: list[int] = []
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/children") as listing:
                found += map(int, listing.read().split())
    except OSError:
        pass
    return found


def _pid_of(pidfd: int) -> int:
    with open(f"/proc/self/fdinfo/{pidfd}") as facts:
        return next((int(line.split()[1]) for line in facts if line.startswith("Pid:")), -1)


def _cpu_ms(pid: int) -> float:
    try:
        with open(f"/proc/{pid}/stat") as stat:
            # The name in parentheses is the program's choice, spaces and parentheses included.
            return sum(map(int, stat.read().rpartition(")")[2].split()[TIMES])) * TICK_MS
    except OSError:
        return 0.0


def _private_bytes(pid: int) -> int:
    """Anonymous pages, each shared one counted as its share."""
    try:
        with open(f"/proc/{pid}/smaps_rollup") as rollup:
            return next((int(line.split()[1]) << 10 for line in rollup if line.startswith("Pss_Anon:")), 0)
    except OSError:
        return 0
