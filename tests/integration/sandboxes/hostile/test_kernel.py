"""The kernel's rarer doors are shut: system calls by their numbers, whatever wrapper a language lacks."""

from __future__ import annotations

import errno
import json
import platform
from pathlib import Path

import pytest

from tests.integration.sandboxes.daemons import run
from tests.integration.sandboxes.hostile.rows import LANGUAGES, Row, both, play

NEW_USER, NEW_PID, NEW_NS, NEW_NET = 0x10000000, 0x20000000, 0x00020000, 0x40000000
SIGCHLD, CLONE_PARENT = 17, 0x8000
FILTERED = (errno.EPERM, errno.ENOSYS, errno.EAFNOSUPPORT)
# What it does, the call's number on x86-64, its arguments.
CALLS: list[tuple[str, int, tuple[int | str, ...]]] = [
    ("mounts a file system", 165, ("none", "/tmp", "tmpfs", 0, 0)),
    ("binds a folder over another", 165, ("/tmp", "/usr", "", 4096, 0)),
    ("unmounts its scratch", 166, ("/tmp", 2)),
    ("changes its root", 161, ("/tmp",)),
    ("swaps its root", 155, ("/tmp", "/tmp")),
    ("opens a file system", 430, ("tmpfs", 0)),
    ("configures a file system", 431, (0, 6, 0, 0, 0)),
    ("mounts an open file system", 432, (0, 0, 0)),
    ("picks a mount", 433, (-100, "/", 0)),
    ("moves a mount", 429, (-100, "/tmp", -100, "/usr", 0)),
    ("copies a mount", 428, (-100, "/", 1)),
    ("changes a mount", 442, (-100, "/", 0, 0, 0)),
    ("makes a user namespace", 272, (NEW_USER,)),
    ("makes a mount namespace", 272, (NEW_NS,)),
    ("makes a network namespace", 272, (NEW_NET,)),
    ("forks into a user namespace", 56, (NEW_USER | SIGCHLD, 0, 0, 0, 0)),
    ("forks into a process namespace", 56, (NEW_PID | SIGCHLD, 0, 0, 0, 0)),
    ("forks by the newer call", 435, (0, 88)),
    ("joins a namespace", 308, (0, 0)),
    ("traces its parent", 101, (16, 1, 0, 0)),
    ("lets itself be traced", 101, (0, 0, 0, 0)),
    ("reads the memory of pid 1", 310, (1, 0, 0, 0, 0, 0)),
    ("writes the memory of pid 1", 311, (1, 0, 0, 0, 0, 0)),
    ("advises the memory of another", 440, (0, 0, 0, 4, 0)),
    ("takes a descriptor of another", 438, (0, 0, 0)),
    ("compares with another", 312, (1, 1, 0, 0, 0)),
    ("takes the limits of pid 1 away", 302, (1, 7, "\0" * 16, 0)),
    ("loads a program into the kernel", 321, (0, 0, 0)),
    ("counts events of the kernel", 298, (0, 0, -1, -1, 0)),
    ("handles page faults", 323, (1,)),
    ("adds a key", 248, ("user", "a", "b", 1, -3)),
    ("asks for a key", 249, ("user", "a", 0, -3)),
    ("reads a keyring", 250, (0, -3, 0)),
    ("sets up a ring of calls", 425, (8, "\0" * 120)),
    ("enters a ring of calls", 426, (0, 0, 0, 0, 0, 0)),
    ("watches who opens which file", 253, ()),
    ("watches it by the newer call", 294, (0,)),
    ("watches a whole mount", 300, (0, 0)),
    ("opens a file by its handle", 304, (-100, 0, 0)),
    ("asks for the handle of a file", 303, (-100, "/", 0, 0, 0)),
    ("loads another kernel", 246, (0, 0, 0, 0)),
    ("loads another kernel from a file", 320, (0, 0, 0, 0, 0)),
    ("loads a module", 175, (0, 0, "")),
    ("loads a module from a file", 313, (0, "", 0)),
    ("removes a module", 176, ("x", 0)),
    ("restarts the machine", 169, (0, 0, 0, 0)),
    ("turns on swapping", 167, ("/tmp/x", 0)),
    ("turns on accounting", 163, ("/tmp/x",)),
    ("sets a quota", 179, (0, "/", 0, 0)),
    ("sets the clock", 227, (0, 0)),
    ("turns the clock", 305, (0, 0)),
    ("names the machine", 170, ("x", 1)),
    ("takes ports of the processor", 172, (3,)),
    ("changes its segment table", 154, (1, 0, 0)),
    ("reads the kernel's messages", 103, (3, 0, 0)),
    ("becomes another kind of program", 135, (0x0040000,)),
    ("filters its own calls", 317, (1, 0, 0)),
    ("hangs up a terminal", 153, ()),
    ("makes shared memory", 29, (0, 4096, 0o1777)),
    ("makes a semaphore", 64, (0, 1, 0o1777)),
    ("makes a message queue", 68, (0, 0o1777)),
    ("makes a queue with a name", 240, ("x", 0o102, 0o666, 0)),
    ("moves pages into a pipe", 278, (1, 0, 0, 0)),
    ("hides memory", 447, (0,)),
    ("makes a device", 133, ("/tmp/null", 0o020666, 0x103)),
    ("makes an internet socket", 41, (2, 1, 0)),
    ("makes a socket of the newer internet", 41, (10, 1, 0)),
    ("makes a socket that forges packets", 41, (2, 3, 255)),
    ("makes a socket below the internet", 41, (17, 3, 0)),
    ("makes a socket to the kernel", 41, (16, 3, 0)),
    ("makes a socket to the hypervisor", 41, (40, 1, 0)),
    ("makes a socket to the kernel's ciphers", 41, (38, 5, 0)),
    ("makes a pair of internet sockets", 53, (2, 1, 0, "\0" * 8)),
    ("makes a call of the future", 463, ()),
    ("makes a call that never was", 999, ()),
]
PYTHON = """
import ctypes, json, os
libc = ctypes.CDLL(None, use_errno=True)
said = []
for number, arguments in json.loads(os.environ['CALLS']):
    passed = [ctypes.create_string_buffer(a.encode()) if isinstance(a, str) else ctypes.c_long(a) for a in arguments]
    done = libc.syscall(ctypes.c_long(number), *passed)
    if done == 0 and number in (56, 435) and os.getpid() != 2: os._exit(0)
    said.append(ctypes.get_errno() if done < 0 else 0)
print(json.dumps(said))
"""
# Node calls the system by a program of the system, as any program can.
NODE = """
const calls = JSON.parse(process.env.CALLS);
const step = ([number, given]) => {
  const mine = given.map((a, n) => typeof a === 'string' ? `my $a${n} = pack("H*", "${Buffer.from(a).toString('hex')}");` : '');
  const passed = given.map((a, n) => typeof a === 'string' ? `$a${n}` : a);
  return `{ ${mine.join(' ')} $! = 0; my $r = syscall(${[number, ...passed].join(', ')}); push @said, $r < 0 ? $!+0 : 0; exit 0 if $$ != $me; }`;
};
const script = 'my $me = $$; my @said;' + calls.map(step).join('\\n') + 'print "[", join(",", @said), "]\\n";';
require('fs').writeFileSync('calls.pl', script);
process.stdout.write(require('child_process').execFileSync('/usr/bin/perl', ['calls.pl']));
"""
CODE = {"python": PYTHON, "node": NODE}


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the numbers are those of x86-64")
@pytest.mark.parametrize("language", LANGUAGES)
def test_no_rare_call_is_let_through(attacked, language):
    if language == "node" and not Path("/usr/bin/perl").exists():
        pytest.skip("there is no /usr/bin/perl, by which Node could make a system call")
    calls = [(number, arguments) for _, number, arguments in CALLS]

    outcome = run(attacked, CODE[language], language=language, env={"CALLS": json.dumps(calls)})

    assert outcome.exit_code == 0, outcome.stderr
    said = dict(zip((says for says, *_ in CALLS), json.loads(outcome.stdout), strict=True))
    assert {says: number for says, number in said.items() if number not in FILTERED} == {}


NO_NATIVE_CODE = "it has no way to run machine code in its own process without a native add-on"
ENDS = [
    Row(
        "calls the system as a 32-bit program",
        python="""
        import ctypes, mmap
        code = mmap.mmap(-1, 4096, prot=7)
        code.write(bytes.fromhex('b814000000cd80c3'))
        ctypes.CFUNCTYPE(ctypes.c_long)(ctypes.addressof(ctypes.c_char.from_buffer(code)))()
        """,
        why_not=NO_NATIVE_CODE,
        ends={"exit_code": None, "breach": None},
    ),
    Row(
        "calls the system by the numbers of a third kind of program",
        python="import ctypes; ctypes.CDLL(None).syscall(0x40000000 + 39)",
        node="const {signal} = require('child_process').spawnSync('/usr/bin/perl', ['-e', 'syscall(0x40000000 + 39)']); process.kill(process.pid, signal)",
        ends={"exit_code": None, "signal": 31, "breach": None},
    ),
    Row(
        "makes brothers that its pid 1 has to bury",
        python=f"""
        import ctypes, os
        for n in range(40):
            if ctypes.CDLL(None).syscall(56, {CLONE_PARENT | SIGCHLD}, 0, 0, 0, 0) == 0: os._exit(7)
        os._exit(3)
        """,
        why_not=NO_NATIVE_CODE,
        ends={"exit_code": 3, "breach": None},
    ),
    Row(
        "crashes",
        python="import ctypes; ctypes.string_at(0)",
        node="process.kill(process.pid, 'SIGSEGV'); for (;;);",
        ends={"exit_code": None, "signal": 11, "breach": None},
    ),
    Row(
        "has no core dumped, whatever it sets",
        python="""
        import resource
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        print(resource.getrlimit(resource.RLIMIT_CORE))
        """,
        node="""
        const limits = require('child_process').execSync('ulimit -c 0; cat /proc/self/limits').toString();
        const [, soft, hard] = limits.match(/core file size +([0-9]+) +([0-9]+)/);
        console.log(`(${soft}, ${hard})`);
        """,
        ends={"exit_code": 0, "stdout": b"(1, 1)\n"},
    ),
]


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the numbers are those of x86-64")
@both(ENDS)
def test_it_ends_as_it_must(attacked, row, language):
    play(attacked, row, language)
