"""The filter, run by a small interpreter of its own: what it answers is what the kernel would."""

from __future__ import annotations

import errno
import re
import struct
from pathlib import Path

import pytest

from sandboxes.daemon import seccomp

ALLOWED, KILLED = seccomp.ALLOW, seccomp.KILL
HEADERS = {
    "x86_64": Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h"),
    "aarch64": Path("/usr/include/asm-generic/unistd.h"),
}


def refused(number: int) -> int:
    return 0x00050000 | number


def answer(machine: str, call: int, *arguments: int, arch: int | None = None, **options: bool) -> int:
    """What the filter says to one system call."""
    program = [*struct.iter_unpack("=HBBI", seccomp.build(machine=machine, **options))]
    values = [*arguments, *[0] * (6 - len(arguments))]
    facts = struct.pack("=IIQ6Q", call, arch or seccomp.MACHINES[machine][0], 0, *values)
    at, register = 0, 0
    while True:
        op, true, false, value = program[at]
        at += 1
        if op == seccomp.RETURN:
            return value
        if op == seccomp.LOAD:
            register = struct.unpack_from("=I", facts, value)[0]
        elif op == seccomp.AND:
            register &= value
        else:
            tests = {
                seccomp.JUMP_EQUAL: register == value,
                seccomp.JUMP_AT_LEAST: register >= value,
                seccomp.JUMP_ANY_BIT: bool(register & value),
            }
            at += true if tests[op] else false


@pytest.mark.parametrize("machine", seccomp.MACHINES)
def test_the_rare_doors_are_shut(machine):
    calls = seccomp.MACHINES[machine][1]

    assert {answer(machine, calls[name]) for name in calls if name not in seccomp.SPECIAL} == {refused(errno.EPERM)}


@pytest.mark.parametrize("machine", seccomp.MACHINES)
def test_ordinary_calls_go_through(machine):
    listed = set(seccomp.MACHINES[machine][1].values())

    assert {answer(machine, call) for call in range(400) if call not in listed} == {ALLOWED}


@pytest.mark.parametrize("machine", seccomp.MACHINES)
def test_threads_and_forks_are_allowed_and_namespaces_are_not(machine):
    clone = seccomp.MACHINES[machine][1]["clone"]

    assert answer(machine, clone, 0x3D0F00) == ALLOWED
    assert answer(machine, clone, 17) == ALLOWED
    for flag in (0x00020000, 0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000):
        assert answer(machine, clone, flag | 17) == refused(errno.EPERM)


@pytest.mark.parametrize("machine", seccomp.MACHINES)
def test_only_unix_sockets(machine):
    calls = seccomp.MACHINES[machine][1]

    for name in ("socket", "socketpair"):
        assert answer(machine, calls[name], 1) == ALLOWED
        assert {answer(machine, calls[name], family) for family in range(2, 50)} == {refused(errno.EAFNOSUPPORT)}


@pytest.mark.parametrize("machine", seccomp.MACHINES)
def test_with_a_network_tcp_is_all_that_is_added(machine):
    calls = seccomp.MACHINES[machine][1]
    stream, datagram, raw, nonblocking_cloexec = 1, 2, 3, 0x80800

    def socket(*arguments: int) -> int:
        return answer(machine, calls["socket"], *arguments, network=True)

    for family in (2, 10):
        assert {socket(family, stream | nonblocking_cloexec, protocol) for protocol in (0, 6)} == {ALLOWED}
        assert {socket(family, kind) for kind in (datagram, raw, 5, 6)} == {refused(errno.EPROTONOSUPPORT)}
        assert {socket(family, stream, protocol) for protocol in (132, 262)} == {refused(errno.EPROTONOSUPPORT)}
    assert socket(1, datagram) == ALLOWED
    assert {socket(family, stream) for family in range(3, 50) if family != 10} == {refused(errno.EAFNOSUPPORT)}
    assert answer(machine, calls["socketpair"], 2, network=True) == refused(errno.EAFNOSUPPORT)
    assert answer(machine, calls["mount"], network=True) == refused(errno.EPERM)


@pytest.mark.parametrize("machine", seccomp.MACHINES)
def test_terminals_cannot_be_typed_into(machine):
    ioctl = seccomp.MACHINES[machine][1]["ioctl"]

    assert answer(machine, ioctl, 0, 0x5412) == refused(errno.EPERM)
    assert answer(machine, ioctl, 0, 0x541C) == refused(errno.EPERM)
    assert answer(machine, ioctl, 0, 0x5401) == ALLOWED


@pytest.mark.parametrize("machine", seccomp.MACHINES)
def test_pipes_and_files_can_be_made_and_devices_cannot(machine):
    calls = seccomp.MACHINES[machine][1]

    for name, mode in {"mknod": (0,), "mknodat": (0, 0)}.items():
        for kind in (0o010000, 0o100000, 0o140000) if name in calls else ():
            assert answer(machine, calls[name], *mode, kind | 0o666) == ALLOWED
        for kind in (0o020000, 0o060000) if name in calls else ():
            assert answer(machine, calls[name], *mode, kind | 0o666) == refused(errno.EPERM)


@pytest.mark.parametrize("machine", seccomp.MACHINES)
def test_the_limits_of_pid_1_are_out_of_reach(machine):
    prlimit = seccomp.MACHINES[machine][1]["prlimit64"]

    assert answer(machine, prlimit, 1, 0, 0x7FFF0000, 0) == refused(errno.EPERM)
    assert answer(machine, prlimit, 0, 0, 0x7FFF0000, 0) == ALLOWED
    assert answer(machine, prlimit, 77, 0, 0x7FFF0000, 0) == ALLOWED


@pytest.mark.parametrize("machine", seccomp.MACHINES)
def test_the_core_limit_stays_whatever_is_set(machine):
    calls = seccomp.MACHINES[machine][1]

    assert answer(machine, calls["prlimit64"], 0, 4, 0x7FFF0000, 0) == refused(0)
    assert answer(machine, calls["setrlimit"], 4, 0x7FFF0000) == refused(0)
    assert answer(machine, calls["prlimit64"], 0, 4, 0, 0x7FFF0000) == ALLOWED
    assert answer(machine, calls["prlimit64"], 0, 7, 0x7FFF0000, 0) == ALLOWED
    assert answer(machine, calls["setrlimit"], 7, 0x7FFF0000) == ALLOWED


@pytest.mark.parametrize("machine", seccomp.MACHINES)
def test_memory_nobody_counts_is_refused_only_without_a_cgroup(machine):
    calls = seccomp.MACHINES[machine][1]
    shared = (calls["mmap"], 0, 0, 3, 0x21)

    assert answer(machine, *shared) == ALLOWED
    assert answer(machine, *shared, counted_memory=False) == refused(errno.EPERM)
    assert answer(machine, calls["mmap"], 0, 0, 3, 0x22, counted_memory=False) == ALLOWED
    assert answer(machine, calls["memfd_create"], counted_memory=False) == refused(errno.ENOSYS)


@pytest.mark.parametrize("machine", seccomp.MACHINES)
def test_fixed_processes_are_a_limit_that_can_be_read_and_not_set(machine):
    calls = seccomp.MACHINES[machine][1]
    processes, files = 6, 7

    def said(name: str, *arguments: int) -> int:
        return answer(machine, calls[name], *arguments, fixed_processes=True)

    assert said("setrlimit", processes, 0x1000) == refused(errno.EPERM)
    assert said("setrlimit", files, 0x1000) == ALLOWED
    # The pointer to the new limit may have either half zero.
    for pointer in (0x1000, 0x7F00_0000_0000, 0x7F00_0000_1000):
        assert said("prlimit64", 0, processes, pointer, 0) == refused(errno.EPERM)
        assert said("prlimit64", 0, files, pointer, 0) == ALLOWED
    assert said("prlimit64", 0, processes, 0, 0x1000) == ALLOWED
    assert answer(machine, calls["prlimit64"], 0, processes, 0x1000, 0) == ALLOWED


@pytest.mark.parametrize("machine", seccomp.MACHINES)
def test_other_architectures_and_newer_calls_do_not_slip_past(machine):
    assert answer(machine, 1, arch=0x40000003) == KILLED
    assert answer(machine, 463) == refused(errno.ENOSYS)
    assert answer(machine, seccomp.MACHINES[machine][1]["clone3"]) == refused(errno.ENOSYS)
    if machine == "x86_64":
        assert answer(machine, 0x40000001) == KILLED


def test_an_unknown_machine_has_no_filter():
    with pytest.raises(seccomp.UnknownMachine, match="riscv64"):
        seccomp.build(machine="riscv64")


@pytest.mark.parametrize("machine", seccomp.MACHINES)
def test_the_numbers_are_the_kernels(machine):
    if not HEADERS[machine].exists():
        pytest.skip(f"the kernel's list {HEADERS[machine]} is not installed")
    text = HEADERS[machine].read_text()
    kernel = {name: int(number) for name, number in re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)", text)}

    calls = seccomp.MACHINES[machine][1]

    assert {name: number for name, number in calls.items() if kernel.get(name, number) != number} == {}
