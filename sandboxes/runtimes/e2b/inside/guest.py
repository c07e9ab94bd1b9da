"""Runs one program inside an E2B sandbox and alone reports how it ended. Uploaded; standard library only.

    envd ==stdout, one JSON a line==> adapter        {"ready"} {"out"|"used"}... {"end"}, or {"failed"} or {"refused"}
         <==stdin==                                  "cancel"

    this (root) --unshare, fork--> pid 1 (root) --fork--> the program (nobody's user, no rights, /workspace)

The program has neither of these pipes and cannot touch pid 1, so what is reported is the kernel's word. When pid 1
leaves, the kernel ends whatever is left in its namespace.
"""

import base64
import contextlib
import fcntl
import json
import os
import selectors
import shutil
import signal
import socket
import sys
import time

import artifacts
import counting
import place
import wayout

CHUNK_BYTES = 64 << 10
COALESCE_SECONDS = 0.025
SAMPLE_SECONDS = 0.025
# How often it says what is used, as the daemon does: all that is known of a run that is cut off.
OFTEN_SECONDS, SELDOM_SECONDS, OFTEN_UNTIL_SECONDS = 0.25, 0.5, 60
FREE_ENOUGH_BYTES = 4096
# What a machine has is a little less than it is sold as.
NEARLY = 0.85
ORDER, REQUEST, STDIN = (f"{place.HOME}/{name}" for name in ("order.json", "request.bin", "stdin.bin"))
# The daemon's zygotes do the same in three steps, each in another process.
PYTHON = (
    "import os, sys; sys.path[:1] = [{home!r}]; import program; del sys.path[0];"
    " program.prepare(dict(os.environ)); program.get_ready(); program.run(3)"
)


class Refused(Exception):
    """This machine cannot keep the limits that were ordered."""


_unsaid = bytearray()


def say(**message: object) -> None:
    _unsaid.extend(json.dumps(message).encode() + b"\n")
    speak()


def speak(*, everything: bool = False) -> None:
    """Write what the other side takes now; only at the end is it waited for."""
    os.set_blocking(1, everything)
    with contextlib.suppress(BlockingIOError):
        while _unsaid:
            del _unsaid[: os.write(1, _unsaid[: 1 << 20])]


def main() -> None:
    # When the machine itself runs out of memory it takes the program, not who reports of it.
    place.weigh(-900)
    try:
        with open(ORDER) as file:
            order = json.load(file)
        check(order, counting.machine())
        group = counting.choose(order)
        # Opened before the namespaces are left: a file open for writing would keep its mount from becoming read-only.
        door = group.open_door()
        gateway = wayout.Gateway() if order["network"] else None
        place.leave()
        pid = os.fork()
        if pid == 0:
            supervise(order, group, gateway, door)
        os._exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) and 1)
    except Refused as problem:
        say(refused=str(problem))
    except Exception as problem:
        say(failed=f"{type(problem).__name__}: {problem}")
    speak(everything=True)


def check(order: dict, machine: dict) -> None:
    if order["cpu"] > machine["cpus"]:
        raise Refused(f"The sandbox has {machine['cpus']} CPUs, not {order['cpu']:g}.")
    if order["memory_mb"] * NEARLY > machine["memory_mb"]:
        raise Refused(f"The sandbox has {machine['memory_mb']} MB of memory, not {order['memory_mb']}.")


def supervise(
    order: dict, group: "counting.Group | counting.Soft", gateway: "wayout.Gateway | None", door: int
) -> None:
    """As pid 1: make the place, run the program, report, and take everything down by leaving."""
    try:
        scratch = place.settle(disk_mb=order["disk_mb"])
        if gateway:
            gateway.open(order["network"])
        run = Run(order, group, gateway, scratch)
        run.start(door)
        say(ready={"soft": group.soft})
        run.watch()
        say(end=run.report())
    except BaseException as problem:
        say(failed=f"{type(problem).__name__}: {problem}")
    finally:
        speak(everything=True)
        os._exit(0)


class Stream:
    """What one stream has written: counted against its cap, sent on in chunks."""

    def __init__(self, name: str, descriptor: int, cap: int) -> None:
        self.name, self.descriptor, self.cap = name, descriptor, cap
        self.offset = 0
        self.pending = bytearray()
        self.since = 0.0
        self.truncated = False
        os.set_blocking(descriptor, False)

    def read(self) -> "bool | None":
        """None when there is nothing now, False at its end."""
        try:
            part = os.read(self.descriptor, CHUNK_BYTES)
        except BlockingIOError:
            return None
        room = self.cap - self.offset - len(self.pending)
        self.truncated = self.truncated or len(part) > room
        self.since = self.since if self.pending else time.monotonic()
        self.pending += part[:room]
        return bool(part)

    def send(self, *, everything: bool = False) -> None:
        while self.pending and (
            everything or len(self.pending) >= CHUNK_BYTES or time.monotonic() - self.since >= COALESCE_SECONDS
        ):
            chunk = bytes(self.pending[:CHUNK_BYTES])
            del self.pending[:CHUNK_BYTES]
            say(out=self.name, at=self.offset, data=base64.b64encode(chunk).decode())
            self.offset += len(chunk)


class Run:
    def __init__(
        self, order: dict, group: "counting.Group | counting.Soft", gateway: "wayout.Gateway | None", scratch: int
    ) -> None:
        self.order, self.group, self.gateway, self.scratch = order, group, gateway, scratch
        self.stopped = ""
        self.status: int | None = None
        self.streams: list[Stream] = []
        self.waiting = selectors.PollSelector()
        self.begun = self.ended = 0.0
        self.next_word = 0.0
        self.relayed = (0, 0)

    def start(self, door: int) -> None:
        command, env = launch(self.order)
        out, out_end = os.pipe()
        err, err_end = os.pipe()
        self.orders, orders_end = socket.socketpair()
        stdin = os.open(STDIN, os.O_RDONLY)
        trouble, trouble_end = os.pipe()
        self.begun = time.monotonic()
        self.child = os.fork()
        if self.child == 0:
            become(command, env, (stdin, out_end, err_end, orders_end.fileno()), door, trouble_end, self.order)
        for descriptor in (stdin, out_end, err_end, trouble_end):
            os.close(descriptor)
        orders_end.close()
        # It closes when the command is executed.
        if why := os.read(trouble, 4096):
            raise OSError(f"the program could not be started: {why.decode(errors='replace')}")
        cap = self.order["output_kb"] << 10
        self.streams = [Stream("stdout", out, cap), Stream("stderr", err, cap)]

    def watch(self) -> None:
        """Until the program has ended or is ended; nothing it does can stop this clock."""
        with open(REQUEST, "rb") as file:
            self.left = memoryview(file.read())
        self._register()
        deadline = self.begun + self.order["timeout_seconds"]
        self.next_word = self.begun + OFTEN_SECONDS
        while not self.stopped and self.status is None:
            left = deadline - time.monotonic()
            if left <= 0:
                self.stopped = "timeout"
                break
            for key, _ in self.waiting.select(min(left, SAMPLE_SECONDS)):
                key.data()
            if self.group.is_over() and self.status is None:
                os.kill(self.child, signal.SIGKILL)
            for stream in self.streams:
                stream.send()
            self._tell_use()
            speak()
        self._finish()

    def _tell_use(self) -> None:
        """To an other side that keeps up: whoever is behind has no use for more."""
        now = time.monotonic()
        if now < self.next_word or _unsaid:
            return
        lasted = now - self.begun
        self.next_word = now + (OFTEN_SECONDS if lasted < OFTEN_UNTIL_SECONDS else SELDOM_SECONDS)
        counted = self.group.counted()
        used = {name: counted[name] for name in ("cpu_ms", "memory_bytes", "peak_memory_bytes")}
        say(used={"at_ms": round(lasted * 1000), "disk_bytes": self._disk_bytes(), **used})

    def _disk_bytes(self) -> int:
        disk = os.fstatvfs(self.scratch)
        return (disk.f_blocks - disk.f_bfree) * disk.f_frsize

    def _register(self) -> None:
        woken, wake = os.pipe()
        os.set_blocking(woken, False)
        os.set_blocking(wake, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(wake)
        self.orders.setblocking(False)
        for descriptor, events, serve in (
            (woken, selectors.EVENT_READ, lambda: self._reap(woken)),
            (0, selectors.EVENT_READ, self._obey),
            (self.orders, selectors.EVENT_READ | selectors.EVENT_WRITE, self._feed),
            *((each.descriptor, selectors.EVENT_READ, lambda each=each: self._read(each)) for each in self.streams),
        ):
            self.waiting.register(descriptor, events, serve)
        self._reap(woken)

    def _read(self, stream: Stream) -> None:
        if stream.read() is False:
            self.waiting.unregister(stream.descriptor)
        if stream.truncated:
            self.stopped = "output"

    def _reap(self, woken: int) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(woken, 4096)
        with contextlib.suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                if ended[0] == self.child:
                    self.status = ended[1]

    def _obey(self) -> None:
        said = os.read(0, 4096)
        if not said:
            self.waiting.unregister(0)
        elif b"cancel" in said:
            self.stopped = "cancelled"

    def _feed(self) -> None:
        """Hand the request to the waiting program; the byte it says first is of no interest."""
        try:
            with contextlib.suppress(BlockingIOError):
                self.orders.recv(16)
            self.left = self.left[self.orders.send(self.left[: 1 << 20]) :]
        except BlockingIOError:
            return
        except OSError:
            self.left = memoryview(b"")
        if not self.left:
            self.waiting.unregister(self.orders)

    def _finish(self) -> None:
        """Whatever ended it: everything is dead before its last bytes are read."""
        self.ended = time.monotonic()
        with contextlib.suppress(ProcessLookupError):
            os.kill(-1, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, 0)
                if pid == self.child:
                    self.status = status
        for stream in self.streams:
            while not stream.truncated and stream.read():
                pass
            stream.send(everything=True)
        if any(stream.truncated for stream in self.streams) and not self.stopped:
            self.stopped = "output"
        if self.gateway:
            self.relayed = self.gateway.end()

    def report(self) -> dict:
        disk = os.fstatvfs(self.scratch)
        collected = artifacts.collect(self.scratch)
        with open(f"{place.OUT}/artifacts.bin", "wb") as out:
            for _, content in collected.files:
                out.write(content)
        return {
            "status": None if self.stopped else self.status,
            "stopped": self.stopped,
            "truncated": [stream.name for stream in self.streams if stream.truncated],
            "duration_ms": (self.ended - self.begun) * 1000,
            "disk_is_full": disk.f_bfree * disk.f_frsize < FREE_ENOUGH_BYTES or disk.f_ffree == 0,
            "artifacts": [[path, len(content)] for path, content in collected.files],
            "artifacts_truncated": collected.left_out,
            "disk_bytes": self._disk_bytes(),
            "network_sent_bytes": self.relayed[0],
            "network_received_bytes": self.relayed[1],
            **self.group.counted(),
        }


def launch(order: dict) -> tuple:
    """The command and environment of the program that waits for the request."""
    folder = os.path.dirname(sys.executable)
    env = {
        "PATH": f"{folder}:/usr/local/bin:/usr/bin:/bin",
        "HOME": "/tmp",
        "LANG": "C.UTF-8",
        "OPENBLAS_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
        **(wayout.variables() if order["network"] else {}),
    }
    if order["language"] == "python":
        return [sys.executable, "-c", PYTHON.format(home=place.HOME)], env
    node = shutil.which("node")
    if node is None:
        raise FileNotFoundError("there is no node on the PATH of this template")
    return [node, f"{place.HOME}/runner.js"], env


def become(command: list, env: dict, streams: tuple, door: int, trouble: int, order: dict) -> None:
    """In the child: nothing but descriptors 0 to 3, no rights, and the command in this one's place."""
    try:
        if door >= 0:
            os.write(door, b"0")
        signal.set_wakeup_fd(-1)
        # Copies far above, so that none is overwritten while the low numbers are dealt out.
        high = [fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 100) for descriptor in (*streams, trouble)]
        trouble = high.pop()
        for number, descriptor in enumerate(high):
            os.dup2(descriptor, number)
        place.step_down(order=order, soft=door < 0)
        os.execve(command[0], command, env)
    except BaseException as problem:
        os.write(trouble, str(problem).encode())
    finally:
        os._exit(70)


if __name__ == "__main__":
    main()
