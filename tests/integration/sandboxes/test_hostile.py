"""Programs that attack: each fails, leaves nothing behind, and the next execution is right."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections.abc import Iterator

import pytest

from sandboxes.limits import Limits
from tests.integration.sandboxes import daemons
from tests.integration.sandboxes.daemons import eventually, make_request, run, watch

TRY = """
import os, errno
def attempt(name, action):
    try:
        action()
    except OSError as problem:
        print(name, 'refused')
    else:
        print(name, 'WORKED')
"""


@pytest.fixture
def runtime(daemon) -> Iterator[object]:
    """The daemon's runtime; afterwards nothing is left and a victim's run is right."""
    yield daemon.runtime
    assert eventually(daemon.is_quiet, within_seconds=10), [each.cmdline() for each in daemon.descendants()]
    after = run(daemon.runtime, "import os; print(sorted(os.listdir('.')), sorted(os.listdir('/tmp')), 6 * 7)")
    assert after.stdout == b"['artifacts'] [] 42\n"


@pytest.fixture
def needs_node(daemon) -> None:
    if "node" not in daemon.runtime.describe()["languages"]:
        if os.environ.get("NTD_REQUIRE_SANDBOX") == "1":
            pytest.fail("there is no Node here: put node on PATH or set NTD_TEST_NODE")
        pytest.skip("there is no Node here: put node on PATH or set NTD_TEST_NODE")


def attempts(runtime, code: str) -> dict[str, str]:
    outcome = run(runtime, TRY + code)
    assert outcome.exit_code == 0, outcome.stderr
    return dict(line.rsplit(" ", 1) for line in outcome.stdout.decode().splitlines())


def all_refused(told: dict[str, str]) -> bool:
    return bool(told) and set(told.values()) == {"refused"}


def test_a_fork_bomb_stays_within_its_processes(runtime):
    code = "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass"

    outcome = run(runtime, code, timeout_seconds=1, limits={"processes": 20})

    assert outcome.breach == "timeout"


def test_a_refused_fork_is_a_breach_of_processes(runtime):
    outcome = run(
        runtime, "import os, time\nwhile True:\n    if not os.fork(): time.sleep(9)", limits={"processes": 20}
    )

    assert outcome.breach == "processes"


def test_threads_count_as_processes(runtime):
    code = "import threading, time\nfor n in range(100): threading.Thread(target=time.sleep, args=(0.5,)).start()"

    outcome = run(runtime, code, limits={"processes": 20}, timeout_seconds=10)

    assert outcome.breach == "processes"


def test_a_memory_eater_is_ended_by_the_kernel(runtime):
    outcome = run(runtime, "x = []\nwhile True: x.append(bytearray(1 << 20))", limits={"memory_mb": 64})

    assert outcome.breach == "memory"
    assert outcome.peak_memory_bytes >= 32 << 20


def test_memory_is_counted_over_all_processes_together(runtime):
    code = """
import os, time
for n in range(8):
    if os.fork() == 0:
        x = bytearray(30 << 20)
        time.sleep(1)
        os._exit(0)
ended = [os.wait()[1] for n in range(8)]
raise SystemExit(1 if any(ended) else 0)
"""

    outcome = run(runtime, code, limits={"memory_mb": 100})

    assert outcome.breach == "memory"


@pytest.mark.parametrize(
    "code",
    [
        "import mmap; m = mmap.mmap(-1, 300 << 20); m.write(b'x' * (300 << 20))",
        "import os; f = os.memfd_create('x'); os.write(f, b'x' * (300 << 20)); os.write(f, b'x' * (300 << 20))",
        "f = open('/dev/shm/x', 'wb')\nfor n in range(300): f.write(b'x' * (1 << 20))",
    ],
    ids=["shared anonymous", "memfd", "shared memory"],
)
def test_no_kind_of_memory_escapes_its_limit(runtime, code):
    outcome = run(runtime, code, limits={"memory_mb": 64})

    assert outcome.exit_code != 0


def test_a_program_that_survives_a_limit_and_ends_well_has_no_breach(runtime):
    code = "import os\ntry:\n    while True: os.fork() or os._exit(0) if False else os.fork() or __import__('time').sleep(9)\nexcept OSError: os._exit(0)"

    outcome = run(runtime, code, limits={"processes": 10}, timeout_seconds=5)

    assert (outcome.exit_code, outcome.breach) == (0, None)


def test_endless_output_is_cut_and_the_program_ended(runtime):
    outcome = run(runtime, "import os\nwhile True: os.write(1, b'x' * 65536)")

    assert outcome.breach == "output"
    assert len(outcome.stdout) == 1024 << 10


def test_the_disk_is_bounded_over_every_writable_place(runtime):
    code = """
for place in ('/workspace/a', '/tmp/b', '/dev/shm/c'):
    with open(place, 'wb') as out:
        for n in range(4): out.write(b'x' * (1 << 20))
"""

    outcome = run(runtime, code, limits={"disk_mb": 8})

    assert outcome.breach == "disk"
    assert b"No space left" in outcome.stderr


def test_the_disk_can_be_larger_than_usual(runtime):
    code = "f = open('x', 'wb')\nfor n in range(1100): f.seek(n << 20); f.write(b'x')\nprint(f.tell() >> 20)"

    assert run(runtime, code, limits={"disk_mb": 2048}).stdout == b"1099\n"


def test_files_without_content_are_bounded_too(runtime):
    code = "n = 0\nwhile True:\n    open(f'/tmp/{n}', 'w').close()\n    n += 1"

    outcome = run(runtime, code, limits={"disk_mb": 1024})

    assert outcome.breach == "disk"


def test_a_huge_sparse_file_is_refused(runtime):
    outcome = run(runtime, "import os; os.truncate(os.open('artifacts/x', os.O_CREAT | os.O_RDWR), 10 << 30)")

    assert outcome.breach == "disk"
    assert [len(each.content) for each in outcome.artifacts] == [0]


def test_secrets_of_the_host_are_not_there(runtime, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("hers")
    secret.chmod(0o644)

    told = attempts(
        runtime,
        f"for path in ('/etc/shadow', '/root', {str(secret)!r}, '/home', '/proc/1/environ', '/var/lib', '/sys/kernel'):\n"
        "    attempt(path, lambda: open(path) if not os.path.isdir(path) else os.listdir(path))",
    )

    assert all_refused(told)


def test_nothing_of_the_host_can_be_written(runtime):
    told = attempts(
        runtime,
        "for path in ('/usr/lib/x', '/x', '/etc/passwd', '/dev/x', '/opt/sandbox/zygote.py', '/scratch/x',\n"
        "             '/proc/sys/kernel/core_pattern', '/proc/self/oom_adj_none', '/dev/pts/x', '/opt/python/x'):\n"
        "    attempt(path, lambda: open(path, 'w'))",
    )

    assert all_refused(told)


def test_processes_of_the_host_can_be_neither_seen_nor_killed(runtime):
    victim = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        outcome = run(
            runtime,
            f"import os, signal\nprint(sorted(n for n in os.listdir('/proc') if n.isdigit()))\n"
            f"for pid in (*range(1, 400), {victim.pid}, {os.getpid()}):\n"
            "    if pid != os.getpid():\n"
            "        try: os.kill(pid, signal.SIGKILL)\n"
            "        except OSError: pass\n"
            "print('alive')",
        )

        assert outcome.stdout == b"['1', '2']\nalive\n"
        assert victim.poll() is None
    finally:
        victim.kill()
        victim.wait()


@pytest.mark.parametrize("target", ["0", "-1"])
def test_killing_everything_kills_only_oneself(runtime, target):
    outcome = run(runtime, f"import os; os.kill({target}, 9)\nprint('on')")

    assert outcome.signal == 9 or b"Error" in outcome.stderr


def test_there_is_no_network(runtime):
    told = attempts(
        runtime,
        "import socket\n"
        "for name, family, kind in (('inet', 2, 1), ('inet6', 10, 1), ('udp', 2, 2), ('netlink', 16, 3),\n"
        "                           ('vsock', 40, 1), ('packet', 17, 3), ('raw', 2, 3)):\n"
        "    attempt(name, lambda: socket.socket(family, kind))\n"
        "def abstract():\n"
        "    socket.socket(socket.AF_UNIX).connect('\\0/tmp/.X11-unix/X0')\n"
        "attempt('abstract', abstract)",
    )

    assert all_refused(told)


def test_no_call_reaches_for_the_kernels_rarer_doors(runtime):
    told = attempts(
        runtime,
        """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
def call(name, *arguments):
    def action():
        if getattr(libc, name)(*arguments) < 0:
            raise OSError(ctypes.get_errno(), name)
    attempt(name, action)
def number(name, nr, *arguments):
    def action():
        if libc.syscall(nr, *arguments) < 0:
            raise OSError(ctypes.get_errno(), name)
    attempt(name, action)
call('mount', b'none', b'/tmp', b'tmpfs', 0, None)
call('umount2', b'/tmp', 2)
call('unshare', 0x10000000)
call('unshare', 0x20000)
call('chroot', b'/tmp')
call('ptrace', 16, 1, 0, 0)
call('setns', 0, 0)
call('sethostname', b'x', 1)
call('personality', 0x40000)
call('setuid', 0)
call('setgid', 0)
for name, nr in (('bpf', 321), ('keyctl', 250), ('io_uring', 425), ('perf', 298), ('userfaultfd', 323),
                 ('open_tree', 428), ('fsopen', 430), ('clone3', 435), ('pidfd_getfd', 438), ('kexec', 246),
                 ('process_vm_readv', 310), ('name_to_handle_at', 303), ('futuristic', 999)):
    number(name, nr, 0, 0, 0, 0, 0)
"""
        if os.uname().machine == "x86_64"
        else "attempt('unknown machine', lambda: open('/nonexistent'))",
    )

    assert all_refused(told)


def test_pid_1_cannot_be_read_or_stopped(runtime):
    told = attempts(
        runtime,
        "for path in ('/proc/1/mem', '/proc/1/maps', '/proc/1/fd', '/proc/1/environ', '/proc/1/root', '/proc/1/cwd'):\n"
        "    attempt(path, lambda: os.listdir(path) if path.endswith(('fd', 'root', 'cwd')) else open(path).read())\n"
        "import signal\n"
        "for number in range(1, 65):\n"
        "    if number not in (32, 33): os.kill(1, number)",
    )

    assert all_refused(told)


def test_only_the_standard_streams_are_open(runtime):
    outcome = run(runtime, "import os; print([n for n in range(3000) if os.path.exists(f'/proc/self/fd/{n}')])")

    assert outcome.stdout == b"[0, 1, 2]\n"


def test_a_forged_report_reaches_nobody(runtime):
    code = """
import os, struct
frame = struct.pack('!iddQB', 0, 0.0, 0.0, 1, 0)
for number in range(3, 1024):
    try: os.write(number, frame)
    except OSError: pass
os.write(1, frame)
os._exit(5)
"""

    outcome = run(runtime, code)

    assert outcome.exit_code == 5


def test_closing_every_stream_changes_nothing_but_the_output(runtime):
    outcome = run(runtime, "import os\nprint('before', flush=True)\nos.closerange(0, 100)\nos._exit(4)")

    assert (outcome.exit_code, outcome.stdout) == (4, b"before\n")


def test_ignoring_sigterm_does_not_outlive_the_timeout(runtime):
    code = "import signal\nfor n in (1, 2, 15): signal.signal(n, signal.SIG_IGN)\nwhile True: pass"

    outcome = run(runtime, code, timeout_seconds=0.5)

    assert outcome.breach == "timeout"
    assert outcome.duration_ms < 1500


def test_a_daemonised_child_dies_with_its_execution(runtime):
    code = """
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        for n in range(3): os.close(n)
        while True: time.sleep(1)
    os._exit(0)
os.wait()
print('gone')
"""

    outcome = run(runtime, code)

    assert (outcome.exit_code, outcome.stdout) == (0, b"gone\n")


def test_one_tenant_finds_nothing_of_another(runtime):
    mark = uuid.uuid4().hex
    hide = f"""
import builtins, json, os, sys
builtins.LEAK = {mark!r}
json.dumps = lambda *a, **k: {mark!r}
os.environ['LEAK'] = {mark!r}
for place in ('/tmp', '/workspace', '/dev/shm', '/workspace/artifacts'):
    open(place + '/leak', 'w').write({mark!r})
os.chmod('/tmp/leak', 0o6777)
"""
    seek = """
import builtins, json, os
print(hasattr(builtins, 'LEAK'), json.dumps(1), 'LEAK' in os.environ)
print([os.path.join(at, name) for top in ('/tmp', '/workspace', '/dev/shm') for at, _, names in os.walk(top) for name in names])
"""

    for _ in range(3):
        assert run(runtime, hide).exit_code == 0
        assert run(runtime, seek).stdout == b"False 1 False\n[]\n"


def test_chance_differs_between_sandboxes(runtime):
    code = "import random, os; print(random.random(), os.urandom(8).hex())"

    seen = {run(runtime, code).stdout for _ in range(4)}

    assert len(seen) == 4


def test_artifacts_cannot_be_made_of_anything_else(runtime):
    code = """
import os, socket
os.symlink('/proc/1/environ', 'artifacts/environ')
os.symlink('../../../../etc/passwd', 'artifacts/up')
os.link('/workspace/own', 'artifacts/hard') if not open('/workspace/own', 'w').write('mine') else os.link('/workspace/own', 'artifacts/hard')
socket.socket(socket.AF_UNIX).bind('artifacts/socket')
for name in ('device', 'pipe'):
    try: os.mknod('artifacts/' + name, 0o666 | (0o020000 if name == 'device' else 0o010000))
    except OSError: pass
os.makedirs('artifacts/' + '/'.join('d' * 40), exist_ok=True)
open('artifacts/closed', 'w').write('x')
os.chmod('artifacts/closed', 0)
"""

    outcome = run(runtime, code)

    assert outcome.exit_code == 0, outcome.stderr
    assert {each.path for each in outcome.artifacts} <= {"hard", "closed"}
    assert {"environ", "up", "socket"} <= set(outcome.artifacts_truncated)


def test_the_artifacts_folder_itself_cannot_be_turned_elsewhere(runtime):
    outcome = run(runtime, "import os; os.rmdir('artifacts'); os.symlink('/etc', 'artifacts')")

    assert outcome.exit_code == 0
    assert outcome.artifacts == ()


def test_odd_bytes_in_names_survive(runtime):
    outcome = run(runtime, r"open(b'artifacts/\xff\n\x01', 'w').write('x')")

    assert [os.fsencode(each.path) for each in outcome.artifacts] == [b"\xff\n\x01"]


def test_nothing_of_the_daemon_is_in_the_environment(runtime):
    outcome = run(runtime, "import os; print(sorted(os.environ))")

    allowed = {
        "HOME",
        "LANG",
        "PATH",
        "PYTHONPATH",
        "LD_LIBRARY_PATH",
        "OMP_NUM_THREADS",
        "OPENBLAS_NUM_THREADS",
        "LC_CTYPE",
    }
    assert set(eval(outcome.stdout)) <= allowed


def test_the_programs_environment_never_reaches_the_runner(runtime):
    env = {"LD_PRELOAD": "/workspace/evil.so", "PYTHONSTARTUP": "/workspace/evil.py", "PYTHONINSPECT": "1"}

    outcome = run(runtime, "print('fine')", env=env)

    assert (outcome.exit_code, outcome.stdout) == (0, b"fine\n")


def test_a_patched_exit_or_excepthook_fools_nobody(runtime):
    code = "import os, sys, atexit\nos._exit = lambda *_: None\nsys.excepthook = lambda *_: None\nraise ValueError"

    outcome = run(runtime, code, timeout_seconds=5)

    assert outcome.exit_code != 0 or outcome.signal or outcome.breach


def test_recursion_without_end_is_an_ordinary_failure(runtime):
    outcome = run(runtime, "def f(): f()\nf()")

    assert outcome.exit_code == 1
    assert b"RecursionError" in outcome.stderr


def test_a_crash_of_the_interpreter_is_a_signal(runtime):
    outcome = run(runtime, "import ctypes; ctypes.string_at(0)")

    assert (outcome.exit_code, outcome.signal, outcome.breach) == (None, 11, None)


@pytest.mark.usefixtures("needs_node")
class TestNode:
    """The same walls for Node."""

    def go(self, runtime, code: str, **changes: object):
        limits = Limits(**changes.pop("limits", {}))
        return watch(runtime, make_request(code, language="node", limits=limits, **changes)).outcome

    def test_node_runs_as_commonjs_with_all_it_was_given(self, runtime):
        code = """
const fs = require('fs');
console.log(fs.readFileSync(0, 'utf8'), process.argv.slice(2), process.env.A, require('./lib').x, require.main === module);
fs.writeFileSync('artifacts/out.json', '{}');
"""

        outcome = self.go(
            runtime, code, stdin=b"in", args=("one",), env={"A": "b"}, files={"lib.js": b"exports.x = 7;"}
        )

        assert outcome.stdout == b"in [ 'one' ] b 7 true\n"
        assert [each.path for each in outcome.artifacts] == ["out.json"]

    def test_an_exception_has_the_callers_line(self, runtime):
        outcome = self.go(runtime, "\n\nthrow new Error('no')")

        assert outcome.exit_code == 1
        assert b"/workspace/main.js:3" in outcome.stderr

    @pytest.mark.parametrize(
        ("code", "limits", "breach"),
        [
            ("for (;;);", {}, "timeout"),
            ("const a = []; for (;;) a.push(Buffer.alloc(1 << 20, 1))", {"memory_mb": 128}, "memory"),
            ("const a = []; for (;;) a.push({a: a.length})", {"memory_mb": 128}, "memory"),
            ("const fs = require('fs'); for (;;) fs.writeSync(1, 'x'.repeat(65536))", {}, "output"),
            (
                "const fs = require('fs'); for (let n = 0; ; n++) fs.writeFileSync('/tmp/' + n, 'x'.repeat(1 << 20))",
                {"disk_mb": 8},
                "disk",
            ),
        ],
    )
    def test_every_limit_ends_it(self, runtime, code, limits, breach):
        outcome = self.go(runtime, code, limits=limits, timeout_seconds=3)

        assert outcome.breach == breach

    def test_it_has_no_network_and_no_host(self, runtime):
        code = """
const fs = require('fs'), net = require('net');
for (const path of ['/etc/shadow', '/root/.bashrc', '/proc/1/environ'])
  try { fs.readFileSync(path); console.log('READ', path); } catch {}
net.connect(80, '127.0.0.1').on('error', e => console.log('refused')).on('connect', () => console.log('CONNECTED'));
"""

        assert self.go(runtime, code).stdout == b"refused\n"

    def test_its_children_die_with_it(self, runtime):
        code = (
            "require('child_process').spawn('/bin/sh', ['-c', 'sleep 50'], {detached: true}).unref(); process.exit(6)"
        )

        assert self.go(runtime, code).exit_code == 6


def test_everything_holds_with_the_soft_limits_as_well(tmp_path):
    daemon = daemons.Daemon.start(tmp_path, "--cgroups", "none", "--ready", "1", "--node", "")
    try:
        if daemon.ready["engine"] is None:
            daemons.cannot_isolate(daemon.ready)
        eater = run(daemon.runtime, "x = []\nwhile True: x.append(bytearray(1 << 20))", limits={"memory_mb": 64})
        family = run(
            daemon.runtime,
            "import os, time\nfor n in range(4):\n    if not os.fork(): x = bytearray(b'x') * (40 << 20); time.sleep(9)\ntime.sleep(9)",
            limits={"memory_mb": 64},
        )
        bomb = run(
            daemon.runtime, "import os, time\nwhile True:\n    if not os.fork(): time.sleep(9)", limits={"processes": 9}
        )
        loop = run(daemon.runtime, "while True: pass", timeout_seconds=0.5)

        assert [each.breach for each in (eater, family, bomb, loop)] == ["memory", "memory", "processes", "timeout"]
        assert loop.cpu_ms > 300
        assert eventually(daemon.is_quiet)
    finally:
        daemon.stop()
