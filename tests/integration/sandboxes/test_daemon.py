"""The daemon itself: leases, capacity, its own death, and that it leaves nothing behind."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from sandboxes.daemon import protocol
from sandboxes.daemon.protocol import Kind
from sandboxes.runtimes import RuntimeLost, RuntimeUnavailable, Size
from sandboxes.runtimes.local import LocalRuntime, _request_frame
from tests.integration.sandboxes import daemons
from tests.integration.sandboxes.daemons import FOREVER, Going, eventually, make_request, run, watch

on_either_engine = pytest.mark.parametrize("own_daemon", daemons.ENGINES, indirect=True)


@on_either_engine
def test_a_client_that_vanishes_takes_its_slot_with_it(own_daemon):
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(own_daemon.runtime.socket_path)
        connection.sendall(_request_frame(make_request(FOREVER)))
        assert protocol.receive(connection)[0] is Kind.STARTED

    assert eventually(own_daemon.is_quiet)


@on_either_engine
def test_stopping_the_daemon_leaves_nothing(own_daemon):
    going = Going(own_daemon.runtime)
    family, groups = own_daemon.descendants(), own_daemon.group_folders()

    code = own_daemon.stop()

    assert code == 0
    assert isinstance(going.end(), RuntimeLost)
    assert not [each for each in family if each.is_running() and each.status() != psutil.STATUS_ZOMBIE]
    assert not [each for each in groups if each.exists()]
    assert not (own_daemon.state / "daemon.sock").exists()


@on_either_engine
def test_killing_the_daemon_kills_its_sandboxes_and_a_new_one_sweeps_up(own_daemon):
    going = Going(own_daemon.runtime)
    family = own_daemon.descendants()
    assert len(family) > 4

    own_daemon.stop(kill=True)

    assert isinstance(going.end(), RuntimeLost)
    assert eventually(lambda: not any(each.is_running() for each in family))
    again = daemons.Daemon.start(own_daemon.state, *own_daemon.options)
    try:
        assert run(again.runtime, "print(1)").stdout == b"1\n"
        assert eventually(again.is_quiet)
    finally:
        again.stop()
    assert not again.group_folders()


@on_either_engine
def test_the_mounts_of_the_machine_stay_as_they_were(own_daemon):
    before = Path("/proc/self/mounts").read_text()

    run(own_daemon.runtime, "print(1)")

    assert Path("/proc/self/mounts").read_text() == before


@on_either_engine
def test_a_killed_zygote_loses_its_runs_and_is_replaced(own_daemon):
    going = Going(own_daemon.runtime)
    for each in own_daemon.descendants():
        # The first to die takes the others with it.
        with contextlib.suppress(psutil.NoSuchProcess):
            if each.name() == "bwrap":
                each.kill()

    assert isinstance(going.end(), RuntimeLost)
    assert eventually(lambda: _works(own_daemon.runtime), within_seconds=10)
    assert eventually(own_daemon.is_quiet, within_seconds=10)


def _works(runtime: LocalRuntime) -> bool:
    try:
        return run(runtime, "print(1)").stdout == b"1\n"
    except RuntimeLost:
        return False


@pytest.mark.parametrize(("engine", "most_ms"), [("bubblewrap", 1000), ("gvisor", 5000)])
def test_without_a_ready_slot_it_starts_cold_and_says_so(tmp_path, engine, most_ms):
    daemon = daemons.Daemon.start(tmp_path, *daemons.on(engine), "--ready", "0", "--node", "")
    try:
        started = watch(daemons.isolating(daemon, engine).runtime, make_request()).started[0]

        assert started.warm is False
        assert started.startup_ms < most_ms
    finally:
        daemon.stop()


def test_a_ready_slot_is_warm(daemon):
    assert eventually(daemon.is_quiet)

    assert watch(daemon.runtime, make_request()).started[0].warm


@pytest.fixture
def numeric_daemon(tmp_path: Path) -> Iterator[daemons.Daemon]:
    """A daemon whose libraries are an empty numpy and an empty pandas."""
    libraries = tmp_path / "libraries"
    for name in ("numpy", "pandas"):
        (libraries / name).mkdir(parents=True)
        (libraries / name / "__init__.py").write_text(f"seen = {name!r}\n")
    options = ("--python-libraries", str(libraries), "--ready", "1", "--running", "1", "--node", "")
    daemon = daemons.Daemon.start(tmp_path, *options)
    if daemon.ready["engine"] is None:
        daemon.stop()
        daemons.cannot_isolate(daemon.ready)
    yield daemon
    daemon.stop()


def test_a_program_that_names_numerics_finds_them_imported_and_others_do_not_carry_them(numeric_daemon):
    loaded = "import sys; print(sorted(n for n in sys.modules if n in ('nump' + 'y', 'panda' + 's')))"

    numeric, plain = run(numeric_daemon.runtime, f"{loaded} # pandas"), run(numeric_daemon.runtime, loaded)
    unnamed = run(numeric_daemon.runtime, "import importlib; print(importlib.import_module('nump' + 'y').seen)")

    assert (numeric.stdout, plain.stdout, unnamed.stdout) == (b"['numpy', 'pandas']\n", b"[]\n", b"numpy\n")
    assert eventually(numeric_daemon.is_quiet)


def test_numeric_programs_and_others_share_the_room_there_is(numeric_daemon):
    numeric = Going(numeric_daemon.runtime, f"import numpy\n{FOREVER}")
    result = []
    thread = threading.Thread(target=lambda: result.append(run(numeric_daemon.runtime, "print('late')")))
    thread.start()

    waited = not eventually(lambda: bool(result), within_seconds=0.3)
    numeric_daemon.runtime.cancel(numeric.request.id)
    thread.join(10)

    assert waited
    assert numeric.end().cancelled
    assert result[0].stdout == b"late\n"


def test_a_programs_own_forks_draw_other_chances(daemon):
    code = """
import os, random, threading
parent = random.random()
if os.fork() == 0:
    print(random.random() != parent, threading.active_count())
    os._exit(0)
os.wait()
print(random.random() != parent)
"""

    assert run(daemon.runtime, code).stdout == b"True 1\nTrue\n"


def test_calling_pid_1_without_end_hides_no_memory_from_its_sampling(tmp_path):
    daemon = daemons.Daemon.start(tmp_path, "--cgroups", "none", "--ready", "1", "--node", "")
    try:
        if daemon.ready["engine"] is None:
            daemons.cannot_isolate(daemon.ready)
        code = """
import os, signal
if os.fork() == 0:
    while True: os.kill(1, signal.SIGIO)
for n in range(4):
    if os.fork() == 0:
        held = bytearray(b'x') * (30 << 20)
        signal.pause()
signal.pause()
"""

        outcome = run(daemon.runtime, code, limits={"memory_mb": 64}, timeout_seconds=20)

        assert outcome.breach == "memory"
    finally:
        daemon.stop()


def test_many_ask_at_once_and_all_are_answered(daemon):
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(daemon.runtime.describe())) for _ in range(40)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(10)

    assert len(answers) == 40


def test_no_slot_serves_twice(daemon):
    seen = [watch(daemon.runtime, make_request()).started[0].sandbox for _ in range(8)]

    assert len(set(seen)) == 8


def test_beyond_its_capacity_a_run_waits_and_can_be_cancelled_there(own_daemon):
    running = [Going(own_daemon.runtime), Going(own_daemon.runtime)]
    waiting = make_request("print('late')")
    result = []
    thread = threading.Thread(target=lambda: result.append(watch(own_daemon.runtime, waiting)))
    thread.start()

    assert eventually(lambda: own_daemon.runtime.cancel(waiting.id))
    thread.join(5)
    for each in running:
        assert own_daemon.runtime.cancel(each.request.id)

    assert result[0].outcome.cancelled
    assert result[0].started == []
    assert all(each.end().cancelled for each in running)
    assert run(own_daemon.runtime, "print(1)").stdout == b"1\n"


def test_a_run_that_waited_starts_when_there_is_room(own_daemon):
    running = [Going(own_daemon.runtime), Going(own_daemon.runtime)]
    result = []
    thread = threading.Thread(target=lambda: result.append(run(own_daemon.runtime, "print('late')")))
    thread.start()

    own_daemon.runtime.cancel(running[0].request.id)
    thread.join(10)
    own_daemon.runtime.cancel(running[1].request.id)

    assert result[0].stdout == b"late\n"
    assert [each.end().cancelled for each in running] == [True, True]


def size(**changes) -> Size:
    return Size(**{"ready": 2, "running": 2, "idle_timeout_seconds": 0, "max_age_seconds": 3600} | changes)


def ready(daemon) -> int:
    return daemon.runtime.describe()["pools"]["python"]["ready"]


def test_it_keeps_as_many_ready_as_it_is_told(own_daemon):
    counts = []
    for wanted in (4, 1, 0):
        own_daemon.runtime.resize("python", size(ready=wanted))
        assert eventually(lambda wanted=wanted: ready(own_daemon) == wanted)
        assert eventually(own_daemon.is_quiet)
        counts.append(ready(own_daemon))

    assert counts == [4, 1, 0]


def test_a_larger_size_lets_a_waiting_run_start_at_once(own_daemon):
    running = [Going(own_daemon.runtime), Going(own_daemon.runtime)]

    own_daemon.runtime.resize("python", size(running=3))
    outcome = run(own_daemon.runtime, "print('room')")

    assert outcome.stdout == b"room\n"
    for each in running:
        own_daemon.runtime.cancel(each.request.id)
        each.end()


def test_a_smaller_size_ends_nothing_that_runs(own_daemon):
    running = [Going(own_daemon.runtime), Going(own_daemon.runtime)]

    own_daemon.runtime.resize("python", size(ready=1, running=1))

    assert own_daemon.runtime.describe()["pools"]["python"]["running"] == 2
    for each in running:
        own_daemon.runtime.cancel(each.request.id)
    assert all(each.end().cancelled for each in running)


def test_after_a_busy_time_as_many_wait_ready_until_the_idle_time_is_over(own_daemon):
    own_daemon.runtime.resize("python", size(ready=1, running=3, idle_timeout_seconds=3600))
    running = [Going(own_daemon.runtime) for _ in range(3)]
    for each in running:
        own_daemon.runtime.cancel(each.request.id)
        each.end()
    assert eventually(lambda: ready(own_daemon) == 3)

    # A shorter time is one that is over.
    own_daemon.runtime.resize("python", size(ready=1, running=3, idle_timeout_seconds=0))

    assert eventually(lambda: ready(own_daemon) == 1)


def test_a_ready_sandbox_that_is_too_old_is_replaced(own_daemon):
    own_daemon.runtime.resize("python", size(max_age_seconds=1))
    young = own_daemon.descendants()

    assert eventually(lambda: not {each.pid for each in young if each.is_running()} >= {each.pid for each in young})
    assert eventually(lambda: ready(own_daemon) == 2)


def test_a_language_that_is_not_here_cannot_be_sized(own_daemon):
    with pytest.raises(RuntimeUnavailable, match="node is not installed"):
        own_daemon.runtime.resize("node", size())


def test_the_client_knows_the_daemons_process(own_daemon):
    assert own_daemon.runtime.describe()["process"] == own_daemon.child.pid


@on_either_engine
def test_a_slow_reader_does_not_stop_the_clock(own_daemon):
    # More than the socket holds, less than the cap: only the clock can end it.
    request = make_request("print('x' * 900_000, flush=True)\nwhile True: pass", timeout_seconds=1)
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(own_daemon.runtime.socket_path)
        connection.sendall(_request_frame(request))
        assert protocol.receive(connection)[0] is Kind.STARTED

        # Reads nothing more until the program must be dead.
        assert eventually(lambda: own_daemon.runtime.describe()["pools"]["python"]["running"] == 0, within_seconds=10)

        kind, fields, printed = Kind.STARTED, {}, 0
        while kind is not Kind.ENDED:
            kind, fields, blobs = protocol.receive(connection)
            printed += len(blobs[0]) if kind is Kind.OUTPUT else 0

    assert (fields["breach"], printed) == ("timeout", 900_001)
    assert eventually(own_daemon.is_quiet)


@pytest.mark.parametrize("rubbish", [b"\0" * 5, b"\xff" * 64, b"GET / HTTP/1.1\r\n\r\n", b""])
def test_rubbish_on_the_socket_harms_nobody(daemon, rubbish):
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(daemon.runtime.socket_path)
        connection.sendall(rubbish)

    assert run(daemon.runtime, "print(1)").stdout == b"1\n"


def test_the_socket_is_its_owners_alone(daemon):
    assert (daemon.state / "daemon.sock").stat().st_mode & 0o777 == 0o600


def test_a_second_daemon_on_the_same_state_is_refused_with_a_sentence(daemon):
    second = subprocess.run(
        daemon.arguments, capture_output=True, text=True, env=daemons.environment(), cwd=daemons.ROOT, check=False
    )

    assert second.returncode != 0
    assert "Another sandbox daemon is using" in second.stderr


def test_a_daemon_that_is_not_there_is_a_lost_runtime(tmp_path):
    with pytest.raises(RuntimeLost, match="cannot be reached"):
        run(LocalRuntime(str(tmp_path / "none.sock")), "pass")


def test_the_check_prints_engine_promises_and_every_probe(tmp_path):
    command = [sys.executable, "-m", "sandboxes.daemon", "--check", "--state", str(tmp_path)]

    said = subprocess.run(
        command, capture_output=True, text=True, env=daemons.environment(), cwd=daemons.ROOT, check=False
    ).stdout

    assert "engine: " in said
    assert "probe: gvisor: " in said
    assert "probe: bubblewrap: " in said or "engine: gvisor" in said


def test_without_an_engine_runs_are_refused_with_every_reason(tmp_path):
    daemon = daemons.Daemon.start(tmp_path, "--engine", "auto", "--bwrap", "/nonexistent/bwrap")
    try:
        assert daemon.ready["engine"] is None
        with pytest.raises(Exception, match=r"gvisor: .*bubblewrap: ") as refused:
            run(daemon.runtime, "pass")
        assert len(refused.value.reasons) >= 2
    finally:
        daemon.stop()
    assert not daemon.group_folders()


@pytest.mark.skipif(os.geteuid() != 0, reason="the whole suite runs without root already")
@pytest.mark.parametrize("engine", daemons.ENGINES)
def test_it_works_for_a_normal_user_too(engine):
    python, setpriv = "/usr/bin/python3", shutil.which("setpriv")
    if not setpriv or not Path(python).exists() or _version(python) < (3, 11):
        pytest.skip("there is no setpriv, or no Python >= 3.11 that a normal user can reach")
    state = Path("/tmp") / f"ntd-test-{os.getpid()}"
    state.mkdir(mode=0o755)
    os.chown(state, 20001, 20001)
    prefix = (setpriv, "--reuid=20001", "--regid=20001", "--clear-groups")
    options = (*daemons.on(engine), "--ready", "1", "--node", "", "--network", "outward")
    daemon = daemons.Daemon.start(state, *options, prefix=prefix, python=python)
    try:
        runtime = daemons.isolating(daemon, engine).runtime
        assert "soft" in runtime.describe()["limits"]["memory"]
        assert run(runtime, "import os; print(os.getuid())").stdout == b"1000\n"
        eater = run(runtime, "x = []\nwhile True: x.append(bytearray(1 << 20))", limits={"memory_mb": 64})
        bomb = run(
            runtime, "import os, time\nwhile True:\n    if not os.fork(): time.sleep(9)", limits={"processes": 9}
        )
        files = run(runtime, "open('artifacts/a', 'w').write('b')")
        if engine == "bubblewrap":
            ask = "import socket; s = socket.create_connection(('127.0.0.1', 3128)); s.sendall(b'CONNECT 10.0.0.1:80 HTTP/1.1\\r\\n\\r\\n')"
            assert run(runtime, f"{ask}; print(s.recv(12))", network=True).stdout == b"b'HTTP/1.1 403'\n"
        assert (eater.breach, bomb.breach) == ("memory", "processes")
        assert [(each.path, each.content) for each in files.artifacts] == [("a", b"b")]
        assert eventually(daemon.is_quiet)
    finally:
        os.kill(daemon.child.pid, signal.SIGTERM)
        daemon.stop()
        shutil.rmtree(state)


def _version(python: str) -> tuple[int, ...]:
    said = subprocess.run([python, "-c", "import sys; print(*sys.version_info[:2])"], capture_output=True, check=True)
    return tuple(map(int, said.stdout.split()))
