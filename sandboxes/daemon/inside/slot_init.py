"""Pid 1 of one slot: makes the place, starts the program, and alone reports how it ended.

The program cannot reach this process: no signal from inside stops pid 1, it is not dumpable,
and its socket is closed in the program. So its report is the kernel's word, not the program's.
"""

import array
import fcntl
import json
import os
import resource
import select
import signal
import socket
import struct
import sys

import kernel
import program

SCRATCH = "/scratch"
PLACES = (("workspace", "/workspace", 0o755), ("tmp", "/tmp", 0o1777), ("shm", "/dev/shm", 0o1777))
INODES = 20_000
# status, user seconds, system seconds, peak memory in bytes, 1 when the soft memory limit ended it
REPORT = struct.Struct("!iddQB")
SAMPLE_MS = 25
CRASHES = (signal.SIGSEGV, signal.SIGABRT, signal.SIGTRAP, signal.SIGILL, signal.SIGBUS)
NEARLY = 0.75
PROGRAM_DESCRIPTOR = 3
WAITING_CONNECTIONS = 128


def run(*, settings: dict, order: dict, descriptors: list[int], gate: int) -> None:
    control = socket.socket(fileno=descriptors[0])
    try:
        if os.read(gate, 1) != b"1":
            return
        os.close(gate)
        _settle(settings=settings, order=order, control=control)
        if control.recv(16) != b"go":
            return
        child = os.fork()
        if child == 0:
            control.close()
            _become_program(settings=settings, descriptors=descriptors[1:])
            os._exit(70)
        _close_all_but(control.fileno())
        _watch(control=control, child=child, order=order, soft=settings["soft_memory"])
    except BaseException as problem:
        print(f"slot: {type(problem).__name__}: {problem}", file=sys.stderr)
    finally:
        os._exit(71)


def _settle(*, settings: dict, order: dict, control: socket.socket) -> None:
    """Become the slot's own user in its own session, hostname, /proc and scratch space."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    user = settings["user"]
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)
    # kill(0) reaches the whole process group, across pid namespaces.
    os.setsid()
    os.umask(0o022)
    kernel.set_hostname("sandbox")
    scratch = _mount_scratch(order["disk_mb"])
    quiet = kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC
    kernel.mount("proc", "/proc", "proc", quiet)
    _write("/proc/sys/user/max_user_namespaces", "0")
    kernel.mount(None, "/proc", None, kernel.MS_REMOUNT | kernel.MS_BIND | kernel.MS_RDONLY | quiet)
    given = [scratch, *_way_out(settings["proxy_port"])]
    kernel.keep_capabilities((kernel.CAP_SETPCAP, kernel.CAP_SYS_ADMIN, kernel.CAP_SYS_PTRACE))
    kernel.set_dumpable(False)
    control.sendmsg([b"settled"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", given))])
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


def _mount_scratch(disk_mb: int) -> int:
    """One file system under every writable place, so that one size bounds them all."""
    flags = kernel.MS_NOSUID | kernel.MS_NODEV
    kernel.mount("scratch", SCRATCH, "tmpfs", flags, f"size={disk_mb}m,nr_inodes={INODES},mode=0755")
    for name, target, mode in PLACES:
        path = f"{SCRATCH}/{name}"
        os.mkdir(path)
        os.chmod(path, mode)
        kernel.mount(path, target, None, kernel.MS_BIND)
    os.mkdir("/workspace/artifacts")
    descriptor = os.open(SCRATCH, os.O_RDONLY | os.O_DIRECTORY)
    kernel.unmount(SCRATCH)
    # The terminals under bubblewrap's /dev would be common to all slots.
    kernel.mount("none", "/dev/pts", "tmpfs", flags | kernel.MS_RDONLY, "size=4k,nr_inodes=1")
    return descriptor


def _write(path: str, content: str) -> None:
    descriptor = os.open(path, os.O_WRONLY)
    try:
        os.write(descriptor, content.encode())
    finally:
        os.close(descriptor)


def _close_all_but(kept: int) -> None:
    quiet = os.open("/dev/null", os.O_RDWR)
    for number in (0, 1):
        os.dup2(quiet, number)
    os.closerange(3, kept)
    os.closerange(kept + 1, 1 << 16)


def _become_program(*, settings: dict, descriptors: list[int]) -> None:
    """Take the slot's descriptors, give up every right, and wait for the one request."""
    orders, *streams = descriptors
    # Copies far above, so that none is overwritten while the low numbers are dealt out.
    high = [fcntl.fcntl(descriptor, fcntl.F_DUPFD, 100) for descriptor in (*streams, orders)]
    for number, descriptor in enumerate(high):
        os.dup2(descriptor, number)
    os.closerange(PROGRAM_DESCRIPTOR + 1, 1 << 16)
    os.chdir("/workspace")
    kernel.keep_capabilities(())
    kernel.forbid_new_privileges()
    kernel.filter_calls(settings["filter"])
    kernel.set_dumpable(True)
    if settings["language"] == "node":
        os.execve(settings["command"][0], settings["command"], settings["env"])
    program.run(descriptor=PROGRAM_DESCRIPTOR, env=settings["env"])


def _watch(*, control: socket.socket, child: int, order: dict, soft: bool) -> None:
    """Reap whatever dies, obey the daemon's two messages, and report when the program itself has ended."""
    woken, wake = os.pipe()
    os.set_blocking(woken, False)
    os.set_blocking(wake, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    # The program may send SIGCHLD as often as it likes.
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    poll = select.poll()
    poll.register(control, select.POLLIN)
    poll.register(woken, select.POLLIN)
    memory = Memory(limit=0)
    disk_mb = order["disk_mb"]
    ended = _reap(child)
    while ended is None:
        events = dict(poll.poll(SAMPLE_MS if memory.limit else None))
        if control.fileno() in events:
            message = control.recv(4096)
            if not message:
                return
            if message == b"end":
                os.kill(child, signal.SIGKILL)
                ended = os.waitpid(child, 0)[1]
                break
            armed = json.loads(message)
            _arm(child=child, order=armed, disk_mb=disk_mb)
            disk_mb = armed["disk_mb"]
            memory = Memory(limit=armed["soft_memory_mb"] << 20)
            control.send(b"armed")
        if woken in events:
            _drain(woken)
        if soft and memory.is_over():
            os.kill(child, signal.SIGKILL)
        ended = _reap(child)
    _end_everything()
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    peak = max(memory.peak, used.ru_maxrss << 10 if soft else 0)
    control.send(REPORT.pack(ended, used.ru_utime, used.ru_stime, peak, memory.is_what_ended(ended)))


def _drain(descriptor: int) -> None:
    try:
        while os.read(descriptor, 4096):
            pass
    except BlockingIOError:
        return


def _reap(child: int) -> int | None:
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


def _end_everything() -> None:
    """Nothing outlives the main process: its descendants die even if they hold stdout."""
    try:
        os.kill(-1, signal.SIGKILL)
        while True:
            os.waitpid(-1, 0)
    except (ProcessLookupError, ChildProcessError):
        return


def _arm(*, child: int, order: dict, disk_mb: int) -> None:
    """Put the request's own limits on the waiting program, before it sees the request."""
    if order["disk_mb"] != disk_mb:
        flags = kernel.MS_REMOUNT | kernel.MS_NOSUID | kernel.MS_NODEV
        kernel.mount(None, "/workspace", None, flags, f"size={order['disk_mb']}m,nr_inodes={INODES}")
    for limit, value in _bounds(child=child, order=order).items():
        # The scratch space bounds what files hold; only this limit may have to be raised by a second order.
        hard = resource.RLIM_INFINITY if limit == resource.RLIMIT_FSIZE else value
        resource.prlimit(child, limit, (value, hard))
    if order["cpus"]:
        os.sched_setaffinity(child, sorted(os.sched_getaffinity(child))[: order["cpus"]])


def _bounds(*, child: int, order: dict) -> dict[int, int]:
    bounds = {
        resource.RLIMIT_FSIZE: order["disk_mb"] << 20,
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
    if order["soft_processes"]:
        # The init counts as well.
        bounds[resource.RLIMIT_NPROC] = order["soft_processes"] + 1
    if order["soft_memory_mb"]:
        # What was mapped before the program began is not the program's.
        bounds[resource.RLIMIT_DATA] = (order["soft_memory_mb"] << 20) + _mapped_bytes(child)
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
        held = sum(_private_bytes(name) for name in os.listdir("/proc") if name.isdigit() and name != "1")
        scratch = os.statvfs("/workspace")
        held += (scratch.f_blocks - scratch.f_bfree) * scratch.f_frsize
        self.peak = max(self.peak, held)
        self.exceeded = self.exceeded or held > self.limit
        return self.exceeded

    def is_what_ended(self, status: int) -> bool:
        """Also when it was refused memory and crashed without a word, as V8 does."""
        crashed = os.WIFSIGNALED(status) and os.WTERMSIG(status) in CRASHES
        return self.exceeded or (crashed and self.peak > self.limit * NEARLY > 0)


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
