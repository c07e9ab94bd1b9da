"""The place a program runs in, made inside the virtual machine: read-only system, one bounded scratch, no way up.

Standard library only; uploaded beside the daemon's `kernel.py`. Runs as root of the machine.
"""

import contextlib
import ctypes
import os
import resource
import socket

import kernel

HOME = "/opt/ntd"
SCRATCH = f"{HOME}/scratch"
OUT = f"{HOME}/out"
PLACES = (
    ("workspace", "/workspace", 0o755),
    ("tmp", "/tmp", 0o1777),
    ("tmp", "/var/tmp", 0o1777),
    ("shm", "/dev/shm", 0o1777),
)
INODES = 20_000
# What an interpreter maps before the program begins is not the program's.
INTERPRETER_MB = 64
# Nobody's in any template: it owns nothing, and may do nothing that root has not given everybody.
USER, GATEWAY_USER = 61_000, 61_001
MS_PRIVATE = 1 << 18
SYS_MOUNT_SETATTR = 442
AT_FDCWD, AT_RECURSIVE, MOUNT_ATTR_RDONLY = -100, 0x8000, 1
_libc = ctypes.CDLL(None, use_errno=True)


def leave() -> None:
    """Take namespaces of its own for what this process forks next; the network has nothing in it."""
    flags = kernel.CLONE_NEWNS | kernel.CLONE_NEWPID | kernel.CLONE_NEWIPC | kernel.CLONE_NEWUTS | kernel.CLONE_NEWNET
    _checked(_libc.unshare(ctypes.c_int(flags)), "unshare")


def knows_users() -> bool:
    """False in a machine that knows one user only: then that is the program's too."""
    with open("/proc/self/uid_map") as ranges:
        spans = [[int(number) for number in line.split()] for line in ranges]
    return any(first <= USER and first + length > GATEWAY_USER for first, _, length in spans)


def settle(*, disk_mb: int) -> int:
    """Make everything read-only but the scratch; returns a descriptor of the scratch."""
    for path in (SCRATCH, OUT, *(target for _, target, _ in PLACES)):
        os.makedirs(path, exist_ok=True)
    os.chmod(OUT, 0o700)
    _make_read_only()
    kernel.mount(OUT, OUT, None, kernel.MS_BIND)
    kernel.mount(None, OUT, None, kernel.MS_REMOUNT | kernel.MS_BIND)
    kernel.mount("proc", "/proc", "proc", kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC)
    socket.sethostname("sandbox")
    return _mount_scratch(disk_mb)


def _make_read_only() -> None:
    wanted = (ctypes.c_uint64 * 4)(MOUNT_ATTR_RDONLY, 0, MS_PRIVATE, 0)
    size = ctypes.c_size_t(ctypes.sizeof(wanted))
    call = (ctypes.c_long(SYS_MOUNT_SETATTR), ctypes.c_int(AT_FDCWD), b"/", ctypes.c_uint(AT_RECURSIVE))
    _checked(_libc.syscall(*call, ctypes.byref(wanted), size), "mount_setattr /")


def _mount_scratch(disk_mb: int) -> int:
    """One file system under every writable place, so that one size bounds them all."""
    flags = kernel.MS_NOSUID | kernel.MS_NODEV
    kernel.mount("scratch", SCRATCH, "tmpfs", flags, f"size={disk_mb}m,nr_inodes={INODES},mode=0755")
    for name, target, mode in PLACES:
        path = f"{SCRATCH}/{name}"
        os.makedirs(path, exist_ok=True)
        os.chmod(path, mode)
        kernel.mount(path, target, None, kernel.MS_BIND)
    os.mkdir("/workspace/artifacts")
    if knows_users():
        for path in ("/workspace", "/workspace/artifacts"):
            os.chown(path, USER, USER)
    descriptor = os.open(SCRATCH, os.O_RDONLY | os.O_DIRECTORY)
    kernel.unmount(SCRATCH)
    return descriptor


def step_down(*, order: dict, soft: bool) -> None:
    """Give up every right and take the limits of one process; the last thing before the program is executed."""
    os.setsid()
    os.umask(0o022)
    weigh(500)
    for limit, value in _bounds(order=order, soft=soft).items():
        resource.setrlimit(limit, (value, value))
    if soft:
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, cores[: max(1, round(order["cpu"] + 0.4999))])
    if knows_users():
        os.setgroups([])
        os.setresgid(USER, USER, USER)
        os.setresuid(USER, USER, USER)
    kernel.keep_capabilities(())
    kernel.forbid_new_privileges()
    os.chdir("/workspace")


def weigh(adjustment: int) -> None:
    """How soon the kernel ends this process when memory is short; not every root may say so."""
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write(str(adjustment))


def _bounds(*, order: dict, soft: bool) -> dict:
    bounds = {
        resource.RLIMIT_FSIZE: order["disk_mb"] << 20,
        resource.RLIMIT_NOFILE: 1024,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_MEMLOCK: 0,
        resource.RLIMIT_MSGQUEUE: 0,
        resource.RLIMIT_SIGPENDING: 1024,
    }
    if soft:
        bounds[resource.RLIMIT_NPROC] = order["processes"]
        bounds[resource.RLIMIT_DATA] = (order["memory_mb"] + INTERPRETER_MB) << 20
    return bounds


def _checked(result: int, what: str) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
