"""Servers that stand for the world outside: on this machine's loopback, and each says what reached it."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class _Web(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer(f"hello {self.path}".encode())

    def do_POST(self) -> None:
        content = self.rfile.read(int(self.headers["Content-Length"]))
        self._answer(b"got %d" % len(content))

    def _answer(self, body: bytes) -> None:
        self.server.seen.append((self.command, self.path, dict(self.headers)))  # type: ignore[attr-defined]
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Tests read `seen`."""


@contextlib.contextmanager
def web() -> Iterator[ThreadingHTTPServer]:
    """An HTTP server; `seen` holds what it was asked."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Web)
    server.seen = []  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@dataclass
class Listener:
    """A TCP server that treats each connection in a thread as it is told to."""

    treat: Callable[[socket.socket], None]
    connections: list[socket.socket] = field(default_factory=list)
    ended: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))

    def __post_init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections.append(connection)
            threading.Thread(target=self._one, args=(connection,), daemon=True).start()

    def _one(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            self.treat(connection)
        self.ended.release()

    def close(self) -> None:
        # Closing alone would not wake the thread that waits in accept.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()


@contextlib.contextmanager
def listening(treat: Callable[[socket.socket], None]) -> Iterator[Listener]:
    listener = Listener(treat)
    try:
        yield listener
    finally:
        listener.close()


def echo(connection: socket.socket) -> None:
    while part := connection.recv(1 << 16):
        connection.sendall(part)


def swallow(connection: socket.socket) -> None:
    while connection.recv(1 << 16):
        pass


def pour(connection: socket.socket) -> None:
    while True:
        connection.sendall(b"x" * (1 << 16))
