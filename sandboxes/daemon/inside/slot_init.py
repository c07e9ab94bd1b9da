"""Pid 1 of one slot: makes the place, starts the program, and alone reports how it ended.

The program cannot reach this process: no signal from inside stops pid 1, it is not dumpable,
and its socket is closed in the program. So its report is the kernel's word, not the program's.
"""

import array
import contextlib
import fcntl
import json
import os
import resource
import signal
import socket
import struct
import sys

import kernel
import program

SCRATCH = "/scratch"
PLACES = (("workspace", "/workspace", 0o755), ("tmp", "/tmp", 0o1777), ("shm", "/dev/shm", 0o1777))
# For dropping the program's, for other sizes of the scratch space, and for limits on a program of another standing.
KEPT = (kernel.CAP_SETPCAP, kernel.CAP_SYS_ADMIN, kernel.CAP_SYS_PTRACE)
# For forbidding user namespaces, and for raising the loopback.
AT_FIRST = (kernel.CAP_SYS_RESOURCE, kernel.CAP_NET_ADMIN)
# status, user seconds, system seconds, peak memory in bytes, 1 when the soft memory limit ended it
REPORT = struct.Struct("!iddQB")
SAMPLE_SECONDS = 0.025
CRASHES = (signal.SIGSEGV, signal.SIGABRT, signal.SIGTRAP, signal.SIGILL, signal.SIGBUS)
NEARLY = 0.75
PROGRAM_DESCRIPTOR = 3
PLACE_DESCRIPTOR = 4
WAITING_CONNECTIONS = 128
CALLS = (signal.SIGCHLD, signal.SIGIO)


def rehearse() -> None:
    """In the zygote, as far as it changes nothing: see `program`."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        theirs.setblocking(False)
        watch = Watch(control=theirs, child=0, disk_mb=0, settings={"soft_memory": False, "inodes": 0})
        for _ in range(kernel.REHEARSALS):
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            os.umask(0o022)
            _hand_over(ours, [0])
            theirs.recv(16)
            watch._obey()
            signal.sigtimedwait(CALLS, 0)
            reap(0)
            os.close(fcntl.fcntl(0, fcntl.F_DUPFD, 100))
            resource.prlimit(0, resource.RLIMIT_CORE)
            watch._report(0)


def run(*, settings: dict, order: dict, descriptors: list[int], gate: int) -> None:
    control = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET, 0, descriptors[0])
    try:
        if os.read(gate, 1) != b"1":
            return
        os.close(gate)
        become_user(settings["user"])
        control.send(b"here")
        if control.recv(16) != b"go":
            return
        # Before the place is made: each page this process has written to would be copied once more after a fork.
        waited, made = os.pipe()
        child = os.fork()
        if child == 0:
            _become_program(settings=settings, order=order, descriptors=descriptors[1:], place=waited)
            os._exit(70)
        settle(control=control, disk_mb=order["disk_mb"], settings=settings)
        os.write(made, b"1")
        os.closerange(3, control.fileno())
        os.closerange(control.fileno() + 1, 1 << 16)
        Watch(control=control, child=child, disk_mb=order["disk_mb"], settings=settings).keep()
    except BaseException as problem:
        print(f"slot: {type(problem).__name__}: {problem}", file=sys.stderr)
    finally:
        os._exit(71)


def become_user(user: int) -> None:
    """Become the slot's own user, in a session of its own."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)
    # kill(0) reaches the whole process group, across pid namespaces.
    os.setsid()
    os.umask(0o022)
    kernel.keep_capabilities((*KEPT, *AT_FIRST))
    kernel.set_dumpable(False)


def settle(*, control: socket.socket, disk_mb: int, settings: dict) -> None:
    """Make the slot's own /proc, scratch space and way out, and hand the last two to the daemon."""
    scratch = _mount_scratch(disk_mb, settings["inodes"])
    quiet = kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC
    kernel.mount("proc", "/proc", "proc", quiet)
    if not settings["nests"]:
        _write("/proc/sys/user/max_user_namespaces", "0")
        kernel.mount(None, "/proc", None, kernel.MS_REMOUNT | kernel.MS_BIND | kernel.MS_RDONLY | quiet)
    given = [scratch, *_way_out(settings["proxy_port"])]
    kernel.keep_capabilities(KEPT, of=AT_FIRST)
    _hand_over(control, given)
    for descriptor in given:
        os.close(descriptor)


def _way_out(port: int) -> list[int]:
    """A slot with a network has one thing to connect to: this listener, which the daemon serves from outside."""
    if not port:
        return []
    kernel.raise_loopback()
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.bind(("127.0.0.1", port))
    listener.listen(WAITING_CONNECTIONS)
    return [listener.detach()]


def _hand_over(control: socket.socket, given: list[int]) -> None:
    control.sendmsg([b"settled"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", given))])


def _mount_scratch(disk_mb: int, inodes: int) -> int:
    """One file system under every writable place, so that one size bounds them all."""
    flags = kernel.MS_NOSUID | kernel.MS_NODEV
    kernel.mount("scratch", SCRATCH, "tmpfs", flags, f"size={disk_mb}m,nr_inodes={inodes},mode=0755")
    for name, target, mode in PLACES:
        path = f"{SCRATCH}/{name}"
        os.mkdir(path)
        os.chmod(path, mode)
        kernel.mount(path, target, None, kernel.MS_BIND)
    os.mkdir("/workspace/artifacts")
    descriptor = os.open(SCRATCH, os.O_RDONLY | os.O_DIRECTORY)
    kernel.unmount(SCRATCH)
    return descriptor


def _write(path: str, content: str) -> None:
    descriptor = os.open(path, os.O_WRONLY)
    try:
        os.write(descriptor, content.encode())
    finally:
        os.close(descriptor)


def _become_program(*, settings: dict, order: dict, descriptors: list[int], place: int) -> None:
    """Take the slot's descriptors, give up every right, and wait for the one request."""
    orders, *streams = descriptors
    os.closerange(place_from(0, [*streams, orders, place]), 1 << 16)
    if order["limits"]:
        _bound(0, order["limits"])
    if settings["language"] == "python":
        program.get_ready()
    if os.read(PLACE_DESCRIPTOR, 1) != b"1":
        return
    os.close(PLACE_DESCRIPTOR)
    os.chdir("/workspace")
    kernel.keep_capabilities((), of=(*KEPT, *AT_FIRST))
    kernel.forbid_new_privileges()
    kernel.filter_calls(settings["filter"])
    kernel.set_dumpable(True)
    if settings["language"] == "node":
        os.execve(settings["command"][0], settings["command"], settings["env"])
    program.run(PROGRAM_DESCRIPTOR)


def place_from(first: int, descriptors: list[int]) -> int:
    """Give the descriptors the numbers from `first` on; the answer is the first number after them."""
    # Copies far above, so that none is overwritten while the low numbers are dealt out.
    high = [fcntl.fcntl(descriptor, fcntl.F_DUPFD, 100) for descriptor in descriptors]
    for number, descriptor in enumerate(high, first):
        os.dup2(descriptor, number)
    return first + len(high)


class Watch:
    """Reaps whatever dies, obeys the daemon's two messages, and reports when the program itself has ended."""

    def __init__(self, *, control: socket.socket, child: int, disk_mb: int, settings: dict) -> None:
        self.control, self.child, self.disk_mb = control, child, disk_mb
        self.soft, self.inodes = settings["soft_memory"], settings["inodes"]
        self.memory = Memory(limit=0)
        self.abandoned = False

    def keep(self) -> None:
        self._be_called()
        while (ended := reap(self.child)) is None:
            if self._next_call() == signal.SIGIO:
                self._obey()
            if self.abandoned:
                return
            if self.memory.is_over():
                os.kill(self.child, signal.SIGKILL)
        end_everything()
        self.control.send(self._report(ended))

    def _report(self, ended: int) -> bytes:
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        peak = max(self.memory.peak, used.ru_maxrss << 10 if self.soft else 0)
        return REPORT.pack(ended, used.ru_utime, used.ru_stime, peak, self.memory.is_what_ended(ended))

    def _be_called(self) -> None:
        """Children and messages call by signals alone: one system call waits for both, and no handler runs."""
        signal.pthread_sigmask(signal.SIG_BLOCK, CALLS)
        fcntl.fcntl(self.control, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(self.control, fcntl.F_SETFL, os.O_NONBLOCK | os.O_ASYNC)
        # What was said before did not call.
        os.kill(os.getpid(), signal.SIGIO)
        # Touched now, while nobody waits for it.
        self._report(0)

    def _next_call(self) -> int | None:
        call = signal.sigtimedwait(CALLS, SAMPLE_SECONDS) if self.memory.limit else signal.sigwaitinfo(CALLS)
        return call.si_signo if call else None

    def _obey(self) -> None:
        """A program can forge the call, but no message: then there is none."""
        with contextlib.suppress(BlockingIOError):
            while message := self.control.recv(4096):
                if message == b"end":
                    os.kill(self.child, signal.SIGKILL)
                else:
                    self._arm(json.loads(message))
            self.abandoned = True

    def _arm(self, limits: dict) -> None:
        """Put the request's own limits on the waiting program, before it sees the request."""
        if limits["disk_mb"] != self.disk_mb:
            resize_scratch(limits["disk_mb"], self.inodes)
            self.disk_mb = limits["disk_mb"]
        _bound(self.child, limits)
        self.memory = Memory(limit=limits["soft_memory_mb"] << 20)
        self.control.send(b"armed")


def resize_scratch(disk_mb: int, inodes: int) -> None:
    flags = kernel.MS_REMOUNT | kernel.MS_NOSUID | kernel.MS_NODEV
    kernel.mount(None, "/workspace", None, flags, f"size={disk_mb}m,nr_inodes={inodes}")


def reap(child: int) -> int | None:
    """The program's wait status once it has ended; orphans given to pid 1 are buried on the way."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return None
        if pid == child:
            return status
        if pid == 0:
            return None


def end_everything() -> None:
    """Nothing outlives the main process: its descendants die even if they hold stdout."""
    try:
        os.kill(-1, signal.SIGKILL)
        while True:
            os.waitpid(-1, 0)
    except (ProcessLookupError, ChildProcessError):
        return


def _bound(pid: int, limits: dict) -> None:
    for limit, value in _bounds(pid, limits).items():
        # The scratch space bounds what files hold; only this limit may have to be raised by a second order.
        hard = resource.RLIM_INFINITY if limit == resource.RLIMIT_FSIZE else value
        resource.prlimit(pid, limit, (value, hard))
    if limits["cpus"]:
        os.sched_setaffinity(pid, sorted(os.sched_getaffinity(pid))[: limits["cpus"]])


def _bounds(pid: int, limits: dict) -> dict[int, int]:
    bounds = {
        resource.RLIMIT_FSIZE: limits["disk_mb"] << 20,
        resource.RLIMIT_NOFILE: 1024,
        # Not 0, which a core handler of the machine would not heed; the filter keeps it.
        resource.RLIMIT_CORE: 1,
        resource.RLIMIT_MEMLOCK: 0,
        resource.RLIMIT_MSGQUEUE: 0,
        resource.RLIMIT_SIGPENDING: 1024,
        # Whatever the daemon itself was allowed.
        resource.RLIMIT_RTPRIO: 0,
        resource.RLIMIT_NICE: 0,
    }
    # With a pids cgroup the kernel counts for us, and a limit that fails first would hide its count.
    if limits["soft_processes"]:
        # The init counts as well.
        bounds[resource.RLIMIT_NPROC] = limits["soft_processes"] + 1
    if limits["soft_memory_mb"]:
        # What was mapped before the program began is not the program's.
        bounds[resource.RLIMIT_DATA] = (limits["soft_memory_mb"] << 20) + _mapped_bytes(pid)
    return bounds


def _mapped_bytes(pid: int) -> int:
    with open(f"/proc/{pid}/status") as status:
        for line in status:
            if line.startswith("VmData:"):
                return int(line.split()[1]) << 10
    return 0


class Memory:
    """Samples what all processes hold together, where no cgroup does the counting."""

    def __init__(self, *, limit: int) -> None:
        self.limit = limit
        self.peak = 0
        self.exceeded = False

    def is_over(self) -> bool:
        if not self.limit:
            return False
        held = self.held()
        self.peak = max(self.peak, held)
        self.exceeded = self.exceeded or held > self.limit
        return self.exceeded

    def held(self) -> int:
        scratch = os.statvfs("/workspace")
        return sum(map(_private_bytes, others())) + (scratch.f_blocks - scratch.f_bfree) * scratch.f_frsize

    def is_what_ended(self, status: int) -> bool:
        """Also when it was refused memory and crashed without a word, as V8 does."""
        crashed = os.WIFSIGNALED(status) and os.WTERMSIG(status) in CRASHES
        return self.exceeded or (crashed and self.peak > self.limit * NEARLY > 0)


def others() -> list[str]:
    """Every process here but pid 1."""
    return [name for name in os.listdir("/proc") if name.isdigit() and name != "1"]


def _private_bytes(pid: str) -> int:
    """Anonymous pages of one process, each shared page counted as its share."""
    try:
        with open(f"/proc/{pid}/smaps_rollup") as rollup:
            for line in rollup:
                if line.startswith("Pss_Anon:"):
                    return int(line.split()[1]) << 10
    except OSError:
        pass
    return 0
