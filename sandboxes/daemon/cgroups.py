"""The kernel's own counting and bounding of a slot: cgroup v1, cgroup v2, or nothing (soft limits).

A controller counts only when a group could really be made under it; that it is mounted proves nothing.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from sandboxes.limits import Limits

WANTED = ("memory", "pids", "cpu", "cpuacct")
CPU_PERIOD_US = 100_000
MOUNTS = Path("/proc/self/mounts")
OWN_GROUP = Path("/proc/self/cgroup")


@dataclass(frozen=True, slots=True)
class Counted:
    """What the kernel counted; None where no controller does."""

    cpu_ms: float | None = None
    peak_memory_bytes: int | None = None
    memory_kills: int = 0
    refused_forks: int = 0


@dataclass(frozen=True, slots=True)
class Used:
    """What a group has used and holds now; None where no controller counts it."""

    cpu_ms: float | None = None
    memory_bytes: int | None = None


class Group(Protocol):
    def limit(self, limits: Limits) -> None: ...
    def count_anew(self) -> None: ...
    def attach(self, pid: int) -> None: ...
    def end_together(self) -> int: ...
    def counted(self) -> Counted: ...
    def used(self) -> Used: ...
    def remove(self) -> bool: ...


class Groups(Protocol):
    name: str
    controllers: frozenset[str]

    def create(self, name: str) -> Group: ...
    def sweep(self) -> None: ...
    def close(self) -> None: ...


def detect(name: str, *, mode: str = "auto") -> Groups:
    """The best of what this machine lets us use; `name` keeps two daemons of one machine apart."""
    if mode == "none":
        return NoGroups()
    for found in (_find_v1(name), _find_v2(name)):
        if found is not None and "memory" in found.controllers:
            return found
    return NoGroups()


class NoGroups:
    name = "soft"
    controllers: frozenset[str] = frozenset()

    def create(self, name: str) -> Group:
        return _NoGroup()

    def sweep(self) -> None:
        """Nothing was made."""

    def close(self) -> None:
        """Nothing was made."""


class _NoGroup:
    def limit(self, limits: Limits) -> None:
        """The slot's init sets rlimits instead."""

    def count_anew(self) -> None:
        """Nobody counts."""

    def attach(self, pid: int) -> None:
        """There is nothing to attach to."""

    def end_together(self) -> int:
        """The slot's init ends everything itself."""
        return -1

    def counted(self) -> Counted:
        return Counted()

    def used(self) -> Used:
        return Used()

    def remove(self) -> bool:
        return True


class Counts:
    """The files a group counts in, kept open: to open one takes longer than to read it, and a client waits for it."""

    def __init__(self) -> None:
        self._opened: dict[str, int] = {}
        self._restarted: set[str] = set()

    def open(self, *places: str) -> None:
        for place in places:
            if place not in self._opened:
                with contextlib.suppress(FileNotFoundError):
                    self._opened[place] = os.open(place, os.O_RDONLY | os.O_CLOEXEC)

    def read(self, place: str) -> bytes | None:
        """None where this kernel has no such file."""
        descriptor = self._opened.get(place)
        return None if descriptor is None else os.pread(descriptor, 1 << 12, 0)

    def number(self, place: str) -> int | None:
        said = self.read(place)
        return None if said is None else int(said)

    def field(self, place: str, name: bytes) -> int:
        for line in (self.read(place) or b"").splitlines():
            key, _, value = line.partition(b" ")
            if key == name:
                return int(value)
        return 0

    def restart(self, place: str) -> None:
        """Have it count anew for who reads it here; a kernel that cannot (before 6.12) goes on counting."""
        with contextlib.suppress(OSError):
            if place not in self._restarted:
                fresh = os.open(place, os.O_RDWR | os.O_CLOEXEC)
                os.close(self._opened.pop(place))
                self._opened[place] = fresh
                self._restarted.add(place)
            os.write(self._opened[place], b"reset")

    def close(self) -> None:
        while self._opened:
            os.close(self._opened.popitem()[1])


class V1Groups:
    name = "cgroup v1"

    def __init__(self, parents: dict[str, Path]) -> None:
        self.parents = parents
        self.controllers = frozenset(parents)

    def create(self, name: str) -> Group:
        places = {controller: f"{parent}/{name}" for controller, parent in self.parents.items()}
        for place in dict.fromkeys(places.values()):
            os.mkdir(place)
        return _V1Group(places)

    def sweep(self) -> None:
        for parent in dict.fromkeys(self.parents.values()):
            _remove_children(parent)

    def close(self) -> None:
        for parent in dict.fromkeys(self.parents.values()):
            _remove_children(parent)
            remove_group(parent)


class _V1Group:
    def __init__(self, places: dict[str, str]) -> None:
        self.places = places
        self._before = Counted()
        self._counts = Counts()
        self._usage = self._file("cpuacct", "cpuacct.usage")
        self._peak = self._file("memory", "memory.max_usage_in_bytes")
        self._holds = self._file("memory", "memory.usage_in_bytes")
        self._kills = self._file("memory", "memory.oom_control")
        self._forks = self._file("pids", "pids.events")

    def _file(self, controller: str, name: str) -> str:
        """A name that nothing has where there is no such controller."""
        return f"{self.places[controller]}/{name}" if controller in self.places else ""

    def limit(self, limits: Limits) -> None:
        if "memory" in self.places:
            _write(self._file("memory", "memory.limit_in_bytes"), limits.memory_mb << 20)
        if "pids" in self.places:
            # One more: the slot's init is counted as well.
            _write(self._file("pids", "pids.max"), limits.processes + 1)
        if "cpu" in self.places:
            _write(self._file("cpu", "cpu.cfs_quota_us"), int(limits.cpu * CPU_PERIOD_US))
        self._counts.open(self._usage, self._peak, self._holds, self._kills, self._forks)
        self.count_anew()

    def count_anew(self) -> None:
        """What the slot used to get ready, or a program before, is not the program's."""
        self._before = self._failures()
        if "memory" in self.places:
            _write(self._peak, 0)
        if "cpuacct" in self.places:
            _write(self._usage, 0)

    def attach(self, pid: int) -> None:
        for place in dict.fromkeys(self.places.values()):
            _write(f"{place}/cgroup.procs", pid)

    def end_together(self) -> int:
        """A descriptor that can be read once memory has run out: this kernel ends one process, the caller the rest."""
        told = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        watched = os.open(self._kills, os.O_RDONLY)
        try:
            _write(self._file("memory", "cgroup.event_control"), f"{told} {watched}")
        finally:
            os.close(watched)
        return told

    def counted(self) -> Counted:
        used, failures = self._counts.number(self._usage), self._failures()
        return Counted(
            cpu_ms=None if used is None else used / 1e6,
            peak_memory_bytes=self._counts.number(self._peak),
            memory_kills=failures.memory_kills - self._before.memory_kills,
            refused_forks=failures.refused_forks - self._before.refused_forks,
        )

    def _failures(self) -> Counted:
        """What is counted from the slot's beginning on."""
        kills, forks = self._counts.field(self._kills, b"oom_kill"), self._counts.field(self._forks, b"max")
        return Counted(memory_kills=kills, refused_forks=forks)

    def used(self) -> Used:
        used = self._counts.number(self._usage)
        return Used(None if used is None else used / 1e6, self._counts.number(self._holds))

    def remove(self) -> bool:
        self._counts.close()
        left = [place for place in dict.fromkeys(self.places.values()) if not remove_group(place)]
        return not left


class V2Groups:
    name = "cgroup v2"

    def __init__(self, parent: Path, controllers: Iterable[str]) -> None:
        self.parent = parent
        self.controllers = frozenset(controllers)

    def create(self, name: str) -> Group:
        place = f"{self.parent}/{name}"
        os.mkdir(place)
        return _V2Group(place, self.controllers)

    def sweep(self) -> None:
        _remove_children(self.parent)

    def close(self) -> None:
        _remove_children(self.parent)
        remove_group(self.parent)


class _V2Group:
    def __init__(self, place: str, controllers: frozenset[str]) -> None:
        self.place = place
        self.controllers = controllers
        self._counts = Counts()
        self._usage, self._peak = f"{place}/cpu.stat", f"{place}/memory.peak"
        self._holds = f"{place}/memory.current"
        self._kills, self._forks = f"{place}/memory.events", f"{place}/pids.events"
        self._before: Counted | None = None

    def limit(self, limits: Limits) -> None:
        _write(f"{self.place}/memory.max", limits.memory_mb << 20)
        with contextlib.suppress(FileNotFoundError):
            _write(f"{self.place}/memory.swap.max", 0)
        if "pids" in self.controllers:
            _write(f"{self.place}/pids.max", limits.processes + 1)
        if "cpu" in self.controllers:
            _write(f"{self.place}/cpu.max", f"{int(limits.cpu * CPU_PERIOD_US)} {CPU_PERIOD_US}")
        self._counts.open(self._usage, self._peak, self._holds, self._kills, self._forks)
        self.count_anew()

    def count_anew(self) -> None:
        if self._before is not None:
            # The first time it is low yet.
            self._counts.restart(self._peak)
        self._before = self._now()

    def attach(self, pid: int) -> None:
        _write(f"{self.place}/cgroup.procs", pid)

    def end_together(self) -> int:
        """When memory runs out the kernel ends every process of the group, so there is nothing to watch."""
        _write(f"{self.place}/memory.oom.group", 1)
        return -1

    def counted(self) -> Counted:
        now, before = self._now(), self._before or Counted()
        return Counted(
            cpu_ms=(now.cpu_ms or 0) - (before.cpu_ms or 0),
            peak_memory_bytes=self._counts.number(self._peak),
            memory_kills=now.memory_kills - before.memory_kills,
            refused_forks=now.refused_forks - before.refused_forks,
        )

    def _now(self) -> Counted:
        """What is counted from the slot's beginning on."""
        return Counted(
            cpu_ms=self._counts.field(self._usage, b"usage_usec") / 1e3,
            memory_kills=self._counts.field(self._kills, b"oom_kill"),
            refused_forks=self._counts.field(self._forks, b"max"),
        )

    def used(self) -> Used:
        before = self._before.cpu_ms if self._before else 0
        return Used(
            self._counts.field(self._usage, b"usage_usec") / 1e3 - (before or 0), self._counts.number(self._holds)
        )

    def remove(self) -> bool:
        self._counts.close()
        return remove_group(self.place)


def _find_v1(name: str) -> V1Groups | None:
    parents: dict[str, Path] = {}
    for kind, place, options in _mounted():
        for controller in set(options) & set(WANTED) if kind == "cgroup" else ():
            parent = place / name
            if _make(parent):
                _write_quietly(parent / "memory.swappiness", 0)
                parents[controller] = parent
    return V1Groups(parents) if parents else None


def _find_v2(name: str) -> V2Groups | None:
    for kind, place, _ in _mounted():
        if kind != "cgroup2":
            continue
        for above in dict.fromkeys((place / _own_v2_path(), place)):
            controllers = _delegated(above, name)
            if controllers:
                return V2Groups(above / name, controllers)
    return None


def _delegated(above: Path, name: str) -> set[str]:
    """The controllers we may use for groups in `above / name`, made on the way; none when refused."""
    wanted = {"memory", "pids", "cpu"} & set(_read_quietly(above / "cgroup.controllers").split())
    if "memory" not in wanted or not _make(above / name):
        return set()
    for place in (above, above / name):
        missing = wanted - set(_read_quietly(place / "cgroup.subtree_control").split())
        if missing and not _enable(place, missing, leaf=above / f"{name}-daemon"):
            remove_group(above / name)
            return set()
    return wanted


def _enable(place: Path, controllers: set[str], *, leaf: Path) -> bool:
    asked = " ".join(f"+{controller}" for controller in sorted(controllers))
    try:
        _write(place / "cgroup.subtree_control", asked)
        return True
    except OSError as problem:
        if problem.errno != errno.EBUSY or not _make(leaf):
            return False
    # A group with processes of its own may not hand out controllers: step aside into a leaf.
    try:
        _write(leaf / "cgroup.procs", os.getpid())
        _write(place / "cgroup.subtree_control", asked)
        return True
    except OSError:
        return False


def _mounted() -> Iterator[tuple[str, Path, list[str]]]:
    for line in _read_quietly(MOUNTS).splitlines():
        _, place, kind, options, *_ = line.split()
        yield kind, Path(place), options.split(",")


def _own_v2_path() -> str:
    for line in _read_quietly(OWN_GROUP).splitlines():
        if line.startswith("0::"):
            return line[3:].lstrip("/")
    return ""


def _make(place: Path) -> bool:
    try:
        place.mkdir(exist_ok=True)
    except OSError:
        return False
    return os.access(place / "cgroup.procs", os.W_OK)


def remove_group(place: str | Path, *, patience_seconds: float = 0) -> bool:
    """Remove one group; the kernel refuses until the last task in it is buried."""
    deadline = time.monotonic() + patience_seconds
    while True:
        try:
            os.rmdir(place)
            return True
        except FileNotFoundError:
            return True
        except OSError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.005)


def _remove_children(parent: Path) -> None:
    if not parent.is_dir():
        return
    for child in parent.iterdir():
        if child.is_dir():
            _kill_all(child)
            remove_group(child, patience_seconds=1)


def _kill_all(place: Path) -> None:
    for pid in _read_quietly(place / "cgroup.procs").split():
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)


def _write(place: str | Path, value: object) -> None:
    # A plain file object would hide the kernel's refusal until it is closed.
    descriptor = os.open(place, os.O_WRONLY)
    try:
        os.write(descriptor, str(value).encode())
    finally:
        os.close(descriptor)


def _write_quietly(place: Path, value: object) -> None:
    with contextlib.suppress(OSError):
        _write(place, value)


def _read_quietly(place: Path) -> str:
    try:
        return place.read_text()
    except OSError:
        return ""
