"""A slot: one place that serves exactly one run and is then killed, whatever state it is in."""

from __future__ import annotations

import array
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

from sandboxes.daemon import cgroups
from sandboxes.daemon.bubblewrap import Users, Zygote
from sandboxes.daemon.engines import CannotStart, SlotLost
from sandboxes.limits import Limits

START_SECONDS = 10
DEATH_SECONDS = 5
CREDENTIALS = struct.Struct("3i")
LAST_WORDS_SECONDS = 0.2
SETTLED = 64
NOTHING = "it said nothing"


class Slot:
    """One sandbox: its init's socket, its program's socket, its streams, its scratch, its cgroup."""

    def __init__(self, *, zygote: Zygote, groups: cgroups.Groups, users: Users) -> None:
        self.id = uuid.uuid4().hex
        self.zygote = zygote
        self.born = time.monotonic()
        self.init: socket.socket | None = None
        self.stdin = -1
        self.alarm = -1
        self._armed: Limits | None = None
        self.scratch = -1
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
            if self._pidfd >= 0:
                # Its init may be about to say why.
                self.is_dead(wait_seconds=LAST_WORDS_SECONDS)
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
                self.zygote.fork(order=self._order(), descriptors=[*sockets, *theirs])
            finally:
                for descriptor in theirs:
                    os.close(descriptor)
        self._meet()

    def _order(self) -> dict[str, object]:
        """The usual limits are put on in advance; a soft one, unlike a cgroup's, could not be raised again."""
        usual = Limits()
        if {"memory", "pids", "cpu"} <= self._controllers:
            self._armed = usual
        limits = self._rlimits(usual) if self._armed else None
        return {"user": self._user, "disk_mb": usual.disk_mb, "limits": limits}

    def _rlimits(self, limits: Limits) -> dict[str, int]:
        return {
            "disk_mb": limits.disk_mb,
            "soft_memory_mb": 0 if "memory" in self._controllers else limits.memory_mb,
            "soft_processes": 0 if "pids" in self._controllers else limits.processes,
            "cpus": 0 if "cpu" in self._controllers else max(1, round(limits.cpu)),
        }

    def _meet(self) -> None:
        """Learn from the kernel which process this is, put it in its cgroup, then let it go on."""
        assert self.init
        assert self._group
        pid, _ = _heard(self.init, b"here")
        self._pidfd = os.pidfd_open(pid)
        self._group.attach(pid)
        self.init.send(b"go")
        _, given = _heard(self.init, b"settled")
        for descriptor in given:
            self._open.callback(os.close, descriptor)
        self.scratch, *listeners = given
        self.listener = listeners[0] if listeners else -1
        if self.program.recv(1) != b"R":
            raise OSError(f"the program did not wait for its request: {_said(self.stderr)}")
        if os.geteuid() == 0:
            # Out of memory, the kernel should take the program and leave the one that reports it.
            with contextlib.suppress(OSError), open(f"/proc/{pid}/oom_score_adj", "w") as score:
                score.write("-900")
        for descriptor in (self.stdin, self.stdout, self.stderr):
            os.set_blocking(descriptor, False)
        self.program.setblocking(False)
        if self._armed:
            self._group.limit(self._whole(self._armed))

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
        assert self.init
        assert self._group
        try:
            self._group.limit(self._whole(limits))
            self.init.send(json.dumps(self._rlimits(limits)).encode())
            answer = self.init.recv(SETTLED)
        except OSError as problem:
            raise SlotLost(f"the slot did not take its limits: {problem}") from problem
        if answer != b"armed":
            raise SlotLost("the slot died before its run")
        self._armed = limits

    def _whole(self, limits: Limits) -> Limits:
        """What the host counts for a program with these limits."""
        return limits

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


def _heard(init: socket.socket, word: bytes) -> tuple[int, list[int]]:
    """After the slot's init said `word`: its pid, as the kernel names it to us, and the descriptors that came along."""
    given = array.array("i")
    room = socket.CMSG_SPACE(CREDENTIALS.size) + socket.CMSG_SPACE(2 * given.itemsize)
    message, ancillary, _, _ = init.recvmsg(SETTLED, room, socket.MSG_CMSG_CLOEXEC)
    pid = 0
    for _, kind, content in ancillary:
        if kind == socket.SCM_CREDENTIALS:
            pid = CREDENTIALS.unpack(content[: CREDENTIALS.size])[0]
        elif kind == socket.SCM_RIGHTS:
            given.frombytes(content[: len(content) - len(content) % given.itemsize])
    if message != word or not pid:
        raise OSError("the slot's init left before it had settled")
    return pid, list(given)


def _said(stderr: int) -> str:
    os.set_blocking(stderr, False)
    try:
        return os.read(stderr, 4096).decode("utf-8", "replace").strip() or NOTHING
    except BlockingIOError:
        return NOTHING


def _bury_later(group: cgroups.Group) -> None:
    def bury() -> None:
        deadline = time.monotonic() + DEATH_SECONDS
        while not group.remove() and time.monotonic() < deadline:
            time.sleep(0.005)

    threading.Thread(target=bury, daemon=True).start()
