"""The daemon's door: a Unix socket, one connection for each run, and the connection is the lease."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import threading
import time
from dataclasses import asdict, replace
from pathlib import Path

from sandboxes.daemon import protocol
from sandboxes.daemon.bubblewrap import CannotStart
from sandboxes.daemon.egress import Policy
from sandboxes.daemon.engines import Choice, NotOffered
from sandboxes.daemon.orders import BadOrder, read_order, read_size
from sandboxes.daemon.outlets import Outlet, OutletLost, Outlets
from sandboxes.daemon.pools import Pool
from sandboxes.daemon.protocol import BrokenFrame, Kind
from sandboxes.daemon.run import Order, Run
from sandboxes.daemon.slots import Slot, SlotLost

REQUEST_SECONDS = 30
BACKLOG = 512
UNUSED_SECONDS = 600
# Language, template, and whether it has a network.
Key = tuple[str, str, bool]


class Live:
    """A run that can be cancelled, from before it has a slot to its end."""

    def __init__(self, connection: socket.socket) -> None:
        self.wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.cancelled = False
        self.finished = threading.Event()
        self._connection = connection

    def cancel(self) -> None:
        self.cancelled = True
        os.eventfd_write(self.wake, 1)

    def is_abandoned(self) -> bool:
        return self.cancelled or self.is_gone()

    def is_gone(self) -> bool:
        poll = select.poll()
        poll.register(self._connection, select.POLLIN)
        return bool(poll.poll(0))


class Server:
    def __init__(
        self, *, socket_path: Path, choice: Choice, outlets: Outlets | None = None, network: Policy | None = None
    ) -> None:
        self.socket_path = socket_path
        self.choice = choice
        self.outlets = outlets
        self.network = network
        self.pools: dict[Key, Pool] = {}
        self._live: dict[str, Live] = {}
        self._lock = threading.Lock()
        self._stop = os.eventfd(0, os.EFD_CLOEXEC)
        self._stopping = False
        self._listener = _listen(socket_path)

    def serve(self) -> None:
        """Accept until `stop`; each connection is its own thread."""
        poll = select.poll()
        poll.register(self._listener, select.POLLIN)
        poll.register(self._stop, select.POLLIN)
        while not self._stopping:
            for descriptor, _ in poll.poll():
                if descriptor == self._listener.fileno():
                    connection, _ = self._listener.accept()
                    threading.Thread(target=self._serve_one, args=(connection,), daemon=True).start()

    def stop(self) -> None:
        self._stopping = True
        os.eventfd_write(self._stop, 1)

    def close(self) -> None:
        """End every run, then every pool; clients of runs still going learn that they are lost."""
        self._listener.close()
        with contextlib.suppress(FileNotFoundError):
            self.socket_path.unlink()
        with self._lock:
            live = list(self._live.values())
            for each in live:
                os.eventfd_write(each.wake, 1)
        for each in live:
            each.finished.wait(5)
        for pool in self.pools.values():
            pool.close()
        if self.outlets:
            self.outlets.close()

    def pool(self, language: str, template: str, *, network: bool = False) -> Pool:
        assert self.choice.engine
        with self._lock:
            key = (language, template, network)
            if key not in self.pools:
                self.pools[key] = self.choice.engine.open_pool(language, template, network=network)
                if network and (plain := self.pools.get((language, template, False))):
                    self.pools[key].resize(replace(plain.size, ready=0))
            self.pools[key].used_at = time.monotonic()
            return self.pools[key]

    def _close_unused(self) -> None:
        """A zygote costs memory, and templates are many: one that nobody uses and none is kept ready of goes."""
        with self._lock:
            special = {key: pool for key, pool in self.pools.items() if key[1] or key[2]}
            unused = [key for key, pool in special.items() if pool.is_unused(for_seconds=UNUSED_SECONDS)]
            closing = [self.pools.pop(key) for key in unused]
        for pool in closing:
            threading.Thread(target=pool.close, daemon=True).start()

    def describe(self) -> dict[str, object]:
        self._close_unused()
        engine = self.choice.engine
        return {
            "engine": engine.name if engine else None,
            "promises": engine.promises() if engine else [],
            "limits": engine.limits() if engine else {},
            "languages": engine.languages() if engine else [],
            "probes": [probe.as_dict() for probe in self.choice.probes],
            "network": self.network.as_text() if self.network else "off",
            "pools": {_pool_name(*key): pool.counts() for key, pool in self._opened()},
            "pool_sizes": {_pool_name(*key): asdict(pool.size) for key, pool in self._opened()},
        }

    def _opened(self) -> list[tuple[Key, Pool]]:
        with self._lock:
            return list(self.pools.items())

    def _serve_one(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError, BrokenFrame):
            connection.settimeout(REQUEST_SECONDS)
            kind, fields, blobs = protocol.receive(connection)
            if kind is Kind.DESCRIBE:
                protocol.send(connection, Kind.ANSWER, self.describe())
            elif kind is Kind.CANCEL:
                protocol.send(connection, Kind.ANSWER, {"cancelled": self._cancel(str(fields.get("id")))})
            elif kind is Kind.RESIZE:
                protocol.send(connection, *self._resized(fields))
            elif kind is Kind.RUN:
                self._serve_run(connection, fields, blobs)

    def _resized(self, fields: dict) -> tuple[Kind, dict[str, object]]:
        if self.choice.engine is None:
            return Kind.UNAVAILABLE, {"reasons": self.choice.reasons()}
        try:
            language, template, size = read_size(fields)
            self.pool(language, template).resize(size)
            with self._lock:
                beside = self.pools.get((language, template, True))
            if beside:
                # With a network none waits before anybody asks for it; after that it follows the same times.
                beside.resize(replace(size, ready=0))
        except BadOrder as problem:
            return Kind.REFUSED, {"reason": str(problem)}
        except NotOffered as problem:
            return Kind.UNAVAILABLE, {"reasons": [str(problem)]}
        return Kind.ANSWER, {"size": asdict(size)}

    def _cancel(self, request_id: str) -> bool:
        with self._lock:
            live = self._live.get(request_id)
            if live is None:
                return False
            live.cancel()
        return True

    def _serve_run(self, connection: socket.socket, fields: dict, blobs: list[bytes]) -> None:
        began = time.monotonic()
        if self.choice.engine is None:
            protocol.send(connection, Kind.UNAVAILABLE, {"reasons": self.choice.reasons()})
            return
        try:
            order = read_order(fields, blobs)
            if order.network and self.network is None:
                raise BadOrder("network: this node's sandboxes have no network")
        except BadOrder as problem:
            protocol.send(connection, Kind.REFUSED, {"reason": str(problem)})
            return
        live = Live(connection)
        try:
            with self._lock:
                self._live[order.id] = live
            self._run(connection, order, live, began)
        except (CannotStart, SlotLost, OutletLost) as problem:
            protocol.send(connection, Kind.LOST, {"reason": str(problem)})
        except NotOffered as problem:
            protocol.send(connection, Kind.UNAVAILABLE, {"reasons": [str(problem)]})
        finally:
            self._forget(order, live)

    def _forget(self, order: Order, live: Live) -> None:
        with self._lock:
            if self._live.get(order.id) is live:
                del self._live[order.id]
            os.close(live.wake)
        live.finished.set()

    def _run(self, connection: socket.socket, order: Order, live: Live, began: float) -> None:
        pool = self.pool(order.language, order.template, network=order.network)
        taken = pool.checkout(abandoned=live.is_abandoned)
        if taken is None:
            if live.cancelled:
                protocol.send(connection, Kind.ENDED, _never_ran())
            return
        slot, warm = taken
        outlet = None
        try:
            outlet = self._outlet(slot)
            run = Run(slot=slot, order=order, client=connection, cancel=live.wake, outlet=outlet)
            self._drive(run, live, began, warm=warm)
        finally:
            if outlet:
                outlet.close()
            pool.release(slot)
        # The client may be slow, but no slot waits for it.
        run.finish_sending()

    def _outlet(self, slot: Slot) -> Outlet | None:
        if slot.listener < 0 or self.outlets is None or self.network is None:
            return None
        return self.outlets.open(slot.listener, self.network)

    def _drive(self, run: Run, live: Live, began: float, *, warm: bool) -> None:
        run.slot.arm(run.order.limits)
        run.client.setblocking(False)
        startup_ms = (time.monotonic() - began) * 1000
        run.queue(protocol.pack(Kind.STARTED, {"sandbox": run.slot.id, "warm": warm, "startup_ms": startup_ms}))
        run.drive()
        if run.gone:
            return
        if run.stopped == "cancelled" and not live.cancelled:
            run.client.settimeout(REQUEST_SECONDS)
            raise SlotLost("the daemon is stopping")
        fields, blobs = run.outcome()
        run.queue(protocol.pack(Kind.ENDED, {**fields, "startup_ms": startup_ms}, blobs))


def _never_ran() -> dict[str, object]:
    """A run cancelled while it waited for room: it used nothing."""
    counted = ("duration_ms", "startup_ms", "cpu_ms", "peak_memory_bytes", "disk_bytes")
    nothing = dict.fromkeys((*counted, "network_sent_bytes", "network_received_bytes"), 0)
    flags = {"cancelled": True, "stdout_truncated": False, "stderr_truncated": False}
    lists = {"artifacts": [], "artifacts_truncated": []}
    return {"exit_code": None, "signal": None, "breach": None, **flags, **lists, **nothing}


def _pool_name(language: str, template: str, network: bool) -> str:
    name = f"{language}:{template}" if template else language
    return f"{name}+network" if network else name


def _listen(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
    before = os.umask(0o177)
    try:
        listener.bind(str(path))
    finally:
        os.umask(before)
    listener.listen(BACKLOG)
    return listener
