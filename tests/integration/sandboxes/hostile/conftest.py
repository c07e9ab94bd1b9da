"""After every hostile program nothing is left on the machine, and the next execution is right."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from sandboxes.daemon.bubblewrap import FIRST_HOST_USER
from tests.integration.sandboxes.daemons import Daemon, eventually, run

# Where a file that got out would lie, and where the kernel lists what has no file.
OPEN_TO_ALL = ("/tmp", "/var/tmp", "/dev/shm", "/dev/mqueue", "/run", "/run/lock")
SHARED_BY_IPC = ("/proc/sysvipc/shm", "/proc/sysvipc/sem", "/proc/sysvipc/msg")
RIGHT = {
    "python": "import os; print(sorted(os.listdir('.')), os.listdir('/tmp'), os.listdir('/dev/shm'), 6 * 7)",
    "node": "const d = require('fs').readdirSync; console.log(d('.'), d('/tmp'), d('/dev/shm'), 6 * 7)",
}
ANSWER = {"python": b"['artifacts'] [] [] 42\n", "node": b"[ 'artifacts' ] [] [] 42\n"}


@dataclass(frozen=True)
class Traces:
    """What a program that got out would leave: mounts, files of a slot's user, things shared by IPC."""

    mounts: str
    state: frozenset[str]
    files: frozenset[str]
    shared: int

    @classmethod
    def of(cls, daemon: Daemon) -> Traces:
        return cls(
            mounts=Path(f"/proc/{daemon.child.pid}/mounts").read_text(),
            state=frozenset(str(path) for path in daemon.state.rglob("*")),
            files=frozenset(path for folder in OPEN_TO_ALL for path in _of_slots(folder)),
            shared=sum(_owned_by_slots(path) for path in SHARED_BY_IPC),
        )


def _of_slots(folder: str) -> Iterator[str]:
    if not os.path.isdir(folder):
        return
    for entry in os.scandir(folder):
        try:
            owner = entry.stat(follow_symlinks=False).st_uid
        except OSError:
            continue
        if owner >= FIRST_HOST_USER:
            yield entry.path


def _owned_by_slots(listing: str) -> int:
    try:
        lines = Path(listing).read_text().splitlines()[1:]
    except OSError:
        return 0
    return sum(any(word.isdigit() and int(word) >= FIRST_HOST_USER for word in line.split()) for line in lines)


@pytest.fixture
def language() -> str:
    """Of the tests that are not for each language."""
    return "python"


@pytest.fixture
def own_kernel(daemon: Daemon) -> bool:
    """Whether programs have a kernel of their own, so that what reaches a kernel reaches only that one."""
    return daemon.ready["engine"] == "gvisor"


@pytest.fixture
def attacked(daemon: Daemon, language: str) -> Iterator[Any]:
    """The runtime under attack."""
    if language not in daemon.runtime.describe()["languages"]:
        _without_node()
    before = Traces.of(daemon)
    yield daemon.runtime
    assert eventually(daemon.is_quiet, within_seconds=60), [each.cmdline() for each in daemon.descendants()]
    assert Traces.of(daemon) == before
    assert run(daemon.runtime, RIGHT[language], language=language).stdout == ANSWER[language]


def _without_node() -> None:
    why = "there is no Node here: put node on PATH or set NTD_TEST_NODE"
    if os.environ.get("NTD_REQUIRE_SANDBOX") == "1":
        pytest.fail(why)
    pytest.skip(why)
