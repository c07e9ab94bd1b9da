"""Pure. The system-call filter of a sandboxed program, as classic BPF for prctl(PR_SET_SECCOMP).

A deny list: CPython and V8 run unchanged, while what reaches for the kernel's rarer doors
(namespaces, mounts, tracing, keys, BPF, io_uring, every socket family but AF_UNIX) is refused, and so is
watching shared folders (inotify tells who opens which file) and what could end the slot's pid 1.
With a network, TCP is allowed as well: no datagrams, nothing raw.
"""

from __future__ import annotations

import errno
import platform
import struct
from dataclasses import dataclass, field

ALLOW = 0x7FFF0000
KILL = 0x80000000
LOAD, JUMP_EQUAL, JUMP_AT_LEAST, JUMP_ANY_BIT, AND, RETURN = 0x20, 0x15, 0x35, 0x45, 0x54, 0x06
NR, ARCH, ARGS = 0, 4, 16

# Unknown, newer calls answer "not implemented", which every libc is ready for.
NEWEST_KNOWN = 462
NAMESPACE_FLAGS = 0x7E020000
AF_UNIX, AF_INET, AF_INET6 = 1, 2, 10
SOCK_STREAM, SOCK_TYPES, IPPROTO_TCP = 1, 0xF, 6
TIOCSTI, TIOCLINUX = 0x5412, 0x541C
SHARED_ANONYMOUS = 0x21
# The bit that character and block devices have, and pipes, sockets and files have not.
DEVICE = 0o020000
RLIMIT_CORE, RLIMIT_NPROC = 4, 6
INIT = 1

# fmt: off
X86_64 = {
    "ptrace": 101, "process_vm_readv": 310, "process_vm_writev": 311, "process_madvise": 440, "kcmp": 312,
    "pidfd_getfd": 438, "bpf": 321, "perf_event_open": 298, "userfaultfd": 323, "add_key": 248, "request_key": 249,
    "keyctl": 250, "io_uring_setup": 425, "io_uring_enter": 426, "io_uring_register": 427, "unshare": 272,
    "setns": 308, "mount": 165, "umount2": 166, "pivot_root": 155, "chroot": 161, "move_mount": 429, "open_tree": 428,
    "fsopen": 430, "fsconfig": 431, "fsmount": 432, "fspick": 433, "mount_setattr": 442, "statmount": 457,
    "listmount": 458, "name_to_handle_at": 303, "open_by_handle_at": 304, "kexec_load": 246, "kexec_file_load": 320,
    "init_module": 175, "finit_module": 313, "delete_module": 176, "reboot": 169, "swapon": 167, "swapoff": 168,
    "acct": 163, "quotactl": 179, "quotactl_fd": 443, "iopl": 172, "ioperm": 173, "modify_ldt": 154, "syslog": 103,
    "settimeofday": 164, "clock_settime": 227, "adjtimex": 159, "clock_adjtime": 305, "sethostname": 170,
    "setdomainname": 171, "personality": 135, "vhangup": 153, "mbind": 237, "set_mempolicy": 238,
    "set_mempolicy_home_node": 450, "migrate_pages": 256, "move_pages": 279, "fanotify_init": 300, "shmget": 29,
    "shmat": 30, "shmctl": 31, "shmdt": 67, "semget": 64, "semop": 65, "semctl": 66, "semtimedop": 220, "msgget": 68,
    "msgsnd": 69, "msgrcv": 70, "msgctl": 71, "mq_open": 240, "mq_unlink": 241, "mknod": 133, "mknodat": 259,
    "memfd_secret": 447, "vmsplice": 278, "uselib": 134, "sysfs": 139, "ustat": 136, "_sysctl": 156, "seccomp": 317,
    "lookup_dcookie": 212, "inotify_init": 253, "inotify_init1": 294, "clone": 56, "clone3": 435, "socket": 41,
    "socketpair": 53, "ioctl": 16, "mmap": 9, "memfd_create": 319, "prlimit64": 302, "setrlimit": 160,
}
AARCH64 = {
    "ptrace": 117, "process_vm_readv": 270, "process_vm_writev": 271, "process_madvise": 440, "kcmp": 272,
    "pidfd_getfd": 438, "bpf": 280, "perf_event_open": 241, "userfaultfd": 282, "add_key": 217, "request_key": 218,
    "keyctl": 219, "io_uring_setup": 425, "io_uring_enter": 426, "io_uring_register": 427, "unshare": 97, "setns": 268,
    "mount": 40, "umount2": 39, "pivot_root": 41, "chroot": 51, "move_mount": 429, "open_tree": 428, "fsopen": 430,
    "fsconfig": 431, "fsmount": 432, "fspick": 433, "mount_setattr": 442, "statmount": 457, "listmount": 458,
    "name_to_handle_at": 264, "open_by_handle_at": 265, "kexec_load": 104, "kexec_file_load": 294, "init_module": 105,
    "finit_module": 273, "delete_module": 106, "reboot": 142, "swapon": 224, "swapoff": 225, "acct": 89,
    "quotactl": 60, "quotactl_fd": 443, "syslog": 116, "settimeofday": 170, "clock_settime": 112, "adjtimex": 171,
    "clock_adjtime": 266, "sethostname": 161, "setdomainname": 162, "personality": 92, "vhangup": 58, "mbind": 235,
    "set_mempolicy": 237, "set_mempolicy_home_node": 450, "migrate_pages": 238, "move_pages": 239,
    "fanotify_init": 262, "shmget": 194, "shmat": 196, "shmctl": 195, "shmdt": 197, "semget": 190, "semop": 193,
    "semctl": 191, "semtimedop": 192, "msgget": 186, "msgsnd": 189, "msgrcv": 188, "msgctl": 187, "mq_open": 180,
    "mq_unlink": 181, "mknodat": 33, "memfd_secret": 447, "vmsplice": 75, "seccomp": 277, "lookup_dcookie": 18,
    "inotify_init1": 26, "clone": 220, "clone3": 435, "socket": 198, "socketpair": 199, "ioctl": 29, "mmap": 222,
    "memfd_create": 279, "prlimit64": 261, "setrlimit": 164,
}
# fmt: on
MACHINES = {"x86_64": (0xC000003E, X86_64), "aarch64": (0xC00000B7, AARCH64)}
MADE_IN_PART = {"mknod": 1, "mknodat": 2}
SPECIAL = {"clone", "clone3", "socket", "socketpair", "ioctl", "mmap", "memfd_create", "prlimit64", "setrlimit"}
SPECIAL |= MADE_IN_PART.keys()


class UnknownMachine(Exception):
    """There is no table of system calls for this processor, so no filter either."""


@dataclass
class _Assembler:
    """Rules in order; each one that does not match falls through to the next."""

    code: list[tuple[int, int, int, int]] = field(default_factory=list)

    def add(self, op: int, value: int, true: int = 0, false: int = 0) -> None:
        self.code.append((op, true, false, value))

    def answer_if(self, number: int, answer: int) -> None:
        self.add(JUMP_EQUAL, number, 0, 1)
        self.add(RETURN, answer)

    def answer_if_arguments(self, number: int, *tests: tuple[int, int, int], answer: int) -> None:
        """Answer when the call is `number` and its arguments pass every test: (which, an opcode, a value)."""
        rest = 2 * len(tests) + 1
        self.add(JUMP_EQUAL, number, 0, rest + 1)
        for index, op, value in tests:
            rest -= 2
            self.add(LOAD, ARGS + 8 * index)
            self.add(op, value, 0, rest)
        self.add(RETURN, answer)
        self.add(LOAD, NR)

    def answer_unless_unix(self, number: int) -> None:
        self.add(JUMP_EQUAL, number, 0, 4)
        self.add(LOAD, ARGS)
        self.add(JUMP_EQUAL, AF_UNIX, 1, 0)
        self.add(RETURN, refusal(errno.EAFNOSUPPORT))
        self.add(LOAD, NR)

    def answer_unless_unix_or_tcp(self, number: int) -> None:
        self.add(JUMP_EQUAL, number, 0, 13)
        self.add(LOAD, ARGS)
        self.add(JUMP_EQUAL, AF_UNIX, 10, 0)
        self.add(JUMP_EQUAL, AF_INET, 2, 0)
        self.add(JUMP_EQUAL, AF_INET6, 1, 0)
        self.add(RETURN, refusal(errno.EAFNOSUPPORT))
        self.add(LOAD, ARGS + 8)
        self.add(AND, SOCK_TYPES)
        self.add(JUMP_EQUAL, SOCK_STREAM, 0, 3)
        self.add(LOAD, ARGS + 8 * 2)
        self.add(JUMP_EQUAL, 0, 2, 0)
        self.add(JUMP_EQUAL, IPPROTO_TCP, 1, 0)
        self.add(RETURN, refusal(errno.EPROTONOSUPPORT))
        self.add(LOAD, NR)

    def refuse_shared_anonymous(self, number: int) -> None:
        self.add(JUMP_EQUAL, number, 0, 5)
        self.add(LOAD, ARGS + 8 * 3)
        self.add(AND, SHARED_ANONYMOUS)
        self.add(JUMP_EQUAL, SHARED_ANONYMOUS, 0, 1)
        self.add(RETURN, refusal(errno.EPERM))
        self.add(LOAD, NR)

    def answer_if_new_limit(self, number: int, limit: int, answer: int) -> None:
        """`prlimit64` only reads where its third argument, a pointer of two halves, is null."""
        self.add(JUMP_EQUAL, number, 0, 8)
        self.add(LOAD, ARGS + 8 * 1)
        self.add(JUMP_EQUAL, limit, 0, 5)
        self.add(LOAD, ARGS + 8 * 2)
        self.add(JUMP_EQUAL, 0, 0, 2)
        self.add(LOAD, ARGS + 8 * 2 + 4)
        self.add(JUMP_EQUAL, 0, 1, 0)
        self.add(RETURN, answer)
        self.add(LOAD, NR)

    def bytes(self) -> bytes:
        return b"".join(struct.pack("=HBBI", *step) for step in self.code)


def refusal(number: int) -> int:
    return 0x00050000 | number


def build(
    *, machine: str = "", counted_memory: bool = True, network: bool = False, fixed_processes: bool = False
) -> bytes:
    """The filter; without counted memory it also refuses what no rlimit counts, with a network it allows TCP.

    With fixed processes a program cannot set its limit of processes, so that limit need not be a hard one.
    """
    machine = machine or platform.machine()
    if machine not in MACHINES:
        raise UnknownMachine(f"There is no system-call table for {machine}.")
    arch, calls = MACHINES[machine]
    out = _Assembler()
    _check_arch(out, arch=arch, machine=machine)
    no = refusal(errno.EPERM)
    out.answer_if_arguments(calls["clone"], (0, JUMP_ANY_BIT, NAMESPACE_FLAGS), answer=no)
    out.answer_if(calls["clone3"], refusal(errno.ENOSYS))
    (out.answer_unless_unix_or_tcp if network else out.answer_unless_unix)(calls["socket"])
    out.answer_unless_unix(calls["socketpair"])
    for request in (TIOCSTI, TIOCLINUX):
        out.answer_if_arguments(calls["ioctl"], (1, JUMP_EQUAL, request), answer=no)
    for name, mode in MADE_IN_PART.items():
        if name in calls:
            out.answer_if_arguments(calls[name], (mode, JUMP_ANY_BIT, DEVICE), answer=no)
    _guard_limits(out, calls, fixed_processes=fixed_processes)
    if not counted_memory:
        out.refuse_shared_anonymous(calls["mmap"])
        out.answer_if(calls["memfd_create"], refusal(errno.ENOSYS))
    for name, number in calls.items():
        if name not in SPECIAL:
            out.answer_if(number, no)
    out.add(RETURN, ALLOW)
    return out.bytes()


def _guard_limits(out: _Assembler, calls: dict[str, int], *, fixed_processes: bool) -> None:
    """Pid 1 has the program's own user, so its limits are in reach, and without them it would die.

    A core limit of one byte is the only one that keeps the machine's core handler from being run, as root,
    on a program that crashed. Setting another is answered with success, and does nothing.
    """
    out.answer_if_arguments(calls["prlimit64"], (0, JUMP_EQUAL, INIT), answer=refusal(errno.EPERM))
    _fix_limit(out, calls, RLIMIT_CORE, refusal(0))
    if fixed_processes:
        _fix_limit(out, calls, RLIMIT_NPROC, refusal(errno.EPERM))


def _fix_limit(out: _Assembler, calls: dict[str, int], limit: int, answer: int) -> None:
    out.answer_if_new_limit(calls["prlimit64"], limit, answer)
    out.answer_if_arguments(calls["setrlimit"], (0, JUMP_EQUAL, limit), answer=answer)


def _check_arch(out: _Assembler, *, arch: int, machine: str) -> None:
    out.add(LOAD, ARCH)
    out.add(JUMP_EQUAL, arch, 1, 0)
    out.add(RETURN, KILL)
    out.add(LOAD, NR)
    if machine == "x86_64":
        out.add(JUMP_AT_LEAST, 0x40000000, 0, 1)
        out.add(RETURN, KILL)
    out.add(JUMP_AT_LEAST, NEWEST_KNOWN + 1, 0, 1)
    out.add(RETURN, refusal(errno.ENOSYS))
