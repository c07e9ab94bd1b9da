"""A stand-in for the E2B cloud: a real HTTP server on 127.0.0.1 that speaks its protocol and really runs commands.

    __init__.py  the server, its clock, and how a test makes it misbehave
    control.py   the control plane: X-API-Key, /sandboxes, /v2/sandboxes, /templates
    envd.py      inside a sandbox: /health, /files, and process.Process by the Connect protocol
    machine.py   a sandbox: a file tree and processes in bubblewrap, root of its own and no more

It is strict: what the real one refuses is refused in the same words, and what a client need not send it refuses too.
The machines are as safe as their bubblewrap: they run the code of our tests, nothing else.
"""

from __future__ import annotations

import io
import json
import random
import string
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from tests.fake_e2b import control, envd
from tests.fake_e2b.machine import Dropped, Machine

KEY = "e2b_" + "0f" * 20
SWEEP_SECONDS = 0.05
HELD_SECONDS = 30


@dataclass(frozen=True)
class Template:
    id: str
    cpus: int
    memory_mb: int
    has_python: bool = True
    # What looks like a cgroup v2, as far as files do: the limits can be read there, what was used is what stands there.
    cgroup: tuple[tuple[str, str], ...] = ()


@dataclass
class Trouble:
    """What the next requests that match get instead of an answer."""

    path: str
    status: int = 0
    message: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    # Until a test says so.
    held: threading.Event | None = None
    drop: bool = False
    # It is done, and nobody is told.
    lose_answer: bool = False
    times: int = 1


class FakeE2B:
    def __init__(self) -> None:
        self.key = KEY
        self.templates = {"base": Template("rki5dems9wqfm4r03t7g", 2, 512)}
        self.templates["code-interpreter-v1"] = Template("nlhz8vlwyupq845jsdg9", 2, 2048)
        self.most = 20
        self.longest_hours = 1
        self.machines: dict[str, Machine] = {}
        self.made: list[dict[str, Any]] = []
        self.asked: deque[tuple[str, str]] = deque(maxlen=1000)
        self.drop_streams_after: int | None = None
        self.replies: dict[str, dict[str, Any]] = {}
        # A process dies with the thread that started it, so one that outlives every request starts them all.
        self.spawner = ThreadPoolExecutor(1)
        self.lock = threading.RLock()
        self._troubles: list[Trouble] = []
        self._ahead = 0.0
        self._stopped = threading.Event()
        self._folder = tempfile.TemporaryDirectory(prefix="fake-e2b-")
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.fake = self
        self._threads = [
            threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}),
            threading.Thread(target=self._sweep_until_stopped),
        ]
        for thread in self._threads:
            thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def stop(self) -> None:
        self._stopped.set()
        self.forget()
        self._server.shutdown()
        self._server.server_close()
        for thread in self._threads:
            thread.join()
        self.spawner.shutdown()
        self._folder.cleanup()

    def forget(self) -> None:
        """No sandboxes, no troubles: as new for the next test."""
        with self.lock:
            for machine in [*self.machines.values()]:
                self.end(machine.id)
            self._troubles.clear()
            self.replies.clear()
            self.made.clear()
            self.asked.clear()
            self.most, self.drop_streams_after = 20, None
            self.templates.pop("bare", None)

    def trouble(self, path: str, **what: Any) -> None:
        """The next request whose path begins with `path` is answered with `status`, or not at all."""
        with self.lock:
            self._troubles.append(Trouble(path, **what))

    @contextmanager
    def hold(self, path: str) -> Iterator[None]:
        """The next request whose path begins with `path` is not answered before the end of this."""
        held = threading.Event()
        self.trouble(path, held=held)
        try:
            yield
        finally:
            held.set()

    def take_trouble(self, path: str) -> Trouble | None:
        with self.lock:
            found = next((each for each in reversed(self._troubles) if path.startswith(each.path)), None)
            if found is not None:
                found.times -= 1
                if not found.times:
                    self._troubles.remove(found)
            return found

    def now(self) -> float:
        return time.time() + self._ahead

    def advance(self, seconds: float) -> None:
        """Let time pass for the sandboxes: those whose time is over are gone when this returns."""
        self._ahead += seconds
        self._sweep()

    def _sweep_until_stopped(self) -> None:
        while not self._stopped.wait(SWEEP_SECONDS):
            self._sweep()

    def _sweep(self) -> None:
        with self.lock:
            over = [machine.id for machine in self.machines.values() if machine.ends_at <= self.now()]
            for each in over:
                self.end(each)

    def make(self, wish: dict[str, Any]) -> Machine:
        name = "i" + "".join(random.choices(string.ascii_lowercase + string.digits, k=20))
        folder = Path(self._folder.name) / name
        folder.mkdir()
        machine = Machine(id=name, root=folder, spawner=self.spawner, started_at=self.now(), **wish)
        with self.lock:
            self.machines[name] = machine
        return machine

    def end(self, name: str) -> bool:
        """Kill a sandbox, as its owner or its time-out does."""
        with self.lock:
            machine = self.machines.pop(name, None)
        if machine is None:
            return False
        machine.end()
        return True


@contextmanager
def running() -> Iterator[FakeE2B]:
    fake = FakeE2B()
    try:
        yield fake
    finally:
        fake.stop()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    fake: FakeE2B


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, *_: Any) -> None:
        """Tests print what they want to."""

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except (ConnectionError, Dropped):
            self.close_connection = True

    def _serve(self) -> None:
        split = urlsplit(self.path)
        self.route, self.query = split.path, dict(parse_qsl(split.query, keep_blank_values=True))
        self.fake = self.server.fake
        self.fake.asked.append((self.command, self.route))
        self.body = self._read_body()
        trouble = self.fake.take_trouble(self.route)
        if trouble is not None and self._is_answered(trouble):
            return
        if trouble is not None and trouble.lose_answer:
            self.wfile = io.BytesIO()
        (envd if "E2b-Sandbox-Id" in self.headers else control).serve(self)
        if trouble is not None and trouble.lose_answer:
            raise Dropped

    do_GET = do_POST = do_DELETE = do_PUT = do_PATCH = _serve

    def _is_answered(self, trouble: Trouble) -> bool:
        if trouble.held:
            trouble.held.wait(HELD_SECONDS)
        if trouble.drop:
            raise Dropped
        if trouble.status:
            body = {"code": trouble.status, "message": trouble.message or "the fake was told to"}
            self.answer(trouble.status, body, trouble.headers)
        return bool(trouble.status)

    def _read_body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = bytearray()
        while size := int(self.rfile.readline().split(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return bytes(body)

    def answer(self, status: int, body: Any = None, headers: dict[str, str] | None = None) -> None:
        content = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        kind = "application/octet-stream" if isinstance(body, bytes) else "application/json"
        for name, value in {"Content-Type": kind, **(headers or {})}.items():
            self.send_header(name, value)
        if status != 204:
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def refuse(self, status: int, message: str, **more: Any) -> None:
        self.answer(status, {"code": status, "message": message, **more})

    def begin_stream(self, kind: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def send_chunk(self, content: bytes) -> None:
        self.wfile.write(f"{len(content):x}\r\n".encode() + content + b"\r\n")

    def end_stream(self) -> None:
        self.wfile.write(b"0\r\n\r\n")


@cache
def why_not() -> str:
    """Why this computer cannot hold the machines; empty when it can."""
    with tempfile.TemporaryDirectory(prefix="fake-e2b-") as folder, ThreadPoolExecutor(1) as spawner:
        machine = Machine(id="probe", root=Path(folder) / "root", spawner=spawner)
        process = machine.start("/bin/bash", ["-l", "-c", "python3 -c 1"], {}, "/", stdin=False)
        code = process.wait(10)
        machine.end()
        return "" if code == 0 else f"bubblewrap cannot hold a fake E2B machine here: {process.said()}"
