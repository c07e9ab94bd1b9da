"""Collects what a program left in `artifacts/`, after every process of it is dead.

The tree is hostile: nothing in it is followed, opened twice, or believed. Only regular files count.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field

MOST_FILES = 64
MOST_BYTES = 32 << 20
MOST_NAMED = 256
MOST_ENTRIES = 4096
DEEPEST = 16
# Without O_NONBLOCK the opening of a pipe would wait for its other end.
OPEN_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
OPEN_FOLDER = OPEN_FILE | os.O_DIRECTORY


@dataclass
class Collected:
    files: list[tuple[str, bytes]] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    size: int = 0
    entries: int = 0

    def leave_out(self, path: str) -> None:
        if len(self.left_out) < MOST_NAMED:
            self.left_out.append(path)


def collect(scratch: int) -> Collected:
    """Everything under workspace/artifacts of the scratch folder that `scratch` is open on."""
    found = Collected()
    try:
        # Of the names on this way a program can replace the last one only.
        folder = os.open("workspace/artifacts", OPEN_FOLDER, dir_fd=scratch)
    except OSError:
        return found
    try:
        _collect_folder(folder, "", found, depth=0)
    finally:
        os.close(folder)
    return found


def _collect_folder(folder: int, prefix: str, found: Collected, *, depth: int) -> None:
    for name in _names(folder, found):
        path = prefix + name
        try:
            descriptor = os.open(name, OPEN_FILE, dir_fd=folder)
        except OSError:
            found.leave_out(path)
            continue
        try:
            _collect_entry(descriptor, path, found, depth=depth)
        finally:
            os.close(descriptor)


def _names(folder: int, found: Collected) -> Iterator[str]:
    for name in sorted(os.listdir(folder)):
        found.entries += 1
        if found.entries > MOST_ENTRIES:
            return
        yield name


def _collect_entry(descriptor: int, path: str, found: Collected, *, depth: int) -> None:
    facts = os.fstat(descriptor)
    if stat.S_ISDIR(facts.st_mode) and depth < DEEPEST:
        _collect_folder(descriptor, path + "/", found, depth=depth + 1)
        return
    # The size says nothing of a sparse file's cost, but it is what would have to be stored.
    fits = len(found.files) < MOST_FILES and found.size + facts.st_size <= MOST_BYTES
    if not stat.S_ISREG(facts.st_mode) or not fits:
        found.leave_out(path)
        return
    content = _read(descriptor, facts.st_size)
    found.files.append((path, content))
    found.size += len(content)


def _read(descriptor: int, size: int) -> bytes:
    parts = bytearray()
    while len(parts) < size and (part := os.read(descriptor, size - len(parts))):
        parts += part
    return bytes(parts)
