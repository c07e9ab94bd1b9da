"""Kept sandboxes on the real daemon: what stays, what does not, how they end, and what attacks them."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Iterator

import psutil
import pytest

from sandboxes.daemon import protocol
from sandboxes.daemon.protocol import Kind
from sandboxes.limits import Limits
from sandboxes.runtimes import InvalidRequest, Opening, RuntimeLost, RuntimeUnavailable, SandboxBusy, SandboxGone
from sandboxes.runtimes.local import LocalRuntime, _request_frame
from tests.integration.sandboxes import daemons
from tests.integration.sandboxes.daemons import eventually, keep, kept, make_request, run

ROOMY = {"limits": Limits(disk_mb=100)}
FOREVER = "import time\nprint('go', flush=True)\ntime.sleep(60)"


@pytest.fixture
def daemon(daemon_of) -> daemons.Daemon:
    """gVisor keeps no sandboxes."""
    return daemon_of("bubblewrap")


@pytest.fixture
def runtime(daemon) -> Iterator[LocalRuntime]:
    """The daemon's runtime; afterwards every kept sandbox is closed and nothing is left of it."""
    yield daemon.runtime
    for sandbox in kept(daemon.runtime):
        daemon.runtime.close(sandbox)
    assert kept(daemon.runtime) == {}
    assert eventually(daemon.is_quiet, within_seconds=10), [each.cmdline() for each in daemon.descendants()]


class Going:
    """A run in a kept sandbox, in a thread of its own, known to have printed."""

    def __init__(self, runtime: LocalRuntime, sandbox: str, code: str = FOREVER) -> None:
        self.request = make_request(code, sandbox=sandbox, timeout_seconds=60)
        self.output: list[bytes] = []
        self._result: list[object] = []
        self._going = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(runtime,))
        self._thread.start()
        assert self._going.wait(20)

    def _run(self, runtime: LocalRuntime) -> None:
        try:
            self._result.append(runtime.run(self.request, on_started=lambda _: None, on_output=self._heard))
        except (RuntimeLost, SandboxGone) as problem:
            self._result.append(problem)

    def _heard(self, stream: str, offset: int, content: bytes) -> None:
        self.output.append(content)
        self._going.set()

    def end(self) -> object:
        self._thread.join(10)
        return self._result[0]


# --- what stays


def test_files_stay_from_one_run_to_the_next_in_every_place(runtime):
    sandbox = keep(runtime)
    places = "('/workspace/a', '/tmp/b', '/dev/shm/c')"

    run(runtime, f"for place in {places}: open(place, 'w').write('kept')", sandbox=sandbox)
    later = run(runtime, f"print([open(place).read() for place in {places}])", sandbox=sandbox)

    assert later.stdout == b"['kept', 'kept', 'kept']\n"


def test_nothing_else_stays(runtime):
    sandbox = keep(runtime)
    leave = """
import builtins, os, signal, sys, time
builtins.LEFT = 1
os.environ['LEFT'] = '1'
sys.path.append('/left')
os.umask(0o777)
if os.fork() == 0:
    os.setsid()
    for number in range(1, 65):
        try: signal.signal(number, signal.SIG_IGN)
        except (OSError, ValueError): pass
    time.sleep(60)
"""

    run(runtime, leave, sandbox=sandbox)
    look = """
import builtins, os, sys
others = [name for name in os.listdir('/proc') if name.isdigit() and int(name) not in (1, os.getpid())]
print(hasattr(builtins, 'LEFT'), 'LEFT' in os.environ, '/left' in sys.path, oct(os.umask(0)), others)
"""

    assert run(runtime, look, sandbox=sandbox).stdout == b"False False False 0o22 []\n"


def test_a_descriptor_of_an_earlier_run_is_nowhere(runtime):
    sandbox = keep(runtime)
    hide = """
import os, socket
# In flight inside a socket that nobody else holds, and inherited by a process that wants to stay.
left, right = socket.socketpair()
socket.send_fds(left, [b'x'], [1, left.fileno(), right.fileno()])
os.set_inheritable(1, True)
if os.fork() == 0:
    os.setsid()
    while True: pass
"""
    look = "import os; print(sorted(os.listdir('/proc/self/fd')))"

    first = run(runtime, hide, sandbox=sandbox)
    second = run(runtime, look, sandbox=sandbox)

    assert (first.exit_code, first.stdout) == (0, b"")
    assert second.stdout == b"['0', '1', '2', '3']\n"


def test_the_sandboxs_environment_is_each_runs_and_a_run_may_override_it(runtime):
    sandbox = keep(runtime, env={"MODE": "paper", "KEY": "1"})
    show = "import os; print(os.environ['MODE'], os.environ['KEY'])"

    outcomes = [run(runtime, show, sandbox=sandbox, env=env).stdout for env in ({"MODE": "live"}, {})]

    assert outcomes == [b"live 1\n", b"paper 1\n"]


def test_artifacts_are_what_this_run_left(runtime):
    sandbox = keep(runtime)
    first = run(runtime, "open('artifacts/one', 'w').write('1')", sandbox=sandbox)
    second = run(runtime, "open('artifacts/two', 'w').write('2')", sandbox=sandbox)

    assert [[each.path for each in outcome.artifacts] for outcome in (first, second)] == [["one"], ["two"]]


def test_files_and_input_arrive_in_every_run(runtime):
    sandbox = keep(runtime)
    show = "import sys; print(open('prices.csv').read(), sys.stdin.read(), sys.argv[1:])"

    outcomes = [
        run(runtime, show, sandbox=sandbox, files={"prices.csv": content}, stdin=content, args=("x",)).stdout
        for content in (b"1", b"22")
    ]

    assert outcomes == [b"1 1 ['x']\n", b"22 22 ['x']\n"]


def test_a_node_sandbox_keeps_its_files_too(runtime, daemon):
    if "node" not in runtime.describe()["languages"]:
        if os.environ.get("NTD_REQUIRE_SANDBOX") == "1":
            pytest.fail("there is no Node here: put node on PATH or set NTD_TEST_NODE")
        pytest.skip("there is no Node here: put node on PATH or set NTD_TEST_NODE")
    sandbox = keep(runtime, language="node")

    write = "require('fs').writeFileSync('artifacts/a', 'x'); require('fs').writeFileSync('b', 'kept')"
    run(runtime, write, sandbox=sandbox, language="node")
    later = run(
        runtime,
        "console.log(require('fs').readFileSync('b').toString(), require('fs').readdirSync('artifacts').length)",
        sandbox=sandbox,
        language="node",
    )

    assert later.stdout == b"kept 0\n"


def test_usage_is_each_runs_own(runtime):
    sandbox = keep(runtime)
    busy = (
        "import time\nx = bytearray(100 << 20)\nend = time.process_time() + 0.3\nwhile time.process_time() < end: pass"
    )

    first = run(runtime, busy, sandbox=sandbox)
    second = run(runtime, "pass", sandbox=sandbox)

    assert first.cpu_ms >= 250
    assert second.cpu_ms < first.cpu_ms / 2
    assert first.peak_memory_bytes > 100 << 20
    assert second.peak_memory_bytes < 60 << 20


def test_two_sandboxes_see_nothing_of_each_other(runtime):
    ours, theirs = keep(runtime), keep(runtime)
    run(runtime, "for p in ('/workspace/a', '/tmp/a', '/dev/shm/a'): open(p, 'w').write('secret')", sandbox=ours)
    going = Going(runtime, ours)

    look = "import os; print(os.listdir('/workspace'), os.listdir('/tmp'), os.listdir('/dev/shm'), os.getppid(), [n for n in os.listdir('/proc') if n.isdigit() and int(n) not in (1, os.getpid())])"
    seen = run(runtime, look, sandbox=theirs)
    runtime.cancel(going.request.id)

    assert going.end().cancelled
    assert seen.stdout == b"['artifacts'] [] [] 1 []\n"


# --- one at a time, and what ends a run


def test_a_second_run_is_told_that_the_sandbox_is_busy(runtime):
    sandbox = keep(runtime)
    going = Going(runtime, sandbox)

    with pytest.raises(SandboxBusy):
        run(runtime, "pass", sandbox=sandbox)

    assert kept(runtime) == {sandbox: "running"}
    runtime.cancel(going.request.id)
    assert going.end().cancelled
    assert run(runtime, "print(1)", sandbox=sandbox).stdout == b"1\n"


@pytest.mark.parametrize(
    ("code", "limits", "breach"),
    [
        ("x = []\nwhile True: x.append(bytearray(1 << 20))", {"memory_mb": 64}, "memory"),
        ("import os, time\nwhile True:\n    if not os.fork(): time.sleep(9)", {"processes": 9}, "processes"),
        ("f = open('big', 'wb')\nwhile True: f.write(b'x' * 65536)", {"disk_mb": 4}, "disk"),
        ("while True: print('x' * 1000)", {"output_kb": 16}, "output"),
        ("while True: pass", {}, "timeout"),
    ],
)
def test_after_a_breach_the_sandbox_goes_on(runtime, code, limits, breach):
    sandbox = keep(runtime, limits=limits)
    run(runtime, "open('state', 'w').write('kept')", sandbox=sandbox)
    timeout = {"timeout_seconds": 0.5} if breach == "timeout" else {}

    outcome = run(runtime, code, sandbox=sandbox, **timeout)
    # Whoever filled the disk can make room again.
    later = run(runtime, "import glob, os; [os.remove(f) for f in glob.glob('big')]; print(open('state').read())", sandbox=sandbox)  # fmt: skip

    assert outcome.breach == breach
    assert (later.breach, later.stdout) == (None, b"kept\n")


def test_its_limits_hold_whatever_a_request_says(runtime):
    sandbox = keep(runtime, limits={"memory_mb": 64})

    outcome = run(runtime, "x = bytearray(200 << 20)", sandbox=sandbox, limits={"memory_mb": 1024})

    assert outcome.breach == "memory"


def test_the_disk_is_the_sandboxs_over_all_its_runs(runtime):
    sandbox = keep(runtime, limits={"disk_mb": 4})
    half = "open({!r}, 'wb').write(b'x' * (3 << 20))"

    first = run(runtime, half.format("a"), sandbox=sandbox)
    second = run(runtime, half.format("/tmp/b"), sandbox=sandbox)

    assert first.exit_code == 0
    assert first.disk_bytes >= 3 << 20
    assert second.breach == "disk"


def test_a_cancelled_run_leaves_the_sandbox_and_its_files(runtime):
    sandbox = keep(runtime)
    going = Going(runtime, sandbox, f"open('half', 'w').write('done')\n{FOREVER}")

    runtime.cancel(going.request.id)

    assert going.end().cancelled
    assert run(runtime, "print(open('half').read())", sandbox=sandbox).stdout == b"done\n"


def test_a_client_that_vanishes_ends_its_run_and_not_the_sandbox(runtime):
    sandbox = keep(runtime)
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(runtime.socket_path)
        connection.sendall(_request_frame(make_request(f"open('a', 'w').write('b')\n{FOREVER}", sandbox=sandbox)))
        while protocol.receive(connection)[0] is not Kind.OUTPUT:
            pass

    assert eventually(lambda: kept(runtime) == {sandbox: "idle"})
    assert run(runtime, "print(open('a').read())", sandbox=sandbox).stdout == b"b\n"


# --- how it ends


def test_closing_it_ends_what_runs_and_says_why(runtime):
    sandbox = keep(runtime)
    going = Going(runtime, sandbox)

    closed = [runtime.close(sandbox), runtime.close(sandbox)]

    ended = going.end()
    assert closed == [True, False]
    assert isinstance(ended, SandboxGone)
    assert str(ended) == "It was closed."
    assert going.output == [b"go\n"]
    with pytest.raises(SandboxGone, match="It was closed"):
        run(runtime, "pass", sandbox=sandbox)
    assert runtime.describe()["kept"]["ended"][sandbox] == "It was closed."


def test_its_time_ends_it_while_it_runs(runtime):
    # Long enough for the program to start on a busy machine.
    sandbox = keep(runtime, seconds=3)
    going = Going(runtime, sandbox)

    ended = going.end()

    assert isinstance(ended, SandboxGone)
    assert str(ended) == "Its time-to-live is over."
    assert eventually(lambda: kept(runtime) == {})


def test_its_time_ends_it_while_nothing_runs(runtime):
    keep(runtime, seconds=0.2)

    assert eventually(lambda: kept(runtime) == {})


def test_more_time_is_given_and_never_taken(runtime):
    sandbox = keep(runtime, seconds=5)

    runtime.extend(sandbox, 600)
    runtime.extend(sandbox, 1)

    [said] = runtime.describe()["kept"]["sandboxes"]
    assert 590 < said["expires_in_seconds"] <= 600


def test_of_an_extension_and_the_end_one_wins_and_the_sandbox_is_whole_or_gone(runtime):
    for _ in range(5):
        sandbox = keep(runtime)
        closing = threading.Thread(target=runtime.close, args=(sandbox,))
        closing.start()
        with contextlib.suppress(SandboxGone):
            runtime.extend(sandbox, 600)
        closing.join()

        assert sandbox not in kept(runtime)


def test_opening_it_again_changes_nothing_and_an_ended_one_does_not_come_back(runtime):
    sandbox = keep(runtime, id="the-one")
    run(runtime, "open('a', 'w').write('b')", sandbox=sandbox)

    keep(runtime, id="the-one")
    assert run(runtime, "print(open('a').read())", sandbox=sandbox).stdout == b"b\n"

    runtime.close(sandbox)
    with pytest.raises(SandboxGone):
        keep(runtime, id="the-one")


@pytest.mark.parametrize(
    "changes",
    [
        {"language": "cobol"},
        {"id": "../x"},
        {"id": ""},
        {"expires_in_seconds": 0},
        {"expires_in_seconds": 86_401},
        {"env": {"A B": "c"}},
        {"network": True},
        {"template": "../x"},
        {"limits": Limits(memory_mb=64, disk_mb=64)},
    ],
)
def test_a_wrong_opening_is_refused(runtime, changes):
    with pytest.raises(InvalidRequest):
        runtime.open(Opening(**{"id": "x", "language": "python", "expires_in_seconds": 60} | ROOMY | changes))


def test_a_template_that_is_not_here_cannot_be_kept(runtime):
    with pytest.raises(RuntimeUnavailable, match="is not on this node"):
        keep(runtime, template="nobody-built-this")


# --- the daemon


@pytest.fixture
def small(tmp_path) -> Iterator[daemons.Daemon]:
    daemon = daemons.Daemon.start(tmp_path, "--ready", "0", "--running", "2", "--kept", "2", "--node", "")
    if daemon.ready["engine"] is None:
        daemon.stop()
        daemons.cannot_isolate(daemon.ready)
    yield daemon
    if daemon.child.poll() is None:
        daemon.stop()


def test_no_more_are_kept_than_it_may_and_executions_have_room_of_their_own(small):
    first, _ = keep(small.runtime), keep(small.runtime)

    with pytest.raises(RuntimeUnavailable, match="keeps 2 sandboxes already"):
        keep(small.runtime)
    assert run(small.runtime, "print(1)").stdout == b"1\n"
    small.runtime.close(first)

    assert keep(small.runtime)


def test_stopping_the_daemon_leaves_nothing_of_them(small):
    keep(small.runtime)
    going = Going(small.runtime, keep(small.runtime))
    family, groups = small.descendants(), small.group_folders()

    code = small.stop()

    assert code == 0
    # Whichever is told first: that the sandbox ended, or that its daemon does.
    assert isinstance(going.end(), SandboxGone | RuntimeLost)
    assert not [each for each in family if each.is_running() and each.status() != psutil.STATUS_ZOMBIE]
    assert not [each for each in groups if each.exists()]


def test_killing_the_daemon_kills_them_and_the_next_one_knows_none(small):
    going = Going(small.runtime, keep(small.runtime))
    family = small.descendants()

    small.stop(kill=True)

    assert isinstance(going.end(), RuntimeLost)
    assert eventually(lambda: not any(each.is_running() for each in family))
    again = daemons.Daemon.start(small.state, "--ready", "0", "--node", "")
    try:
        assert kept(again.runtime) == {}
        assert eventually(again.is_quiet)
    finally:
        again.stop()


def test_a_sandbox_whose_first_process_dies_is_told_as_ended(small):
    sandbox = keep(small.runtime)
    # Everything else down there has children.
    [init] = [each for each in small.descendants() if not each.children()]

    init.kill()

    assert eventually(lambda: kept(small.runtime) == {})
    assert "Its first process ended" in small.runtime.describe()["kept"]["ended"][sandbox]


@pytest.mark.parametrize(
    ("code", "limits", "breach"),
    [
        ("x = []\nwhile True: x.append(bytearray(1 << 20))", {"memory_mb": 64}, "memory"),
        ("import os, time\nwhile True:\n    if not os.fork(): time.sleep(9)", {"processes": 9}, "processes"),
    ],
)
def test_without_cgroups_its_limits_hold_in_every_run_and_usage_is_each_runs_own(tmp_path, code, limits, breach):
    daemon = daemons.Daemon.start(tmp_path, "--ready", "0", "--node", "", "--cgroups", "none")
    try:
        if daemon.ready["engine"] is None:
            daemons.cannot_isolate(daemon.ready)
        sandbox = keep(daemon.runtime, limits=limits)

        outcomes = [run(daemon.runtime, text, sandbox=sandbox) for text in (code, "print(1)", code)]

        assert [outcome.breach for outcome in outcomes] == [breach, None, breach]
        assert outcomes[1].cpu_ms < outcomes[0].cpu_ms
        assert outcomes[1].stdout == b"1\n"
    finally:
        daemon.stop()


# --- programs that attack what will run after them


def test_a_program_cannot_break_the_init(runtime):
    sandbox = keep(runtime)
    attack = """
import ctypes, os, resource, signal
for number in range(1, 65):
    try: os.kill(1, number)
    except OSError: pass
for what in (resource.RLIMIT_NOFILE, resource.RLIMIT_CPU, resource.RLIMIT_FSIZE, resource.RLIMIT_AS, resource.RLIMIT_NPROC):
    try:
        resource.prlimit(1, what, (0, 0))
        print(what, 'WORKED')
    except OSError:
        print(what, 'refused')
for path in ('/proc/1/mem', '/proc/1/fd', '/proc/1/oom_score_adj', '/proc/1/environ'):
    try:
        os.listdir(path) if path.endswith('fd') else open(path, 'r+' if 'oom' in path else 'r').read(1)
        print(path, 'WORKED')
    except OSError:
        print(path, 'refused')
"""

    told = run(runtime, attack, sandbox=sandbox)

    assert b"WORKED" not in told.stdout
    assert told.stdout.count(b"refused") == 9
    assert run(runtime, "print('alive')", sandbox=sandbox).stdout == b"alive\n"


def test_places_that_a_program_broke_are_put_right(runtime):
    sandbox = keep(runtime)
    spoil = """
import os
os.rmdir('artifacts')
os.symlink('/tmp', 'artifacts')
open('/tmp/mine', 'w').write('x')
for place in ('/workspace', '/tmp', '/dev/shm'): os.chmod(place, 0)
"""

    run(runtime, spoil, sandbox=sandbox)
    later = run(runtime, "open('artifacts/a', 'w').write('b'); print(open('/tmp/mine').read())", sandbox=sandbox)

    assert (later.stdout, [each.path for each in later.artifacts]) == (b"x\n", ["a"])


def test_artifacts_of_any_depth_and_rights_are_emptied(runtime):
    sandbox = keep(runtime)
    deep = """
import os
os.chdir('artifacts')
for n in range(3000):
    os.mkdir('d')
    os.chdir('d')
open('f', 'w').write('x')
os.chdir('/workspace/artifacts')
os.makedirs('locked/inner/deeper')
os.symlink('/workspace/kept', 'link')
open('/workspace/kept', 'w').write('kept')
for path in ('locked/inner/deeper', 'locked/inner', 'locked'): os.chmod(path, 0)
"""

    run(runtime, deep, sandbox=sandbox)
    later = run(runtime, "import os; print(os.listdir('artifacts'), open('kept').read())", sandbox=sandbox)

    assert later.stdout == b"[] kept\n"


def test_a_poisoned_file_is_the_same_customers_own_business_and_no_one_elses(runtime):
    poisoned, other = keep(runtime), keep(runtime)
    run(runtime, "open('json.py', 'w').write('VALUE = 666')", sandbox=poisoned)
    look = "import sys; sys.modules.pop('json', None); import json; print(getattr(json, 'VALUE', None))"

    seen = [run(runtime, look, sandbox=sandbox).stdout for sandbox in (poisoned, other)]

    assert seen == [b"666\n", b"None\n"]
    assert run(runtime, look).stdout == b"None\n"


def test_files_never_take_the_memory_that_a_next_program_needs(runtime):
    sandbox = keep(runtime, limits={"memory_mb": 64})

    filled = run(runtime, "f = open('/tmp/big', 'wb')\nwhile True: f.write(b'x' * 65536)", sandbox=sandbox)
    room = run(runtime, "import os; os.remove('/tmp/big'); print('room')", sandbox=sandbox)

    assert filled.breach == "disk"
    assert room.stdout == b"room\n"


# --- another engine


def test_gvisor_keeps_none_and_says_so(daemon_of):
    runtime = daemon_of("gvisor").runtime

    with pytest.raises(RuntimeUnavailable, match="cannot keep a sandbox"):
        keep(runtime)

    assert kept(runtime) == {}
