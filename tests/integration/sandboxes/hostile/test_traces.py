"""What would show only after many executions: descriptors, threads, users and files that the daemon keeps."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import psutil

from tests.integration.sandboxes.daemons import eventually, run

ENDS = (
    {"code": "pass"},
    {"code": "while True: pass", "timeout_seconds": 0.1},
    {"code": "x = []\nwhile True: x.append(bytearray(1 << 20))", "limits": {"memory_mb": 32}},
    {"code": "import os\nwhile True: os.write(1, b'x' * 65536)", "limits": {"output_kb": 1}},
    {"code": "import os\nif os.fork() == 0:\n    os.setsid()\n    while True: pass"},
)


def held(daemon) -> tuple[int, int, int]:
    """What a daemon at rest has open, in memory and in its log."""
    process = psutil.Process(daemon.child.pid)
    return process.num_fds(), process.num_threads(), (daemon.state / "daemon.log").stat().st_size


def rest(daemon) -> None:
    ready = lambda: daemon.is_quiet() and daemon.runtime.describe()["pools"]["python"]["ready"] == 2  # noqa: E731
    assert eventually(ready, within_seconds=60)


def test_many_ends_leave_nothing_behind(own_daemon):
    rest(own_daemon)
    before = held(own_daemon)

    for _ in range(4):
        for ending in ENDS:
            run(own_daemon.runtime, **ending)

    rest(own_daemon)
    no_more = lambda: all(now <= then for now, then in zip(held(own_daemon), before, strict=True))  # noqa: E731
    assert eventually(no_more, within_seconds=30), (held(own_daemon), before)


def test_what_zygotes_write_does_not_grow(own_daemon):
    """They write to one unnamed file each, which no program may fill."""
    rest(own_daemon)
    flood = "import os, time\nuntil = time.monotonic() + 0.3\nos.fork()\nwhile time.monotonic() < until: os.kill(1, 17)"

    for _ in range(3):
        run(own_daemon.runtime, flood)

    sizes = []
    for each in Path(f"/proc/{own_daemon.child.pid}/fd").iterdir():
        # A descriptor may be closed while they are listed.
        with contextlib.suppress(FileNotFoundError):
            if os.readlink(each).endswith("(deleted)"):
                sizes.append(each.stat().st_size)
    assert sizes
    assert sum(sizes) == 0
