"""Pure. Which limit ended a program, from the kernel's facts first and its own last words second.

A program that dealt with a limit and ended well breached nothing. Its last words decide only how its
own failure is called, so a program that lies there misleads nobody but its author.
"""

from __future__ import annotations

import re
import signal
from dataclasses import dataclass

LAST_WORDS = (
    (
        "memory",
        rb"^(?:numpy\.\S*)?_?(?:Array)?MemoryError\b|JavaScript heap out of memory|Array buffer allocation failed"
        rb"|WebAssembly\.Memory\(\): could not allocate memory",
    ),
    ("disk", rb"No space left on device|ENOSPC|Errno 27\] File too large|EFBIG"),
    (
        "processes",
        rb"can't start new thread|Errno 11\] Resource temporarily unavailable|spawn\S* \S+ EAGAIN"
        rb"|ERR_WORKER_INIT_FAILED",
    ),
)
TAIL_BYTES = 4096
# Node says what was wrong first, and then much else.
TAIL_LINES = 24


@dataclass(frozen=True, slots=True)
class Facts:
    """How a run ended. `stopped` is why the daemon ended it: timeout, memory, output, cancelled, or ""."""

    stopped: str
    failed: bool
    memory_kills: int = 0
    soft_memory_exceeded: bool = False
    refused_forks: int = 0
    disk_is_full: bool = False
    signal: int | None = None
    stderr: bytes = b""


def recognise(facts: Facts) -> str | None:
    if facts.stopped in ("timeout", "memory", "output"):
        return facts.stopped
    if facts.stopped or not facts.failed:
        return None
    if facts.memory_kills or facts.soft_memory_exceeded:
        return "memory"
    if facts.refused_forks:
        return "processes"
    if facts.disk_is_full or facts.signal == signal.SIGXFSZ:
        return "disk"
    return _last_words(facts.stderr)


def _last_words(stderr: bytes) -> str | None:
    lines = stderr[-TAIL_BYTES:].strip().splitlines()[-TAIL_LINES:]
    for name, pattern in LAST_WORDS:
        if any(re.search(pattern, line) for line in lines):
            return name
    return None
