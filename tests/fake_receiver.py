"""A customer's server on 127.0.0.1 that takes webhooks, or not: what it does is the path it is called at.

/ok /slow (answers when told to) /fail /gone /busy /redirect /flood (never stops) /drip (a byte now and then) /hang-up
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

STATUSES = {"/fail": 500, "/gone": 410, "/busy": 429}


@dataclass
class Got:
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Receiver:
    url: str = ""
    got: list[Got] = field(default_factory=list)
    # What `/slow` and `/drip` wait for.
    released: threading.Event = field(default_factory=threading.Event)

    def at(self, path: str) -> list[Got]:
        return [each for each in self.got if each.path == path]


class _Handler(BaseHTTPRequestHandler):
    receiver: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.receiver.got.append(Got(self.path, {name.lower(): value for name, value in self.headers.items()}, body))
        act = getattr(self, "_" + self.path.strip("/").replace("-", "_"), None)
        try:
            if act:
                act()
            else:
                self._answer(STATUSES.get(self.path, 200), b"Thank you.")
        except OSError:
            pass  # The sender has had enough.

    def _answer(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _slow(self) -> None:
        self.receiver.released.wait(10)
        self._answer(200, b"At last.")

    def _busy(self) -> None:
        self._answer(429, b"Later.", Retry_After="7200")

    def _redirect(self) -> None:
        self._answer(307, b"", Location=f"{self.receiver.url}/ok")

    def _flood(self) -> None:
        self.send_response(200)
        self.end_headers()
        while not self.receiver.released.is_set():
            self.wfile.write(b"x" * 65536)

    def _drip(self) -> None:
        self.send_response(200)
        self.end_headers()
        while not self.receiver.released.wait(0.02):
            self.wfile.write(b".")

    def _hang_up(self) -> None:
        self.close_connection = True

    def log_message(self, *args: Any) -> None:
        pass


@contextmanager
def receiving() -> Iterator[Receiver]:
    receiver = Receiver()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"receiver": receiver}))
    server.daemon_threads = True
    receiver.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        receiver.released.set()
        server.shutdown()
        server.server_close()
        thread.join()
