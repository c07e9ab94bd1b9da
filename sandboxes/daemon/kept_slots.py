"""A slot that serves one run after another: the same place and init, and for each run a fresh program.

Its limits are put on once and hold for all its runs together; what is counted begins anew with each run.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket

from sandboxes.daemon.engines import SlotLost
from sandboxes.daemon.run import REPORT
from sandboxes.daemon.slots import CREDENTIALS, SETTLED, SPARED, Slot, set_oom_score
from sandboxes.limits import Limits

# A Node of its own starts for each run, on a machine that may be busy.
BEGIN_SECONDS = 30


class KeptSlot(Slot):
    """Between two runs it has no program, no streams, and no process but its init."""

    # A customer's files go with the init, so it is given time.
    report_seconds = 5.0

    def __init__(self, limits: Limits, **place) -> None:
        self.limits = limits
        self._turn = contextlib.ExitStack()
        super().__init__(**place)

    def _start(self) -> None:
        self.init, theirs = self._pair(socket.SOCK_SEQPACKET)
        self.init.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        with theirs:
            self.zygote.fork(order=self._order(), descriptors=[theirs.fileno()])
        set_oom_score(self._introduce(), SPARED)
        assert self._group
        self._group.limit(self.limits)

    def _order(self) -> dict[str, object]:
        """Where the kernel counts, a program takes its limits by itself; soft ones depend on what it has become."""
        if {"memory", "pids", "cpu"} <= self._controllers:
            self._armed = self.limits
        limits = self._rlimits(self.limits) if self._armed else None
        return {"user": self._user, "disk_mb": self.limits.disk_mb, "limits": limits, "kept": True}

    def begin(self) -> tuple | None:
        """Start a fresh program, which then waits for its request; its report when it ended before that."""
        try:
            self._hand_over()
            if self._program_waits():
                if self._armed:
                    return None
                self.init.send(json.dumps(self._rlimits(self.limits)).encode())
            said = self.init.recv(SETTLED)
        except OSError as problem:
            raise SlotLost(f"the sandbox started no program: {problem}") from problem
        if said != b"armed" and len(said) != REPORT.size:
            raise SlotLost("the sandbox died before its run")
        return None if said == b"armed" else REPORT.unpack(said)

    def _hand_over(self) -> None:
        """A socket and three pipes of this run's own: nothing of an earlier one is at their other ends."""
        self.program, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self._turn.callback(self.program.close)
        self.program.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        pipes = [os.pipe2(os.O_CLOEXEC) for _ in range(3)]
        self.stdin, self.stdout, self.stderr = pipes[0][1], pipes[1][0], pipes[2][0]
        self._turn.callback(self.close_stdin)
        self._turn.callback(os.close, self.stdout)
        self._turn.callback(os.close, self.stderr)
        for descriptor in (self.stdin, self.stdout, self.stderr):
            os.set_blocking(descriptor, False)
        self.program.setblocking(False)
        handed = [pipes[0][0], pipes[1][1], pipes[2][1]]
        with theirs:
            try:
                self._group.count_anew()
                self.init.settimeout(BEGIN_SECONDS)
                socket.send_fds(self.init, [b"run"], [theirs.fileno(), *handed])
            finally:
                for descriptor in handed:
                    os.close(descriptor)

    def _program_waits(self) -> bool:
        """Whether the program came as far as to wait; not, when it ended on the way."""
        poll = select.poll()
        poll.register(self.program, select.POLLIN)
        poll.register(self.pidfd, select.POLLIN)
        found = dict(poll.poll(BEGIN_SECONDS * 1000))
        if not found:
            raise OSError("it took too long")
        if self.program.fileno() not in found:
            return False
        word, ancillary, _, _ = self.program.recvmsg(1, socket.CMSG_SPACE(CREDENTIALS.size), socket.MSG_CMSG_CLOEXEC)
        for _, kind, content in ancillary:
            if kind == socket.SCM_CREDENTIALS:
                # It is spared like the init that forked it, until somebody says otherwise.
                set_oom_score(CREDENTIALS.unpack(content)[0], 0)
        return word == b"R"

    def end(self) -> None:
        """After a run, whatever became of it, nothing of ours is left open."""
        self._turn.close()

    def discard(self) -> None:
        self.end()
        super().discard()
