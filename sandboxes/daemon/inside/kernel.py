"""The kernel calls Python does not offer, for code that runs inside bubblewrap. Standard library only."""

import contextlib
import ctypes
import fcntl
import os
import platform
import socket
import struct
from collections.abc import Iterable

_libc = ctypes.CDLL(None, use_errno=True)
# PyDLL keeps the interpreter lock, which a fork must hold.
_locked = ctypes.PyDLL(None)

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC = 1, 2, 4, 8
MS_REMOUNT, MS_BIND, MS_REC = 32, 4096, 16384
MNT_DETACH = 2

CLONE_NEWNS, CLONE_NEWCGROUP, CLONE_NEWUTS, CLONE_NEWIPC = 0x00020000, 0x02000000, 0x04000000, 0x08000000
CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = 0x10000000, 0x20000000, 0x40000000
EVERY_NAMESPACE = (
    CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET
)
SIGCHLD = 17
SYS_CLONE = {"x86_64": 56, "aarch64": 220}[platform.machine()]

PR_GET_DUMPABLE, PR_SET_DUMPABLE, PR_SET_KEEPCAPS, PR_SET_SECCOMP = 3, 4, 8, 22
PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS = 24, 38
PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL = 47, 4
CAP_KILL, CAP_SETPCAP, CAP_NET_ADMIN, CAP_SYS_PTRACE, CAP_SYS_ADMIN, CAP_SYS_RESOURCE = 5, 8, 12, 19, 21, 24
HIGHEST_CAPABILITY = 63
SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 1
# An interface's name and its flags, padded to the size of the kernel's structure.
INTERFACE = struct.Struct("16sh22x")

REHEARSALS = 20
NOWHERE = "/nowhere"


_libc.mount.argtypes = (ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p)
_libc.umount2.argtypes = (ctypes.c_char_p, ctypes.c_int)
_libc.prctl.argtypes = (ctypes.c_int, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong)
_locked.syscall.argtypes = (ctypes.c_long, *(ctypes.c_ulong,) * 5)
_locked.syscall.restype = ctypes.c_long
# Made once: ctypes does not keep them.
_Header, _Sets = ctypes.c_uint32 * 2, ctypes.c_uint32 * 6


def rehearse() -> None:
    """Call what changes nothing as often as an interpreter wants to see a function before it stops learning it."""
    for _ in range(REHEARSALS):
        prctl(PR_GET_DUMPABLE)
        for attempt in (lambda: mount(NOWHERE, NOWHERE, NOWHERE, 0, "size=0"), lambda: unmount(NOWHERE)):
            with contextlib.suppress(OSError):
                attempt()
        _Header(0, 0), _Sets(0, 0, 0, 0, 0, 0)


def _checked(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def _text(value: str | None) -> bytes | None:
    return None if value is None else os.fsencode(value)


def mount(source: str | None, target: str, kind: str | None, flags: int, options: str | None = None) -> None:
    result = _libc.mount(_text(source), _text(target), _text(kind), flags, _text(options))
    _checked(result, f"mount {target}")


def unmount(target: str) -> None:
    _checked(_libc.umount2(_text(target), MNT_DETACH), f"unmount {target}")


def raise_loopback() -> None:
    """A new network namespace has nothing but a loopback, and that is down."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        name, flags = INTERFACE.unpack(fcntl.ioctl(asking, SIOCGIFFLAGS, INTERFACE.pack(b"lo", 0)))
        fcntl.ioctl(asking, SIOCSIFFLAGS, INTERFACE.pack(name, flags | IFF_UP))


def fork_into_namespaces() -> int:
    """Fork so that the child is the first process of namespaces of its own.

    Without what Python does around a fork: it is for processes with threads, and this one has none.
    """
    return _locked.syscall(SYS_CLONE, EVERY_NAMESPACE | SIGCHLD, 0, 0, 0, 0)


def prctl(option: int, *values: int) -> int:
    return _libc.prctl(option, *(*values, 0, 0, 0, 0)[:4])


def set_dumpable(value: bool) -> None:
    prctl(PR_SET_DUMPABLE, int(value))


def keep_capabilities(kept: tuple[int, ...], *, of: Iterable[int] = range(HIGHEST_CAPABILITY + 1)) -> None:
    """Drop every capability but `kept`, for good: from the bounding and ambient sets too.

    `of`: those that are not gone from the bounding set already.
    """
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL)
    for capability in of:
        # EINVAL beyond the last capability this kernel knows.
        if capability not in kept and prctl(PR_CAPBSET_DROP, capability) < 0:
            break
    mask = sum(1 << capability for capability in kept)
    header = _Header(0x20080522, 0)
    low, high = mask & 0xFFFFFFFF, mask >> 32
    sets = _Sets(low, low, 0, high, high, 0)
    _checked(_libc.capset(header, sets), "capset")


def keep_capabilities_over_users() -> None:
    """A change from root to another user would otherwise drop them all."""
    _checked(prctl(PR_SET_KEEPCAPS, 1), "keep capabilities")


def become_user_of_own_namespace(user: int) -> None:
    """Root of here becomes `user` of a user namespace of its own, where nobody else is."""
    _checked(_libc.unshare(ctypes.c_int(CLONE_NEWUSER)), "unshare the user namespace")
    for name in ("uid_map", "gid_map"):
        with open(f"/proc/self/{name}", "w") as out:
            out.write(f"{user} 0 1")


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("steps", ctypes.c_void_p))


def forbid_new_privileges() -> None:
    _checked(prctl(PR_SET_NO_NEW_PRIVS, 1), "no_new_privs")


def filter_calls(bpf: bytes) -> None:
    steps = ctypes.create_string_buffer(bpf, len(bpf))
    program = _Program(len(bpf) // 8, ctypes.addressof(steps))
    _checked(prctl(PR_SET_SECCOMP, 2, ctypes.addressof(program)), "seccomp")
