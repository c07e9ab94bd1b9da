"""The daemon's hold on the gateway: starts it when a sandbox first needs a way out, and counts what went through."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import struct
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

from sandboxes.daemon.egress import Policy

# As the gateway packs it: bytes sent, bytes received.
COUNTS = struct.Struct("!QQ")
PACKAGE_ROOT = Path(__file__).resolve().parents[2]
END_SECONDS = 2


class OutletLost(Exception):
    """The gateway died: what the program sent and received is not known."""


@dataclass(frozen=True)
class Relayed:
    sent: int = 0
    received: int = 0


class Outlet:
    """The way out of one run. The connection is the lease: when it is closed, so is everything the run opened."""

    def __init__(self, lease: socket.socket) -> None:
        self._lease = lease

    def end(self) -> Relayed:
        """Close every connection of the run, then say what went through them."""
        with self._lease:
            try:
                self._lease.settimeout(END_SECONDS)
                self._lease.send(b"end")
                counts = self._lease.recv(COUNTS.size)
            except OSError as problem:
                raise OutletLost(f"the gateway did not end a way out: {problem}") from problem
        if len(counts) != COUNTS.size:
            raise OutletLost("the gateway ended before its run")
        return Relayed(*COUNTS.unpack(counts))

    def close(self) -> None:
        self._lease.close()


class Outlets:
    """Opens ways out. `user` is whom the gateway becomes; 0: whom the daemon is."""

    def __init__(self, *, user: int) -> None:
        self._user = user
        self._lock = threading.Lock()
        self._child: subprocess.Popen | None = None
        self._control: socket.socket | None = None

    def open(self, listener: int, policy: Policy) -> Outlet:
        """What connects to the listener goes out from now on, as far as the policy lets it."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        message = json.dumps({"policy": policy.as_text()}).encode()
        with theirs:
            try:
                with self._lock:
                    socket.send_fds(self._gateway(), [message], [listener, theirs.fileno()])
            except OSError as problem:
                ours.close()
                raise OutletLost(f"the gateway took no way out: {problem}") from problem
        return Outlet(ours)

    def _gateway(self) -> socket.socket:
        if self._control is None or self._child is None or self._child.poll() is not None:
            self._stop()
            self._start()
        assert self._control
        return self._control

    def _start(self) -> None:
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._control.settimeout(END_SECONDS)
        command = [sys.executable, "-S", "-B", "-m", "sandboxes.daemon.gateway", str(theirs.fileno()), str(self._user)]
        env = {"PYTHONPATH": str(PACKAGE_ROOT), "PATH": os.environ.get("PATH", os.defpath)}
        with theirs:
            self._child = subprocess.Popen(
                command, pass_fds=(theirs.fileno(),), stdin=subprocess.DEVNULL, env=env, cwd="/"
            )

    def _stop(self) -> None:
        if self._control is not None:
            self._control.close()
            self._control = None
        if self._child is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._child.wait(END_SECONDS)
            self._child.kill()
            self._child.wait()
            self._child = None

    def close(self) -> None:
        with self._lock:
            self._stop()
