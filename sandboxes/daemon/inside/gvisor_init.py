"""Pid 1 of one slot of the gVisor engine: makes the place, starts gVisor's kernel in it, and alone reports.

    daemon == this init == guest_init, pid 1 inside gVisor --fork--> the program

The guest's init says how the program ended; this one sees whether the kernel around it still lives, and ends
every process of it. It is pid 1 of them all, so nothing of gVisor can outlive it.
"""

import contextlib
import json
import os
import resource
import select
import signal
import socket
import struct
import sys

import kernel
import slot_init

# The folder that is empty once the scratch space is in its places: gVisor's own small files lie in memory there.
OWN = "/scratch"
STATE, BUNDLE = f"{OWN}/state", f"{OWN}/bundle"
# What runsc says, and what its kernel says when it falls; neither is repeated at any length.
LOG, PANIC, WORDS_LENGTH = f"{OWN}/log", f"{OWN}/panic", 500
# Inside gVisor: the guest init's own socket, then what is the program's.
FIRST_PASSED = 3
STATUS = struct.Struct("!i")
KILLED = int(signal.SIGKILL)
RESTS = {b"rest": signal.SIGSTOP, b"begin": signal.SIGCONT}
ARM_SECONDS = 8
TICKS = os.sysconf("SC_CLK_TCK")


def rehearse() -> None:
    """A kernel takes so long to start that practising what comes before it is worth nothing."""


def run(*, settings: dict, order: dict, descriptors: list[int], gate: int) -> None:
    control = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET, 0, descriptors[0])
    try:
        if os.read(gate, 1) != b"1":
            return
        os.close(gate)
        slot_init.become_user(settings["user"])
        control.send(b"here")
        if control.recv(16) != b"go":
            return
        slot_init.settle(control=control, disk_mb=order["disk_mb"], settings=settings)
        _write_bundle(settings["spec"])
        guest, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        guest.send(json.dumps({**settings["guest"], "limits": order["limits"]}).encode())
        child = os.fork()
        if child == 0:
            _become_kernel(command=settings["command"], descriptors=[theirs.fileno(), *descriptors[1:]])
            os._exit(70)
        _close_all_but(control.fileno(), guest.fileno())
        Watch(control=control, guest=guest, child=child, disk_mb=order["disk_mb"], settings=settings).keep()
    except BaseException as problem:
        print(f"slot: {type(problem).__name__}: {problem} {_last_words()}".strip(), file=sys.stderr)
    finally:
        os._exit(71)


def _write_bundle(spec: dict) -> None:
    flags = kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC
    kernel.mount("own", OWN, "tmpfs", flags, "size=4m,nr_inodes=64,mode=0700")
    os.mkdir(STATE)
    os.mkdir(BUNDLE)
    with open(f"{BUNDLE}/config.json", "w") as out:
        json.dump(spec, out)


def _close_all_but(*kept: int) -> None:
    start = 3
    for number in sorted(kept):
        os.closerange(start, number)
        start = number + 1
    os.closerange(start, 1 << 16)


def _last_words() -> str:
    said = []
    for path in (LOG, PANIC):
        with contextlib.suppress(OSError), open(path, errors="replace") as words:
            said.append(words.read(WORDS_LENGTH).partition("\n\n")[0].strip())
    return " ".join(said).strip()


def _become_kernel(*, command: list[str], descriptors: list[int]) -> None:
    """Give up every right and become `runsc run`, whose own streams are neither the program's nor the zygote's."""
    log = os.open(LOG, os.O_CREAT | os.O_RDWR | os.O_APPEND, 0o600)
    for number in range(FIRST_PASSED):
        os.dup2(log, number)
    after = slot_init.place_from(FIRST_PASSED, descriptors)
    os.closerange(after, 1 << 16)
    kernel.keep_capabilities(())
    kernel.forbid_new_privileges()
    passed = [word for number in range(FIRST_PASSED, after) for word in ("--pass-fd", f"{number}:{number}")]
    os.execve(command[0], [*command, "run", *passed, "--bundle", BUNDLE, "sandbox"], {"PATH": "/usr/bin:/bin"})


class Watch:
    """Obeys the daemon, passes limits on to the guest, and reports when its program has ended."""

    def __init__(
        self, *, control: socket.socket, guest: socket.socket, child: int, disk_mb: int, settings: dict
    ) -> None:
        self.control, self.guest, self.child, self.disk_mb = control, guest, child, disk_mb
        self.soft, self.inodes = settings["soft_memory"], settings["inodes"]
        self.own_memory = settings["own_memory_mb"] << 20
        self.memory = GuestMemory(limit=0)
        self.used_before = (0.0, 0.0)
        self.is_over = False
        guest.settimeout(ARM_SECONDS)

    def keep(self) -> None:
        woken = wake_on_child()
        poll = select.poll()
        for each in (self.control, self.guest):
            poll.register(each, select.POLLIN)
        poll.register(woken, select.POLLIN)
        ended = None
        while ended is None:
            events = dict(poll.poll(slot_init.SAMPLE_SECONDS * 1000 if self.memory.limit else None))
            drain(woken)
            if self.control.fileno() in events:
                ended = self._daemon_said()
            elif self.guest.fileno() in events:
                ended = self._guest_said()
            elif self.memory.is_over():
                ended = KILLED
            elif slot_init.reap(self.child) is not None:
                # It may have told the end after we looked.
                self.guest.setblocking(False)
                ended = self._guest_said()
        self._report(ended)

    def _guest_said(self) -> int | None:
        try:
            status = STATUS.unpack(self.guest.recv(STATUS.size))[0]
        except (ConnectionError, BlockingIOError, struct.error):
            raise OSError("gVisor's kernel ended before its program") from None
        self.is_over = True
        return status

    def _daemon_said(self) -> int | None:
        message = self.control.recv(4096)
        if not message:
            raise OSError("the daemon is gone")
        if message == b"end":
            return KILLED
        if message in RESTS:
            # gVisor's kernel looks at its clock 2,500 times a second, even while its program only waits.
            os.kill(-1, RESTS[message])
            return None
        self._arm(json.loads(message))
        self.control.send(b"armed")
        return None

    def _arm(self, limits: dict) -> None:
        if limits["disk_mb"] != self.disk_mb:
            slot_init.resize_scratch(limits["disk_mb"], self.inodes)
            self.disk_mb = limits["disk_mb"]
        if limits["cpus"]:
            _confine(sorted(os.sched_getaffinity(0))[: limits["cpus"]])
        self.guest.send(json.dumps(limits).encode())
        if self.guest.recv(16) != b"armed":
            raise OSError("gVisor's kernel ended before it took the limits")
        self.memory = GuestMemory(limit=limits["soft_memory_mb"] << 20)
        self.used_before = _used()

    def _report(self, ended: int) -> None:
        """Only when nothing can change what the program left; burying all of gVisor takes longer than most programs."""
        if self.soft or not self.is_over or not _seal():
            slot_init.end_everything()
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        user = max(0, used.ru_utime - self.used_before[0])
        system = max(0, used.ru_stime - self.used_before[1])
        peak = max(0, self.memory.peak - self.own_memory)
        self.control.send(slot_init.REPORT.pack(ended, user, system, peak, self.memory.exceeded))


def wake_on_child() -> int:
    """A descriptor that can be read whenever a child has ended."""
    woken, wake = os.pipe()
    os.set_blocking(woken, False)
    os.set_blocking(wake, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    return woken


def drain(descriptor: int) -> None:
    with contextlib.suppress(BlockingIOError):
        while os.read(descriptor, 4096):
            pass


def _seal() -> bool:
    """Make the scratch space read-only; the kernel refuses while any file in it is still open for writing."""
    flags = kernel.MS_REMOUNT | kernel.MS_RDONLY | kernel.MS_NOSUID | kernel.MS_NODEV
    try:
        kernel.mount(None, "/workspace", None, flags)
    except OSError:
        return False
    return True


class GuestMemory(slot_init.Memory):
    """gVisor keeps its programs' memory in files without a name, of which little is mapped at any time."""

    def __init__(self, *, limit: int) -> None:
        super().__init__(limit=limit)
        self._files = _memory_files() if limit else []

    def held(self) -> int:
        return super().held() + sum(map(_stored, self._files))


def _memory_files() -> list[str]:
    """Each of them once, by a path that leads to it as long as its process lives."""
    found = {}
    for pid in slot_init.others():
        with contextlib.suppress(OSError):
            for name in os.listdir(f"/proc/{pid}/fd"):
                path = f"/proc/{pid}/fd/{name}"
                if os.readlink(path).startswith("/memfd:"):
                    found[os.stat(path).st_ino] = path
    return list(found.values())


def _stored(path: str) -> int:
    try:
        return os.stat(path).st_blocks * 512
    except OSError:
        return 0


def _confine(cores: list[int]) -> None:
    """Every thread there is; later ones inherit it."""
    for pid in slot_init.others():
        for thread in os.listdir(f"/proc/{pid}/task"):
            os.sched_setaffinity(int(thread), cores)


def _used() -> tuple[float, float]:
    """What getting ready has cost so far, which is not the program's."""
    user = system = 0.0
    for pid in slot_init.others():
        with open(f"/proc/{pid}/stat") as stat:
            fields = stat.read().rpartition(")")[2].split()
        user, system = user + int(fields[11]) / TICKS, system + int(fields[12]) / TICKS
    return user, system
