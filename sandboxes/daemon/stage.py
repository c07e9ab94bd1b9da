"""Makes files reachable for the unprivileged users that hold sandboxes.

A root daemon's interpreter may lie under /root (mode 0700). Instead of copying it, the daemon takes a
mount namespace of its own, once, before any thread, and binds what is needed under a small tmpfs there.
Nobody else sees these mounts, and they vanish with the daemon, however it dies.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Iterable
from pathlib import Path

CANDIDATES = ("/mnt", "/media", "/srv", "/opt", "/var/lib", "/tmp")
CLONE_NEWNS = 0x00020000
MS_BIND, MS_REC, MS_SLAVE = 4096, 16384, 1 << 19
MNT_DETACH = 2


class CannotStage(Exception):
    """The machine does not let even root arrange its own view of the files."""


class Stage:
    """As a normal user everything the daemon can read is reachable already."""

    def reach(self, path: Path) -> Path:
        return path

    def release(self, path: Path) -> None:
        """This will have the path looked for anew the next time."""


class NoStage(Stage):
    """Where no view could be arranged, nothing is reachable, and this says why."""

    def __init__(self, why: str) -> None:
        self._why = why

    def reach(self, path: Path) -> Path:
        raise CannotStage(self._why)


class PrivateStage(Stage):
    """As root: binds under a tmpfs in a private mount namespace."""

    def __init__(self, *, avoid: Iterable[Path]) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._reached: dict[Path, tuple[Path, tuple[int, int]]] = {}
        self._lock = threading.Lock()
        self._count = -1
        avoided = [Path(os.path.realpath(path)) for path in avoid]
        self._root = _quiet_place(avoided)
        self._checked(self._libc.unshare(CLONE_NEWNS), "unshare the mount namespace")
        # The machine's later mounts still arrive here; ours never leave.
        self._mount("none", "/", MS_REC | MS_SLAVE)
        self._mount("tmpfs", str(self._root), 0, kind="tmpfs", options="mode=0755,size=1m")

    def reach(self, path: Path) -> Path:
        source = Path(os.path.realpath(path))
        facts = source.stat()
        identity = (facts.st_dev, facts.st_ino)
        with self._lock:
            # What was replaced is another file, of which the old binding knows nothing.
            if source in self._reached and self._reached[source][1] != identity:
                self._unbind(source)
            if source not in self._reached:
                self._reached[source] = self._bind(source), identity
            return self._reached[source][0]

    def release(self, path: Path) -> None:
        with self._lock:
            self._unbind(Path(os.path.realpath(path)))

    def _unbind(self, source: Path) -> None:
        if source in self._reached:
            self._libc.umount2(os.fsencode(self._reached.pop(source)[0]), MNT_DETACH)

    def _bind(self, source: Path) -> Path:
        self._count += 1
        target = self._root / str(self._count) / source.name
        target.parent.mkdir(mode=0o755)
        if source.is_dir():
            target.mkdir(mode=0o755)
        else:
            target.touch(mode=0o755)
        self._mount(str(source), str(target), MS_BIND | MS_REC)
        return target

    def _mount(self, source: str, target: str, flags: int, *, kind: str = "", options: str = "") -> None:
        result = self._libc.mount(
            os.fsencode(source), os.fsencode(target), kind.encode() or None, ctypes.c_ulong(flags), options.encode()
        )
        self._checked(result, f"mount {target}")

    @staticmethod
    def _checked(result: int, what: str) -> None:
        if result < 0:
            raise CannotStage(f"cannot {what}: {os.strerror(ctypes.get_errno())}")


def prepare(*, avoid: Iterable[Path]) -> Stage:
    return PrivateStage(avoid=avoid) if os.geteuid() == 0 else Stage()


def _quiet_place(avoided: list[Path]) -> Path:
    """A folder everybody may pass through and nothing we need lies in."""
    for name in CANDIDATES:
        place = Path(name)
        if not place.is_dir() or any(path.is_relative_to(place) for path in avoided):
            continue
        if all(folder.stat().st_mode & 0o001 for folder in place.parents):
            return place
    raise CannotStage("cannot find a folder to arrange files in; tried " + ", ".join(CANDIDATES))
