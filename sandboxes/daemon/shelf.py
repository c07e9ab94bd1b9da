"""The built templates of this node: one read-only folder for each address, whole or not there at all.

What a build left in its sandbox is hostile until it was looked at: nothing is followed, only plain files, folders and
links that stay inside are taken, without owner, and without any right but to be read and run.
"""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from sandboxes.daemon.artifacts import OPEN_FILE, OPEN_FOLDER

MOST_BYTES = 1 << 30
MOST_ENTRIES = 150_000
DEEPEST = 64
LOCK = "template.lock"
ROOMY = 1 << 20


class NotTaken(Exception):
    """The content of a build cannot be a template; the text says why."""


class Shelf:
    def __init__(self, root: Path) -> None:
        self.root = root

    def place(self, address: str) -> Path:
        """Where a template of that address is, for the interpreter and machine of now."""
        return self.root / f"{address}.{tag(address)}"

    def has(self, address: str) -> bool:
        return self.place(address).is_dir()

    def addresses(self) -> list[str]:
        if not self.root.is_dir():
            return []
        names = [each.name.rpartition(".")[0] for each in self.root.iterdir() if not each.name.startswith(".")]
        return sorted({name for name in names if self.has(name)})

    def lock(self, address: str) -> str:
        return (self.place(address) / LOCK).read_text()

    def size(self, address: str) -> int:
        found = (Path(at) / name for at, _, names in os.walk(self.place(address)) for name in names)
        return sum(path.lstat().st_size for path in found)

    def put(self, address: str, *, folder: int, lock: str) -> int:
        """Take over what the open folder holds; returns its size in bytes. Raises NotTaken."""
        self.root.mkdir(parents=True, exist_ok=True)
        self.root.chmod(0o755)
        fresh = Path(tempfile.mkdtemp(prefix=".new-", dir=self.root))
        try:
            taken = _Taken()
            taken.folder(folder, fresh, PurePosixPath(), depth=0)
            fresh.chmod(0o755)
            (fresh / LOCK).write_text(lock)
            (fresh / LOCK).chmod(0o444)
            fresh.chmod(0o555)
            os.rename(fresh, self.place(address))
        except BaseException:
            _remove(fresh)
            raise
        return taken.bytes

    def sweep(self) -> None:
        """What a killed daemon left half done."""
        for left in self.root.glob(".new-*"):
            _remove(left)

    def discard(self, address: str) -> bool:
        if not self.has(address):
            return False
        # Out of sight first, so that it is never there in part.
        gone = Path(tempfile.mkdtemp(prefix=".new-", dir=self.root))
        os.rename(self.place(address), gone / "gone")
        _remove(gone)
        return True


def tag(address: str) -> str:
    """What the content was built for: another interpreter finds nothing, and builds its own."""
    machine = f"{platform.machine()}-{platform.libc_ver()[0]}"
    return f"{sys.implementation.cache_tag}-{machine}" if address.startswith("python-") else machine


def _remove(folder: Path) -> None:
    for at, folders, _ in os.walk(folder):
        for name in folders:
            with contextlib.suppress(OSError):
                (Path(at) / name).chmod(0o700)
    shutil.rmtree(folder, ignore_errors=True)


class _Taken:
    """Copies a tree and counts what it takes."""

    def __init__(self) -> None:
        self.bytes = 0
        self._entries = 0

    def folder(self, source: int, target: Path, inner: PurePosixPath, *, depth: int) -> None:
        if depth > DEEPEST:
            raise NotTaken("Its folders are nested too deep.")
        for name in self._names(source):
            self._entry(source, name, target / name, inner / name, depth=depth)
        target.chmod(0o555)

    def _names(self, source: int) -> Iterator[str]:
        for name in sorted(os.listdir(source)):
            self._entries += 1
            if self._entries > MOST_ENTRIES:
                raise NotTaken(f"It has more than {MOST_ENTRIES:,} files.")
            yield name

    def _entry(self, source: int, name: str, target: Path, inner: PurePosixPath, *, depth: int) -> None:
        kind = os.stat(name, dir_fd=source, follow_symlinks=False).st_mode
        if stat.S_ISLNK(kind):
            _link(os.readlink(name, dir_fd=source), target, inner)
        elif stat.S_ISDIR(kind):
            target.mkdir()
            descriptor = os.open(name, OPEN_FOLDER, dir_fd=source)
            try:
                self.folder(descriptor, target, inner, depth=depth + 1)
            finally:
                os.close(descriptor)
        elif stat.S_ISREG(kind):
            self._file(os.open(name, OPEN_FILE, dir_fd=source), target)
        else:
            raise NotTaken(f"{inner} is neither a file nor a folder.")

    def _file(self, source: int, target: Path) -> None:
        with os.fdopen(source, "rb") as content:
            facts = os.fstat(content.fileno())
            self.bytes += facts.st_size
            if self.bytes > MOST_BYTES:
                raise NotTaken(f"It is larger than {MOST_BYTES >> 30} GB.")
            with target.open("xb") as copy:
                shutil.copyfileobj(content, copy, ROOMY)
                copy.flush()
                # Compiled modules are only believed while their source is as old as it was.
                os.utime(copy.fileno(), ns=(facts.st_mtime_ns, facts.st_mtime_ns))
                os.fchmod(copy.fileno(), 0o555 if facts.st_mode & 0o111 else 0o444)


def _link(where: str, target: Path, inner: PurePosixPath) -> None:
    if where.startswith("/"):
        raise NotTaken(f"{inner} is a link that leads outside.")
    depth = len(inner.parent.parts)
    for part in PurePosixPath(where).parts:
        depth += -1 if part == ".." else 1
        if depth < 0:
            raise NotTaken(f"{inner} is a link that leads outside.")
    target.symlink_to(where)
