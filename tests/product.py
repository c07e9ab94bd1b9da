"""The whole product, started on a free port for a benchmark, a chaos test or a browser journey."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from ntd_site import embedded

ROOT = Path(__file__).resolve().parents[1]
START_SECONDS = 180


class Product:
    """A running `manage.py up` in a home of its own."""

    def __init__(self, home: Path, port: int) -> None:
        self.home = home
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self.log = home / "events.jsonl"
        self.process: subprocess.Popen[bytes] | None = None
        self.environment = {
            name: value for name, value in os.environ.items() if name not in ("DATABASE_URL", "REDIS_URL")
        } | {"NTD_HOME": str(home), "NTD_BASE_URL": self.url}

    def start(self, *arguments: str) -> dict[str, Any]:
        """Start and wait until ready; returns the `ready` event."""
        self.log.unlink(missing_ok=True)
        command = [
            sys.executable,
            "manage.py",
            "up",
            "--port",
            str(self.port),
            "--json-log",
            str(self.log),
            *arguments,
        ]
        with open(self.home / "up.out", "ab") as output:
            # An aborted test run takes the product with it.
            self.process = subprocess.Popen(
                command, cwd=ROOT, env=self.environment, stdout=output, stderr=output,
                preexec_fn=embedded.child_setup(unprivileged=False),
            )  # fmt: skip
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            for event in self.events():
                if event["event"] == "ready":
                    return event
            if self.process.poll() is not None:
                break
            time.sleep(0.05)
        self.process.terminate()
        self.process.wait(timeout=60)
        raise RuntimeError(f"The product did not start:\n{(self.home / 'up.out').read_text()[-3000:]}")

    def events(self) -> list[dict[str, Any]]:
        if not self.log.exists():
            return []
        return [json.loads(line) for line in self.log.read_text().splitlines() if line.endswith("}")]

    def manage(self, *arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=ROOT, env=self.environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(f"{arguments}: {done.stdout}{done.stderr}")
        return done.stdout

    def account(self, name: str = "Bench", *arguments: str) -> dict[str, Any]:
        """A new account: {"account", "api_key", ...}."""
        given = (
            "create_account",
            name,
            "--email",
            f"{name.lower().replace(' ', '.')}@example.com",
            "--json",
            *arguments,
        )
        account: dict[str, Any] = json.loads(self.manage(*given).strip().splitlines()[-1])
        return account

    def call(
        self, method: str, path: str, key: str, body: Any = None, *, timeout: float = 70, once: str = ""
    ) -> tuple[int, Any]:
        """One API call: status and parsed answer. `once` is an idempotency key."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        headers |= {"Idempotency-Key": once} if once else {}
        connection.request(method, f"/api/v1/{path}", json.dumps(body) if body is not None else None, headers)
        answer = connection.getresponse()
        text = answer.read().decode()
        connection.close()
        return answer.status, json.loads(text) if text[:1] in "{[" and text else text

    def part(self, name: str) -> int:
        """The process id of a part."""
        status = json.loads((self.home / "status.json").read_text())
        pid: int = next(part["pid"] for part in status["parts"] if part["name"] == name)
        return pid

    def cpu_seconds(self) -> dict[str, float]:
        """What each part and its children used of the processors so far."""
        status = json.loads((self.home / "status.json").read_text())
        return {part["name"]: _cpu_seconds(part["pid"]) for part in status["parts"]}

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        assert self.process is not None
        self.process.send_signal(how)
        return self.process.wait(timeout=60)


def _cpu_seconds(pid: int) -> float:
    process = psutil.Process(pid)
    spent = 0.0
    for one in (process, *process.children(recursive=True)):
        with contextlib.suppress(psutil.NoSuchProcess):
            # With those of its own children that have ended.
            spent += sum(one.cpu_times()[:4])
    return spent


def share_libraries(home: Path) -> None:
    """The sandboxes' packages are installed once a machine and lock, not once a test run."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    shelf = cache / "ntd-tests" / "libraries"
    shelf.mkdir(parents=True, exist_ok=True)
    (home / "libraries").symlink_to(shelf)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def running(*arguments: str) -> Iterator[Product]:
    with tempfile.TemporaryDirectory(prefix="ntd-") as folder:
        product = Product(Path(folder), free_port())
        share_libraries(product.home)
        product.start(*arguments)
        try:
            yield product
        finally:
            product.stop()


def wait_until(holds: Callable[[], bool], seconds: float, otherwise: str) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, otherwise
        time.sleep(0.1)
