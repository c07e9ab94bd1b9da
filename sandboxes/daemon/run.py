"""One run on one slot: feed the program, pass on what it writes, watch the clock, end it, say what happened."""

from __future__ import annotations

import os
import select
import socket
import struct
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from sandboxes.daemon import artifacts, breaches, cgroups, protocol
from sandboxes.daemon.engines import Slot, SlotLost
from sandboxes.daemon.outlets import Outlet, OutletLost, Relayed
from sandboxes.limits import Limits

# As the slot's init packs it.
REPORT = struct.Struct("!iddQB")
CHUNK_BYTES = 64 << 10
COALESCE_SECONDS = 0.025
REPORT_SECONDS = 0.1
# What the empty scratch holds already.
FREE_ENOUGH_BYTES = 4096
NUMERIC = ("numpy", "pandas")


@dataclass(frozen=True)
class Order:
    """A checked request."""

    id: str
    language: str
    template: str
    code: bytes
    stdin: bytes
    args: tuple[str, ...]
    env: Mapping[str, str]
    files: Mapping[str, bytes]
    timeout_seconds: float
    limits: Limits
    network: bool = False

    @property
    def is_numeric(self) -> bool:
        """Whether it seems to want what takes long to import, and longer to fork. It may import it anyhow."""
        texts = (self.code, *self.files.values())
        return any(name.encode() in text for name in NUMERIC for text in texts)


@dataclass
class Stream:
    """What one stream has written: counted against its cap, sent on in chunks."""

    name: str
    descriptor: int
    cap: int
    offset: int = 0
    pending: bytearray = field(default_factory=bytearray)
    since: float = 0.0
    truncated: bool = False
    tail: bytes = b""
    open: bool = True

    def read(self, now: float) -> None:
        try:
            part = os.read(self.descriptor, CHUNK_BYTES)
        except BlockingIOError:
            return
        if not part:
            self.open = False
            return
        room = self.cap - self.offset - len(self.pending)
        self.truncated = self.truncated or len(part) > room
        if not self.pending:
            self.since = now
        self.pending += part[:room]

    def is_due(self, now: float) -> bool:
        return bool(self.pending) and (len(self.pending) >= CHUNK_BYTES or now - self.since >= COALESCE_SECONDS)

    def take(self) -> tuple[int, bytes]:
        chunk = bytes(self.pending[:CHUNK_BYTES])
        del self.pending[:CHUNK_BYTES]
        offset, self.offset = self.offset, self.offset + len(chunk)
        self.tail = (self.tail + chunk)[-breaches.TAIL_BYTES :]
        return offset, chunk


class Run:
    """Everything waits in one poll: nothing the program or the client does can stop the clock."""

    def __init__(
        self, *, slot: Slot, order: Order, client: socket.socket, cancel: int, outlet: Outlet | None = None
    ) -> None:
        self.slot, self.order, self.client, self.cancel, self.outlet = slot, order, client, cancel, outlet
        self.stopped = ""
        self.gone = False
        self.report: tuple | None = None
        self.startup_ms = 0.0
        cap = order.limits.output_kb << 10
        self.streams = {
            slot.stdout: Stream("stdout", slot.stdout, cap),
            slot.stderr: Stream("stderr", slot.stderr, cap),
        }
        self._outbox = bytearray()
        self._poll = select.poll()
        self._begun = self._ended = 0.0
        self._relayed = Relayed()
        self._to_program = memoryview(_request_bytes(order))
        self._to_stdin = memoryview(order.stdin)

    def begin(self) -> None:
        """The program goes on from here while the client is told."""
        self._begun = time.monotonic()
        self._feed_program()
        self._feed_stdin()

    def drive(self) -> None:
        self._register()
        deadline = self._begun + self.order.timeout_seconds
        while not self.stopped and not self.gone and self.report is None:
            now = time.monotonic()
            if now >= deadline:
                self.stopped = "timeout"
                break
            for descriptor, events in self._poll.poll(self._wait_ms(now, deadline)):
                self._serve(descriptor, events)
            self._send_due()
        self._ended = time.monotonic()
        self._finish()

    def _register(self) -> None:
        slot = self.slot
        for descriptor in (
            slot.stdout,
            slot.stderr,
            slot.init.fileno(),
            slot.pidfd,
            self.client.fileno(),
            self.cancel,
        ):
            self._poll.register(descriptor, select.POLLIN)
        if slot.alarm >= 0:
            self._poll.register(slot.alarm, select.POLLIN)
        if self._to_program:
            self._poll.register(slot.program.fileno(), select.POLLOUT)
        if slot.stdin >= 0:
            self._poll.register(slot.stdin, select.POLLOUT)

    def _wait_ms(self, now: float, deadline: float) -> int:
        until = deadline
        for stream in self.streams.values():
            if stream.pending:
                until = min(until, stream.since + COALESCE_SECONDS)
        return max(0, int((until - now) * 1000) + 1)

    def _serve(self, descriptor: int, events: int) -> None:
        if descriptor in self.streams:
            self._read_stream(self.streams[descriptor])
        elif descriptor == self.slot.init.fileno():
            self._read_report()
        elif descriptor == self.slot.program.fileno():
            self._feed_program()
        elif descriptor == self.slot.stdin:
            self._feed_stdin(broken=bool(events & select.POLLERR))
        elif descriptor == self.cancel:
            self.stopped = "cancelled"
        elif descriptor == self.slot.pidfd:
            # It may have reported just before, after its socket was looked at.
            self._read_report()
        elif descriptor == self.slot.alarm:
            self.stopped = "memory"
        else:
            self._serve_client(events)

    def _read_stream(self, stream: Stream) -> None:
        stream.read(time.monotonic())
        if not stream.open:
            self._poll.unregister(stream.descriptor)
        if stream.truncated:
            self.stopped = "output"

    def _read_report(self) -> None:
        # Where it left a word of ours unread, the kernel answers once with an error before it gives what was said.
        message = self._from_init() or self._from_init()
        if len(message) == REPORT.size:
            self.report = REPORT.unpack(message)
        else:
            self._died()

    def _from_init(self) -> bytes:
        try:
            return self.slot.init.recv(64)
        except OSError:
            return b""

    def _died(self) -> None:
        """Pid 1 is gone; out of memory the kernel may have taken it, else the slot itself failed."""
        if self.report is None and not self.stopped:
            self.stopped = "died"

    def _feed_program(self) -> None:
        self._to_program = self._feed(self.slot.program.fileno(), self._to_program)
        if not self._to_program:
            self._forget(self.slot.program.fileno())

    def _feed_stdin(self, *, broken: bool = False) -> None:
        self._to_stdin = memoryview(b"") if broken else self._feed(self.slot.stdin, self._to_stdin)
        if not self._to_stdin:
            self._forget(self.slot.stdin)
            self.slot.close_stdin()

    def _feed(self, descriptor: int, left: memoryview) -> memoryview:
        try:
            return left[os.write(descriptor, left[: 1 << 20]) :] if left else left
        except BlockingIOError:
            return left
        except OSError:
            # The reader closed its end: what it did not want is dropped.
            return memoryview(b"")

    def _forget(self, descriptor: int) -> None:
        try:
            self._poll.unregister(descriptor)
        except KeyError:
            return

    def _serve_client(self, events: int) -> None:
        if events & select.POLLOUT:
            self._flush()
        if not events & ~select.POLLOUT:
            return
        try:
            # After its request a client says nothing more: whatever comes, the lease is over.
            self.client.recv(64)
        except BlockingIOError:
            return
        except OSError:
            pass
        self.gone = True

    def _send_due(self, *, everything: bool = False) -> None:
        now = time.monotonic()
        for stream in self.streams.values():
            while stream.is_due(now) or (everything and stream.pending):
                offset, chunk = stream.take()
                self.queue(protocol.pack(protocol.Kind.OUTPUT, {"stream": stream.name, "offset": offset}, [chunk]))

    def queue(self, frame: bytes) -> None:
        self._outbox += frame
        self._flush()

    def _flush(self) -> None:
        try:
            del self._outbox[: self.client.send(self._outbox)]
        except BlockingIOError:
            pass
        except OSError:
            self.gone = True
        watched = select.POLLIN | (select.POLLOUT if self._outbox else 0)
        self._poll.register(self.client.fileno(), watched)

    def _finish(self) -> None:
        """Whatever ended it: everything is dead before its last bytes are read."""
        if self.report is None and self.stopped != "died":
            self._ask_for_report()
        if self.report is None and not self.slot.kill():
            raise SlotLost("the slot did not die")
        for stream in self.streams.values():
            while stream.open and not stream.truncated:
                before = len(stream.pending)
                stream.read(self._ended)
                if len(stream.pending) == before:
                    break
        if any(stream.truncated for stream in self.streams.values()) and self.stopped in ("", "died"):
            self.stopped = "output"
        self._send_due(everything=True)
        self._relayed = self._end_outlet()

    def _end_outlet(self) -> Relayed:
        try:
            return self.outlet.end() if self.outlet else Relayed()
        except OutletLost as problem:
            raise SlotLost(str(problem)) from problem

    def _ask_for_report(self) -> None:
        """Its init can end the program as fast, and then knows what it used; if it is slow, it dies too."""
        try:
            self.slot.init.send(b"end")
            self.slot.init.settimeout(REPORT_SECONDS)
            self._read_report()
        except OSError:
            return

    def outcome(self) -> tuple[dict[str, object], list[bytes]]:
        counted = self.slot.counted()
        if self.stopped == "died" and not counted.memory_kills:
            raise SlotLost("the slot died without a report")
        disk = os.fstatvfs(self.slot.scratch)
        collected = artifacts.collect(self.slot.scratch)
        exit_code, number = self._status()
        fields = {
            "exit_code": exit_code,
            "signal": number,
            "breach": self._breach(counted, disk),
            "cancelled": self.stopped == "cancelled",
            "stdout_truncated": self.streams[self.slot.stdout].truncated,
            "stderr_truncated": self.streams[self.slot.stderr].truncated,
            "artifacts": [path for path, _ in collected.files],
            "artifacts_truncated": collected.left_out,
            "duration_ms": (self._ended - self._begun) * 1000,
            "disk_bytes": (disk.f_blocks - disk.f_bfree) * disk.f_frsize,
            **self._usage(counted),
        }
        return fields, [content for _, content in collected.files]

    def _status(self) -> tuple[int | None, int | None]:
        if self.report is None or self.stopped:
            return None, 9
        status = self.report[0]
        return (None, os.WTERMSIG(status)) if os.WIFSIGNALED(status) else (os.WEXITSTATUS(status), None)

    def _breach(self, counted: cgroups.Counted, disk: os.statvfs_result) -> str | None:
        exit_code, number = self._status()
        stopped = "" if self.stopped == "died" else self.stopped
        facts = breaches.Facts(
            stopped=stopped,
            failed=exit_code != 0,
            memory_kills=counted.memory_kills,
            soft_memory_exceeded=bool(self.report and self.report[4]),
            refused_forks=counted.refused_forks,
            disk_is_full=disk.f_bfree * disk.f_frsize < FREE_ENOUGH_BYTES or disk.f_ffree == 0,
            signal=number,
            stderr=self.streams[self.slot.stderr].tail,
        )
        return breaches.recognise(facts)

    def _usage(self, counted: cgroups.Counted) -> dict[str, float | int]:
        user, system, peak = self.report[1:4] if self.report else (0.0, 0.0, 0)
        cpu_ms = counted.cpu_ms if counted.cpu_ms is not None else (user + system) * 1000
        return {
            "cpu_ms": cpu_ms,
            "peak_memory_bytes": counted.peak_memory_bytes if counted.peak_memory_bytes is not None else peak,
            "network_sent_bytes": self._relayed.sent,
            "network_received_bytes": self._relayed.received,
        }

    def finish_sending(self, *, timeout_seconds: float = 30) -> None:
        if not self.gone:
            self.client.settimeout(timeout_seconds)
            self.client.sendall(self._outbox)


def _request_bytes(order: Order) -> bytes:
    fields = {"args": list(order.args), "env": dict(order.env), "files": list(order.files)}
    return protocol.pack_body(fields, [order.code, *order.files.values()])
