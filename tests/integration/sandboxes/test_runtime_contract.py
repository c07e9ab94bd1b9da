"""What every runtime promises; the fake, the real daemon and the adapter of the E2B cloud pass the same tests.

The cloud is the fake one of tests/fake_e2b, reached by the official SDK. Where it truly differs, a Kind says so.
"""

from __future__ import annotations

import threading
import time
import uuid
from dataclasses import dataclass

import psutil
import pytest

from sandboxes.limits import Limits
from sandboxes.runtimes import BuildRequest, InvalidRequest, Needs, RuntimeUnavailable, SandboxGone, Size, Started
from tests.fakes import FakeRuntime
from tests.integration.sandboxes import daemons
from tests.integration.sandboxes.daemons import eventually, keep, kept, make_request, run, watch


@dataclass(frozen=True)
class Kind:
    """`is_here`: a process of this machine, which keeps sandboxes ready and builds templates."""

    name: str
    is_here: bool = True


FAKE, E2B = Kind("fake"), Kind("e2b", is_here=False)
DAEMONS = [Kind(engine) for engine in daemons.ENGINES]
HERE = pytest.mark.parametrize("kind", [FAKE, *DAEMONS], ids=lambda kind: kind.name, indirect=True)
AWAY = pytest.mark.parametrize("kind", [E2B], ids=lambda kind: kind.name, indirect=True)


@pytest.fixture(params=[FAKE, *DAEMONS, E2B], ids=lambda kind: kind.name)
def kind(request: pytest.FixtureRequest) -> Kind:
    return request.param


@pytest.fixture
def runtime(request: pytest.FixtureRequest, kind: Kind, daemon_of):
    if kind is FAKE:
        return FakeRuntime()
    return daemon_of(kind.name).runtime if kind.is_here else request.getfixturevalue("cloud").runtime


def test_a_program_that_ends_well_exits_with_zero(runtime):
    outcome = run(runtime, "print('hello')")

    assert (outcome.exit_code, outcome.signal, outcome.breach, outcome.cancelled) == (0, None, None, False)
    assert outcome.stdout == b"hello\n"
    assert outcome.stderr == b""


def test_the_caller_hears_of_the_start_once_and_before_any_output(runtime):
    heard = []
    request = make_request("print(1)")

    runtime.run(request, on_started=heard.append, on_output=lambda *chunk: heard.append(chunk))

    assert isinstance(heard[0], Started)
    assert [type(item) for item in heard].count(Started) == 1
    assert heard[0].sandbox


def test_output_arrives_in_order_and_adds_up_to_the_outcome(runtime):
    ran = watch(runtime, make_request("import sys\nfor n in range(40_000): print(n)\nprint('e', file=sys.stderr)"))

    for name in ("stdout", "stderr"):
        chunks = [(offset, chunk) for stream, offset, chunk in ran.output if stream == name]
        whole = getattr(ran.outcome, name)
        assert b"".join(chunk for _, chunk in chunks) == whole
        assert all(whole[offset : offset + len(chunk)] == chunk for offset, chunk in chunks)
        assert all(len(chunk) <= 64 << 10 for _, chunk in chunks)


def test_output_arrives_while_the_program_runs(runtime):
    seen_at = []
    request = make_request("import time\nprint('early', flush=True)\ntime.sleep(0.5)")

    runtime.run(request, on_started=lambda _: None, on_output=lambda *_: seen_at.append(time.monotonic()))

    assert time.monotonic() - seen_at[0] > 0.3


def test_an_exception_is_told_with_the_callers_own_lines(runtime):
    outcome = run(runtime, "x = 1\n\n1 / 0\n")

    assert outcome.exit_code == 1
    assert b"line 3, in <module>" in outcome.stderr
    assert b"ZeroDivisionError: division by zero" in outcome.stderr
    assert outcome.breach is None


@pytest.mark.parametrize(
    ("code", "exit_code"),
    [("import sys; sys.exit(3)", 3), ("raise SystemExit('no')", 1), ("import os; os._exit(7)", 7)],
)
def test_the_exit_code_is_the_programs(runtime, code, exit_code):
    assert run(runtime, code).exit_code == exit_code


def test_a_program_killed_by_a_signal_has_a_signal_and_no_exit_code(runtime):
    outcome = run(runtime, "import os, signal; os.kill(os.getpid(), signal.SIGTERM)")

    assert (outcome.exit_code, outcome.signal, outcome.breach) == (None, 15, None)


def test_stdin_arguments_and_environment_reach_the_program(runtime):
    code = "import sys, os; print(sys.stdin.read(), sys.argv[1:], os.environ['STRATEGY'])"

    outcome = run(runtime, code, stdin=b"prices", args=("a b", "ü"), env={"STRATEGY": "breakout"})

    assert outcome.stdout.decode() == "prices ['a b', 'ü'] breakout\n"


def test_a_large_stdin_arrives_whole(runtime):
    outcome = run(runtime, "import sys; print(len(sys.stdin.buffer.read()))", stdin=b"x" * (8 << 20))

    assert outcome.stdout == b"8388608\n"


def test_a_program_that_never_reads_its_stdin_is_no_trouble(runtime):
    assert run(runtime, "pass", stdin=b"x" * (8 << 20)).exit_code == 0


def test_files_are_in_the_working_directory_and_can_be_imported(runtime):
    files = {
        "rule.py": b"LIMIT = 7",
        "prices/day.csv": b"1,2",
        "odd \xff name".encode("latin-1").decode("latin-1"): b"",
    }

    outcome = run(runtime, "import rule; print(rule.LIMIT, open('prices/day.csv').read())", files=files)

    assert outcome.stdout == b"7 1,2\n"


@pytest.mark.parametrize("path", ["../x", "/etc/x", "a/../../x", "", "a//b", "./a", "a\0b"])
def test_a_file_outside_the_workspace_is_refused(runtime, path):
    with pytest.raises(InvalidRequest):
        run(runtime, "pass", files={path: b""})


@pytest.mark.parametrize(
    "changes",
    [{"language": "cobol"}, {"env": {"A B": "c"}}, {"env": {"A": "\0"}}, {"args": ("\0",)}, {"network": True}],
)
def test_a_wrong_request_is_refused(runtime, changes):
    with pytest.raises(InvalidRequest):
        run(runtime, "pass", **changes)


def test_the_program_is_main_and_its_folder_is_first_on_the_path(runtime):
    outcome = run(runtime, "import sys, os; print(__name__, sys.path[0] in ('', os.getcwd()))")

    assert outcome.stdout == b"__main__ True\n"


def test_artifacts_come_back(runtime):
    code = "import os; os.mkdir('artifacts/a'); open('artifacts/a/curve.csv', 'wb').write(bytes(range(256)))"

    outcome = run(runtime, code)

    assert [(each.path, each.content) for each in outcome.artifacts] == [("a/curve.csv", bytes(range(256)))]
    assert outcome.artifacts_truncated == ()


def test_artifacts_are_regular_files_only(runtime):
    code = """
import os
os.symlink('/etc/passwd', 'artifacts/link')
os.symlink('/etc', 'artifacts/folder')
open('artifacts/fine', 'w').write('ok')
"""

    outcome = run(runtime, code)

    assert [each.path for each in outcome.artifacts] == ["fine"]
    assert sorted(outcome.artifacts_truncated) == ["folder", "link"]


def test_artifacts_beyond_the_bounds_are_named_and_left_out(runtime):
    code = """
import os
os.truncate(os.open('artifacts/a-sparse', os.O_CREAT | os.O_RDWR), 900 << 20)
for n in range(70): open(f'artifacts/{n:03}', 'w').write('x')
"""

    outcome = run(runtime, code)

    assert len(outcome.artifacts) == 64
    assert "a-sparse" in outcome.artifacts_truncated
    assert len(outcome.artifacts_truncated) == 7


def test_a_program_that_takes_too_long_is_ended(runtime):
    began = time.monotonic()

    outcome = run(runtime, "print('begun', flush=True)\nwhile True: pass", timeout_seconds=0.7)

    assert outcome.breach == "timeout"
    assert outcome.exit_code is None
    assert outcome.stdout == b"begun\n"
    assert 0.6 < time.monotonic() - began < 3


def test_a_program_that_writes_too_much_is_ended_and_what_came_before_is_kept(runtime):
    outcome = run(runtime, "while True: print('x' * 1000)", limits={"output_kb": 16})

    assert outcome.breach == "output"
    assert len(outcome.stdout) == 16 << 10
    assert outcome.stdout_truncated
    assert not outcome.stderr_truncated


def test_each_stream_has_a_cap_of_its_own(runtime):
    code = "import sys\nprint('o' * 9000)\nprint('e' * 9000, file=sys.stderr)"

    outcome = run(runtime, code, limits={"output_kb": 10})

    assert outcome.exit_code == 0
    assert (len(outcome.stdout), len(outcome.stderr)) == (9001, 9001)


def test_output_is_bytes_whatever_they_are(runtime):
    outcome = run(runtime, r"import sys; sys.stdout.buffer.write(b'\xff\x00\xfe')")

    assert outcome.stdout == b"\xff\x00\xfe"


def test_a_cancelled_program_is_dead_within_200_ms(runtime):
    request = make_request("import time; print('go', flush=True); time.sleep(30)")
    ran, going = [], threading.Event()
    arguments = {"on_started": lambda _: None, "on_output": lambda *_: going.set()}
    thread = threading.Thread(target=lambda: ran.append(runtime.run(request, **arguments)))
    thread.start()
    assert going.wait(10)
    began = time.monotonic()

    known = runtime.cancel(request.id)
    thread.join(5)

    assert known
    assert time.monotonic() - began < 0.2
    assert ran[0].cancelled
    assert ran[0].breach is None
    assert ran[0].stdout == b"go\n"


def test_cancelling_what_does_not_run_here_is_false(runtime):
    assert runtime.cancel("nobody") is False


def test_the_execution_ends_with_its_main_process(runtime):
    code = "import os, time\nif os.fork() == 0:\n    time.sleep(30)\nprint('done')"
    began = time.monotonic()

    outcome = run(runtime, code)

    assert outcome.exit_code == 0
    assert time.monotonic() - began < 10


def test_usage_is_measured(runtime):
    # A fixed amount of work: a kernel of the sandbox's own may estimate its programs' time by the clock on the wall.
    outcome = run(runtime, "n = 0\nwhile n < 5_000_000: n += 1")

    assert 50 < outcome.cpu_ms < 5000
    assert outcome.duration_ms >= 50
    assert outcome.peak_memory_bytes > 1 << 20
    assert outcome.network_sent_bytes == outcome.network_received_bytes == 0


def test_while_it_runs_what_it_uses_is_told(runtime):
    told = []
    code = """
import time
held = bytearray(b"x") * (40 << 20)
open("left", "wb").write(b"x" * (2 << 20))
while time.process_time() < 0.6: pass
time.sleep(0.6)
"""

    outcome = runtime.run(make_request(code), on_started=lambda _: None, on_output=print, on_sample=told.append)

    assert outcome.exit_code == 0, outcome.stderr
    assert len(told) >= 3
    assert told[0].at_ms >= 250
    assert all(later.at_ms - earlier.at_ms >= 200 for earlier, later in zip(told, told[1:], strict=False))
    assert [each.cpu_ms for each in told] == sorted(each.cpu_ms for each in told)
    assert told[-1].cpu_ms >= 400
    assert told[-1].at_ms <= outcome.duration_ms
    assert max(each.memory_bytes for each in told) >= 40 << 20
    assert max(each.disk_bytes for each in told) >= 2 << 20


def test_a_run_that_is_over_in_a_moment_is_not_sampled(runtime):
    told = []

    outcome = runtime.run(make_request(), on_started=lambda _: None, on_output=print, on_sample=told.append)

    assert told == [] or outcome.duration_ms >= 250


def test_many_run_at_once_and_none_gets_anothers_output(runtime):
    outcomes = {}
    threads = [
        threading.Thread(target=lambda n=n: outcomes.update({n: run(runtime, f"print({n})")})) for n in range(12)
    ]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert {n: outcome.stdout for n, outcome in outcomes.items()} == {n: f"{n}\n".encode() for n in range(12)}


def test_an_error_of_the_callers_own_is_passed_on(runtime):
    def fail(*_: object) -> None:
        raise OSError("the caller's disk is full")

    with pytest.raises(OSError, match="the caller's disk is full"):
        runtime.run(make_request("print(1)"), on_started=lambda _: None, on_output=fail)

    assert run(runtime, "print(2)").stdout == b"2\n"


def test_the_runtime_describes_itself(runtime):
    said = runtime.describe()

    assert said["engine"]
    assert set(said["limits"]) >= {"memory", "processes", "cpu", "disk", "output", "timeout"}
    assert set(said["pools"]["python"]) == {"ready", "running", "starting", "draining", "failed"}
    assert all(set(probe) == {"engine", "ok", "reasons"} for probe in said["probes"])


def test_what_it_could_never_keep_it_says_beforehand(runtime):
    usual = Needs(language="python", timeout_seconds=60, limits=Limits())

    assert runtime.objections(usual) == {}


@HERE
def test_a_new_size_is_taken_and_said(runtime):
    before = Size(**runtime.describe()["pool_sizes"]["python"])
    size = Size(ready=1, running=3, idle_timeout_seconds=30, max_age_seconds=600)

    runtime.resize("python", size)
    said = runtime.describe()["pool_sizes"]["python"]
    runtime.resize("python", before)

    assert said == vars(size)
    assert runtime.describe()["pool_sizes"]["python"] == vars(before)


@AWAY
def test_a_runtime_that_keeps_nothing_ready_takes_no_size(runtime):
    with pytest.raises(RuntimeUnavailable, match="keeps no sandboxes ready"):
        runtime.resize("python", Size(ready=1, running=3, idle_timeout_seconds=30, max_age_seconds=600))

    assert runtime.describe()["pool_sizes"] == {}


@HERE
@pytest.mark.parametrize(
    ("language", "changes"),
    [("cobol", {}), ("python", {"ready": -1}), ("python", {"running": 0}), ("python", {"max_age_seconds": 0})],
)
def test_a_wrong_size_is_refused_and_changes_nothing(runtime, language, changes):
    before = runtime.describe()["pool_sizes"]
    wrong = Size(**{"ready": 1, "running": 3, "idle_timeout_seconds": 0, "max_age_seconds": 600} | changes)

    with pytest.raises(InvalidRequest):
        runtime.resize(language, wrong)

    assert runtime.describe()["pool_sizes"] == before


@HERE
def test_the_process_behind_it_is_one_of_this_machine(runtime):
    assert psutil.pid_exists(runtime.describe()["process"])


@AWAY
def test_a_runtime_that_is_elsewhere_names_no_process(runtime):
    assert "process" not in runtime.describe()


def test_what_runs_is_counted_until_it_has_ended(runtime):
    seen = []
    request = make_request("import time; print('go', flush=True); time.sleep(0.2)")

    runtime.run(
        request, on_started=lambda _: None, on_output=lambda *_: seen.append(runtime.describe()["pools"]["python"])
    )

    assert seen[0]["running"] == 1
    assert eventually(lambda: runtime.describe()["pools"]["python"]["running"] == 0)


def build_request(*packages: str, language: str = "python", **changes: object) -> BuildRequest:
    fields = {"id": uuid.uuid4().hex, "address": f"{language}-{uuid.uuid4().hex}", "language": language}
    return BuildRequest(**fields | {"packages": packages} | changes)


@HERE
def test_an_empty_template_is_built_at_once_and_can_be_taken_away_again(runtime):
    asked = build_request()

    built = runtime.build(asked, on_output=lambda *_: None)
    here = asked.address in runtime.describe()["templates"]

    assert (built.reason, here) == ("", True)
    assert [runtime.discard(asked.address), runtime.discard(asked.address)] == [True, False]
    assert asked.address not in runtime.describe()["templates"]


@HERE
@pytest.mark.parametrize("packages", [("https://example.com/six.whl",), ("-r/etc/passwd",)])
def test_a_wrong_build_is_refused(runtime, packages):
    with pytest.raises(InvalidRequest):
        runtime.build(build_request(*packages), on_output=lambda *_: None)


@HERE
def test_an_address_of_another_language_is_refused(runtime):
    with pytest.raises(InvalidRequest):
        runtime.build(build_request(address="node-x"), on_output=lambda *_: None)


@AWAY
def test_a_runtime_that_is_elsewhere_builds_no_templates(runtime):
    with pytest.raises(RuntimeUnavailable, match="own nodes"):
        runtime.build(build_request(), on_output=lambda *_: None)

    assert runtime.describe()["templates"] == []
    assert runtime.discard("python-0123") is False


@AWAY
def test_a_runtime_that_is_elsewhere_keeps_no_sandbox(runtime):
    """What it says where sandboxes are kept is in test_kept_contract.py."""
    with pytest.raises(RuntimeUnavailable, match="own nodes"):
        keep(runtime)
    with pytest.raises(SandboxGone, match="own nodes"):
        run(runtime, "pass", sandbox="0123")
    with pytest.raises(SandboxGone, match="own nodes"):
        runtime.extend("0123", 60)

    assert runtime.close("0123") is False
    assert kept(runtime) == {}
