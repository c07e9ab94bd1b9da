"""Slots: places that serve exactly one run, and the pools that keep some of them ready.

starting -> ready -> running -> draining -> gone
    \\-> failed
"""

from __future__ import annotations

import array
import collections
import contextlib
import json
import os
import select
import signal
import socket
import struct
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass

from sandboxes.daemon import cgroups
from sandboxes.daemon.bubblewrap import CannotStart, Users, Zygote
from sandboxes.limits import Limits

START_SECONDS = 10
DEATH_SECONDS = 5
CREDENTIALS = struct.Struct("3i")
SETTLED = 64
REFILL_DELAY = 0.005


class SlotLost(Exception):
    """The slot died without its program having ended: nothing is known of the run."""


class Slot:
    """One sandbox: its init's socket, its program's socket, its streams, its scratch, its cgroup."""

    def __init__(self, *, zygote: Zygote, groups: cgroups.Groups, users: Users) -> None:
        self.id = uuid.uuid4().hex
        self.zygote = zygote
        self.born = time.monotonic()
        self.init: socket.socket | None = None
        self.stdin = -1
        self._armed: Limits | None = None
        self._controllers = groups.controllers
        self._users = users
        self._open = contextlib.ExitStack()
        self._group: cgroups.Group | None = None
        self._pidfd = -1
        self._user = users.take()
        try:
            self._group = groups.create(self.id)
            self._start()
        except (OSError, ValueError, SlotLost) as problem:
            self.discard()
            raise CannotStart(f"a slot did not start: {problem} {zygote.last_words()}".strip()) from problem

    def _start(self) -> None:
        self.init, init_theirs = self._pair(socket.SOCK_SEQPACKET)
        self.program, program_theirs = self._pair(socket.SOCK_STREAM)
        self.init.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        pipes = [os.pipe2(os.O_CLOEXEC) for _ in range(3)]
        self.stdin, self.stdout, self.stderr = pipes[0][1], pipes[1][0], pipes[2][0]
        self._open.callback(self.close_stdin)
        self._open.callback(os.close, self.stdout)
        self._open.callback(os.close, self.stderr)
        theirs = [pipes[0][0], pipes[1][1], pipes[2][1]]
        with init_theirs, program_theirs:
            sockets = [init_theirs.fileno(), program_theirs.fileno()]
            try:
                self.zygote.fork(
                    order={"user": self._user, "disk_mb": Limits().disk_mb}, descriptors=[*sockets, *theirs]
                )
            finally:
                for descriptor in theirs:
                    os.close(descriptor)
        self._meet()

    def _meet(self) -> None:
        """Learn from the kernel which process this is, put it in its cgroup, then let it go on."""
        assert self.init and self._group
        pid, self.scratch = _introduced(self.init)
        self._open.callback(os.close, self.scratch)
        self._pidfd = os.pidfd_open(pid)
        self._group.attach(pid)
        self.init.send(b"go")
        if self.program.recv(1) != b"R":
            raise OSError(f"the program did not wait for its request: {_said(self.stderr)}")
        if os.geteuid() == 0:
            # Out of memory, the kernel should take the program and leave the one that reports it.
            with contextlib.suppress(OSError), open(f"/proc/{pid}/oom_score_adj", "w") as score:
                score.write("-900")
        for descriptor in (self.stdin, self.stdout, self.stderr):
            os.set_blocking(descriptor, False)
        self.program.setblocking(False)
        if {"memory", "pids", "cpu"} <= self._controllers:
            # The usual limits are put on in advance; an rlimit, unlike a cgroup, could not be raised again.
            self.arm(Limits())

    def _pair(self, kind: int) -> tuple[socket.socket, socket.socket]:
        ours, theirs = socket.socketpair(socket.AF_UNIX, kind)
        ours.settimeout(START_SECONDS)
        self._open.callback(ours.close)
        return ours, theirs

    def close_stdin(self) -> None:
        if self.stdin >= 0:
            os.close(self.stdin)
            self.stdin = -1

    @property
    def pidfd(self) -> int:
        return self._pidfd

    def arm(self, limits: Limits) -> None:
        """Put limits on the waiting program: by cgroup where there is one and by rlimit where not."""
        if limits == self._armed:
            return
        assert self._group and self.init
        message = {
            "disk_mb": limits.disk_mb,
            "soft_memory_mb": 0 if "memory" in self._controllers else limits.memory_mb,
            "soft_processes": 0 if "pids" in self._controllers else limits.processes,
            "cpus": 0 if "cpu" in self._controllers else max(1, round(limits.cpu)),
        }
        try:
            self._group.limit(limits)
            self.init.send(json.dumps(message).encode())
            answer = self.init.recv(SETTLED)
        except OSError as problem:
            raise SlotLost(f"the slot did not take its limits: {problem}") from problem
        if answer != b"armed":
            raise SlotLost("the slot died before its run")
        self._armed = limits

    def counted(self) -> cgroups.Counted:
        assert self._group
        return self._group.counted()

    def is_dead(self, *, wait_seconds: float = 0) -> bool:
        """Pid 1 is only dead for us when everything in its pid namespace is."""
        poll = select.poll()
        poll.register(self._pidfd, select.POLLIN)
        return bool(poll.poll(wait_seconds * 1000))

    def kill(self) -> bool:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
        return self.is_dead(wait_seconds=DEATH_SECONDS)

    def discard(self) -> None:
        """Leave nothing: processes, descriptors, scratch space, cgroup, user."""
        dead = self._pidfd < 0 or self.kill()
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1
        self._open.close()
        if self._group is not None and self._group.remove() is False:
            _bury_later(self._group)
        if dead:
            self._users.give_back(self._user)


def _introduced(init: socket.socket) -> tuple[int, int]:
    """The pid of the slot's init, as the kernel names it to us, and its scratch folder."""
    room = socket.CMSG_SPACE(CREDENTIALS.size) + socket.CMSG_SPACE(4)
    message, ancillary, _, _ = init.recvmsg(SETTLED, room, socket.MSG_CMSG_CLOEXEC)
    pid, scratch = 0, -1
    for _, kind, content in ancillary:
        if kind == socket.SCM_CREDENTIALS:
            pid = CREDENTIALS.unpack(content[: CREDENTIALS.size])[0]
        elif kind == socket.SCM_RIGHTS:
            scratch = array.array("i", content[:4])[0]
    if message != b"settled" or not pid or scratch < 0:
        raise OSError("the slot's init left before it had settled")
    return pid, scratch


def _said(stderr: int) -> str:
    os.set_blocking(stderr, False)
    try:
        return os.read(stderr, 4096).decode("utf-8", "replace").strip()
    except BlockingIOError:
        return "it said nothing"


@dataclass(frozen=True)
class Size:
    """How many slots a pool keeps ready, how many may run at once, and how old a ready one may get."""

    ready: int = 4
    running: int = 10
    max_age_seconds: float = 3600


class Pool:
    """Ready slots of one language and template, refilled in the background, made cold when there is none."""

    def __init__(self, *, start_zygote: Callable[[], Zygote], make_slot: Callable[[Zygote], Slot], size: Size) -> None:
        self.size = size
        self.failure = ""
        self._start_zygote = start_zygote
        self._make_slot = make_slot
        self._zygote: Zygote | None = None
        self._retired: list[Zygote] = []
        self._ready: collections.deque[Slot] = collections.deque()
        self._counts = {"starting": 0, "running": 0, "draining": 0, "failed": 0}
        self._changed = threading.Condition()
        self._stopping = False
        # The zygote dies with the thread that started it, so this one lives as long as the pool.
        self._keeper = threading.Thread(target=self._keep, name="pool keeper", daemon=True)

    def open(self) -> None:
        self._keeper.start()

    def wait_until_ready(self, timeout_seconds: float) -> bool:
        """Until the zygote is up and the first slot, if any is to be kept, waits for its run."""

        def settled() -> bool:
            return bool(self.failure) or (self._zygote is not None and len(self._ready) >= min(1, self.size.ready))

        with self._changed:
            return self._changed.wait_for(settled, timeout_seconds) and not self.failure

    def counts(self) -> dict[str, int]:
        with self._changed:
            return {"ready": len(self._ready), **self._counts}

    def checkout(self, *, abandoned: Callable[[], bool]) -> tuple[Slot, bool] | None:
        """A slot and whether it was warm; None when the caller gave up before there was room."""
        with self._changed:
            while self._counts["running"] >= self.size.running:
                if self._changed.wait(0.05) is False and abandoned():
                    return None
            self._counts["running"] += 1
            slot = self._pop()
            zygote = self._zygote
            self._changed.notify_all()
        if slot is not None:
            return slot, True
        try:
            return self._cold(zygote), False
        except BaseException:
            self._count("running", -1)
            raise

    def _pop(self) -> Slot | None:
        while self._ready:
            slot = self._ready.popleft()
            if not slot.is_dead():
                return slot
            self._discard_later(slot)
        return None

    def _cold(self, zygote: Zygote | None) -> Slot:
        if zygote is None or not zygote.is_alive():
            zygote = self._await_zygote()
        return self._make(zygote)

    def _await_zygote(self) -> Zygote:
        def alive() -> bool:
            return self._stopping or (self._zygote is not None and self._zygote.is_alive())

        with self._changed:
            self._changed.notify_all()
            if not self._changed.wait_for(alive, START_SECONDS) or self._zygote is None:
                raise CannotStart(self.failure or "the zygote is not up")
            return self._zygote

    def _make(self, zygote: Zygote) -> Slot:
        self._count("starting", 1)
        try:
            slot = self._make_slot(zygote)
        except CannotStart as problem:
            self.failure = str(problem)
            self._count("failed", 1)
            raise
        finally:
            self._count("starting", -1)
        zygote.living += 1
        return slot

    def release(self, slot: Slot) -> None:
        """After its one run a slot is killed, whatever state it is in."""
        with self._changed:
            self._counts["running"] -= 1
            self._counts["draining"] += 1
            self._changed.notify_all()
        try:
            slot.discard()
        finally:
            slot.zygote.living -= 1
            self._count("draining", -1)

    def _discard_later(self, slot: Slot) -> None:
        slot.zygote.living -= 1
        threading.Thread(target=slot.discard, daemon=True).start()

    def _count(self, state: str, by: int) -> None:
        with self._changed:
            self._counts[state] += by
            self._changed.notify_all()

    def close(self) -> None:
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        if self._keeper.is_alive():
            self._keeper.join(DEATH_SECONDS)

    def _keep(self) -> None:
        patience = 0.1
        while not self._stopping:
            try:
                self._renew_zygote()
                self._retire_old()
                self._fill()
                patience = 0.1
            except CannotStart as problem:
                self.failure = str(problem)
                with self._changed:
                    self._changed.notify_all()
                    self._changed.wait_for(lambda: self._stopping, patience)
                patience = min(patience * 2, 10)
                continue
            with self._changed:
                self._changed.wait_for(self._has_work, 0.5)
            self._let_runs_go_first()
        self._end_all()

    def _let_runs_go_first(self) -> None:
        """A refill beside a short run would take its core, and there is no hurry while some slots are left."""
        with self._changed:
            if len(self._ready) * 2 >= self.size.ready:
                self._changed.wait_for(lambda: self._stopping or len(self._ready) * 2 < self.size.ready, REFILL_DELAY)

    def _has_work(self) -> bool:
        return self._stopping or len(self._ready) < self.size.ready

    def _renew_zygote(self) -> None:
        """Zygotes are replaced before they are worn: slots share their memory layout."""
        current = self._zygote
        if current is not None and current.is_alive() and not _is_worn(current):
            return
        fresh = self._start_zygote()
        with self._changed:
            self._zygote = fresh
            self.failure = ""
            self._changed.notify_all()
        if current is not None:
            self._retired.append(current)

    def _retire_old(self) -> None:
        with self._changed:
            while self._ready and self._is_old(self._ready[0]):
                self._discard_later(self._ready.popleft())
        for zygote in [each for each in self._retired if each.living <= 0 or not each.is_alive()]:
            self._retired.remove(zygote)
            zygote.stop()

    def _is_old(self, slot: Slot) -> bool:
        old = time.monotonic() - slot.born > self.size.max_age_seconds
        return old or slot.zygote is not self._zygote or slot.is_dead()

    def _fill(self) -> None:
        while not self._stopping and len(self._ready) < self.size.ready:
            assert self._zygote
            slot = self._make(self._zygote)
            with self._changed:
                self._ready.append(slot)
                self._counts["failed"] = 0
                self._changed.notify_all()

    def _end_all(self) -> None:
        with self._changed:
            left = [*self._ready]
            self._ready.clear()
        for slot in left:
            slot.discard()
        for zygote in (*self._retired, self._zygote):
            if zygote is not None:
                zygote.stop()


ZYGOTE_SECONDS = 3600
ZYGOTE_FORKS = 10_000


def _is_worn(zygote: Zygote) -> bool:
    return zygote.forks >= ZYGOTE_FORKS or time.monotonic() - zygote.born > ZYGOTE_SECONDS


def _bury_later(group: cgroups.Group) -> None:
    def bury() -> None:
        deadline = time.monotonic() + DEATH_SECONDS
        while not group.remove() and time.monotonic() < deadline:
            time.sleep(0.005)

    threading.Thread(target=bury, daemon=True).start()
