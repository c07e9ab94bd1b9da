"""The daemon's door: a Unix socket, one connection for each run, and the connection is the lease."""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import NamedTuple

from sandboxes.daemon import protocol
from sandboxes.daemon.builds import Abandoned, Builder
from sandboxes.daemon.egress import Policy
from sandboxes.daemon.engines import CannotStart, NotOffered, Slot, SlotLost
from sandboxes.daemon.ladder import Choice, Ladder
from sandboxes.daemon.orders import BadOrder, read_address, read_build, read_order, read_size
from sandboxes.daemon.outlets import Outlet, OutletLost, Outlets
from sandboxes.daemon.pools import Pool, Size
from sandboxes.daemon.protocol import BrokenFrame, Kind
from sandboxes.daemon.run import Order, Run

REQUEST_SECONDS = 30
BACKLOG = 512
WAITING = 4
UNUSED_SECONDS = 600
LOOK_SECONDS = 1.0


class PoolKey(NamedTuple):
    """Which programs a pool is for; `numeric`: its zygote has what numerics need."""

    language: str
    template: str
    network: bool = False
    numeric: bool = False

    @property
    def name(self) -> str:
        name = f"{self.language}:{self.template}" if self.template else self.language
        return name + "+network" * self.network + "+numeric" * self.numeric

    def size_beside(self, plain: Size) -> Size:
        """With a network none waits before anybody asks for it; after that it follows the same times."""
        return replace(plain, ready=0) if self.network else plain


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
        self,
        *,
        socket_path: Path,
        ladder: Ladder,
        outlets: Outlets | None = None,
        network: Policy | None = None,
        builder: Builder | None = None,
    ) -> None:
        self.socket_path = socket_path
        self.ladder = ladder
        self.outlets = outlets
        self.network = network
        self.builder = builder
        self.pools: dict[PoolKey, Pool] = {}
        self._retiring: list[Pool] = []
        self._live: dict[str, Live] = {}
        self._lock = threading.Lock()
        self._stop = os.eventfd(0, os.EFD_CLOEXEC)
        self._stopped = threading.Event()
        self._waiting = 0
        self._listener = _listen(socket_path)

    def serve(self) -> None:
        """Accept until `stop`; each connection is served by the thread that accepted it."""
        threading.Thread(target=self._watch, name="ladder", daemon=True).start()
        for _ in range(WAITING):
            self._wait_for_one_more()
        os.read(self._stop, 8)

    def _wait_for_one_more(self) -> None:
        with self._lock:
            self._waiting += 1
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        """Threads wait for connections before they come, since starting one takes as long as a short run."""
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                self._waiting -= 1
                last = not self._waiting
            if last:
                self._wait_for_one_more()
            self._serve_one(connection)
            with self._lock:
                if self._waiting >= WAITING:
                    return
                self._waiting += 1

    def stop(self) -> None:
        os.eventfd_write(self._stop, 1)

    def close(self) -> None:
        """End every run, then every pool; clients of runs still going learn that they are lost."""
        self._stopped.set()
        # Wakes those that wait in accept.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with contextlib.suppress(FileNotFoundError):
            self.socket_path.unlink()
        with self._lock:
            live = list(self._live.values())
            for each in live:
                os.eventfd_write(each.wake, 1)
        for each in live:
            each.finished.wait(5)
        for pool in (*self.pools.values(), *self._retiring):
            pool.close()
        if self.outlets:
            self.outlets.close()

    @property
    def choice(self) -> Choice:
        return self.ladder.choice

    def open_pools(self) -> list[Pool]:
        """The pools of every language of the engine in use; those of numerics are opened beside them."""
        engine = self.choice.engine
        opened = [self.pool(language, "") for language in engine.languages()] if engine else []
        for language in engine.languages() if engine else []:
            self.pool(language, "", numeric=True)
        return opened

    def pool(self, language: str, template: str, *, network: bool = False, numeric: bool = False) -> Pool:
        """Programs that do numerics have a pool of their own: forks of a process with pandas cost three others."""
        engine = self.choice.engine
        if engine is None:
            raise NotOffered("; ".join(self.choice.reasons()))
        key = PoolKey(language, template, network, numeric and engine.preloads_numeric(language, template))
        with self._lock:
            if key not in self.pools:
                self.pools[key] = engine.open_pool(*key[:2], network=key.network, numeric=key.numeric)
                if plain := self.pools.get(PoolKey(language, template)):
                    self.pools[key].resize(key.size_beside(plain.size))
            self.pools[key].used_at = time.monotonic()
            return self.pools[key]

    def _watch(self) -> None:
        """Tell the ladder what fails; when it has moved, runs go on where they are and new ones on the new engine."""
        while not self._stopped.wait(LOOK_SECONDS):
            if self.ladder.look(self._failing()):
                self._move()

    def _failing(self) -> str:
        failing = (f"{key.name}: {pool.failure}" for key, pool in self._opened() if pool.is_failing())
        return next(failing, "")

    def _move(self) -> None:
        with self._lock:
            left = list(self.pools.values())
            self.pools.clear()
            self._retiring = [pool for pool in self._retiring if not pool.is_closed()] + left
        for pool in left:
            threading.Thread(target=pool.retire, daemon=True).start()
        announce("engine", self.choice)
        self.open_pools()

    def _close_unused(self) -> None:
        """A zygote costs memory, and templates are many: one that nobody uses and none is kept ready of goes."""
        with self._lock:
            special = {key: pool for key, pool in self.pools.items() if key.template or key.network}
            unused = [key for key, pool in special.items() if pool.is_unused(for_seconds=UNUSED_SECONDS)]
            closing = [self.pools.pop(key) for key in unused]
        for pool in closing:
            threading.Thread(target=pool.close, daemon=True).start()

    def describe(self) -> dict[str, object]:
        self._close_unused()
        engine = self.choice.engine
        return {
            "engine": engine.name if engine else None,
            "since": self.choice.since.isoformat(),
            "why": self.choice.why,
            "promises": engine.promises() if engine else [],
            "limits": engine.limits() if engine else {},
            "languages": engine.languages() if engine else [],
            "probes": [probe.as_dict() for probe in self.choice.probes],
            "network": self.network.as_text() if self.network else "off",
            "builds": self.builder.offers() if self.builder else {},
            "templates": self.builder.shelf.addresses() if self.builder else [],
            "pools": {key.name: pool.counts() for key, pool in self._opened()},
            "pool_sizes": {key.name: asdict(pool.size) for key, pool in self._opened()},
        }

    def _opened(self) -> list[tuple[PoolKey, Pool]]:
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
            elif kind is Kind.BUILD:
                self._serve_build(connection, fields)
            elif kind is Kind.DISCARD:
                protocol.send(connection, *self._discarded(fields))

    def _resized(self, fields: dict) -> tuple[Kind, dict[str, object]]:
        if self.choice.engine is None:
            return Kind.UNAVAILABLE, {"reasons": self.choice.reasons()}
        try:
            language, template, size = read_size(fields)
            self.pool(language, template)
            for key, pool in self._opened():
                if key[:2] == (language, template):
                    pool.resize(key.size_beside(size))
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
        with self._lived(connection, order.id) as live:
            self._run(connection, order, live, began)

    def _serve_build(self, connection: socket.socket, fields: dict) -> None:
        if self.builder is None or self.choice.engine is None:
            protocol.send(connection, Kind.UNAVAILABLE, {"reasons": self.choice.reasons() or ["nothing builds here"]})
            return
        try:
            order = read_build(fields)
        except BadOrder as problem:
            protocol.send(connection, Kind.REFUSED, {"reason": str(problem)})
            return
        with self._lived(connection, order.id) as live:
            connection.setblocking(False)
            built = self.builder.build(
                order, run={"client": connection, "cancel": live.wake}, drive=_drive_build, abandoned=live.is_abandoned
            )
            connection.settimeout(REQUEST_SECONDS)
            protocol.send(connection, Kind.ENDED, built.as_fields())

    def _discarded(self, fields: dict) -> tuple[Kind, dict[str, object]]:
        try:
            address = read_address(fields)
        except BadOrder as problem:
            return Kind.REFUSED, {"reason": str(problem)}
        with self._lock:
            in_use = any(key.template == address for key in self.pools)
        return Kind.ANSWER, {"discarded": not in_use and self.builder is not None and self.builder.discard(address)}

    @contextlib.contextmanager
    def _lived(self, connection: socket.socket, request_id: str) -> Iterator[Live]:
        """Can be cancelled while inside; what goes wrong there is told to the client."""
        live = Live(connection)
        try:
            with self._lock:
                self._live[request_id] = live
            yield live
        except Abandoned:
            if live.cancelled:
                connection.settimeout(REQUEST_SECONDS)
                protocol.send(connection, Kind.LOST, {"reason": "it was cancelled"})
        except (CannotStart, SlotLost, OutletLost) as problem:
            connection.settimeout(REQUEST_SECONDS)
            protocol.send(connection, Kind.LOST, {"reason": str(problem)})
        except NotOffered as problem:
            connection.settimeout(REQUEST_SECONDS)
            protocol.send(connection, Kind.UNAVAILABLE, {"reasons": [str(problem)]})
        finally:
            self._forget(request_id, live)

    def _forget(self, request_id: str, live: Live) -> None:
        with self._lock:
            if self._live.get(request_id) is live:
                del self._live[request_id]
            os.close(live.wake)
        live.finished.set()

    def _run(self, connection: socket.socket, order: Order, live: Live, began: float) -> None:
        pool = self.pool(order.language, order.template, network=order.network, numeric=order.is_numeric)
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
            self._begin(run, pool, began, warm=warm)
            self._drive(run, live)
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

    def _begin(self, run: Run, pool: Pool, began: float, *, warm: bool) -> None:
        run.slot.arm(run.order.limits)
        run.client.setblocking(False)
        run.startup_ms = (time.monotonic() - began) * 1000
        run.begin()
        started = {"sandbox": run.slot.id, "warm": warm, "startup_ms": run.startup_ms}
        run.queue(protocol.pack(Kind.STARTED, started))
        pool.refill()

    def _drive(self, run: Run, live: Live) -> None:
        run.drive()
        if run.gone:
            return
        if run.stopped == "cancelled" and not live.cancelled:
            run.client.settimeout(REQUEST_SECONDS)
            raise SlotLost("the daemon is stopping")
        fields, blobs = run.outcome()
        run.queue(protocol.pack(Kind.ENDED, {**fields, "startup_ms": run.startup_ms}, blobs))


def _drive_build(run: Run) -> None:
    run.begin()
    run.drive()
    run.finish_sending()


def announce(event: str, choice: Choice) -> None:
    """A line for whoever started the daemon."""
    engine = choice.engine.name if choice.engine else None
    print(json.dumps({"event": event, "engine": engine, "why": choice.why, "reasons": choice.reasons()}), flush=True)


def _never_ran() -> dict[str, object]:
    """A run cancelled while it waited for room: it used nothing."""
    counted = ("duration_ms", "startup_ms", "cpu_ms", "peak_memory_bytes", "disk_bytes")
    nothing = dict.fromkeys((*counted, "network_sent_bytes", "network_received_bytes"), 0)
    flags = {"cancelled": True, "stdout_truncated": False, "stderr_truncated": False}
    lists = {"artifacts": [], "artifacts_truncated": []}
    return {"exit_code": None, "signal": None, "breach": None, **flags, **lists, **nothing}


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
