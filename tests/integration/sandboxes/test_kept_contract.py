"""What every runtime promises of the sandboxes it keeps; the fake and the real daemon pass the same tests."""

from __future__ import annotations

import threading

import pytest

from sandboxes.limits import Limits
from sandboxes.runtimes import InvalidRequest, Opening, SandboxBusy, SandboxGone
from tests.fakes import FakeRuntime
from tests.integration.sandboxes.daemons import eventually, keep, kept, make_request, run


@pytest.fixture(params=["fake", "bubblewrap"])
def runtime(request: pytest.FixtureRequest, daemon_of):
    found = FakeRuntime() if request.param == "fake" else daemon_of(request.param).runtime
    yield found
    for sandbox in kept(found):
        found.close(sandbox)


def test_files_stay_and_artifacts_are_each_runs_own(runtime):
    sandbox = keep(runtime)

    first = run(runtime, "open('a', 'w').write('kept'); open('artifacts/one', 'w').write('1')", sandbox=sandbox)
    second = run(runtime, "print(open('a').read()); open('artifacts/two', 'w').write('2')", sandbox=sandbox)

    assert [each.path for each in first.artifacts] == ["one"]
    assert (second.stdout, [each.path for each in second.artifacts]) == (b"kept\n", ["two"])


def test_two_of_them_share_nothing(runtime):
    ours, theirs = keep(runtime), keep(runtime)

    run(runtime, "open('a', 'w').write('secret')", sandbox=ours)

    assert run(runtime, "import os; print(os.path.exists('a'))", sandbox=theirs).stdout == b"False\n"
    assert run(runtime, "import os; print(os.path.exists('a'))").stdout == b"False\n"


def test_its_environment_and_limits_are_its_own(runtime):
    sandbox = keep(runtime, env={"A": "1", "B": "1"}, limits={"output_kb": 1})
    code = "import os; print(os.environ['A'], os.environ['B'])"

    assert run(runtime, code, sandbox=sandbox, env={"B": "2"}).stdout == b"1 2\n"
    assert run(runtime, "print('x' * 5000)", sandbox=sandbox, limits={"output_kb": 100}).breach == "output"


def test_the_start_names_the_sandbox(runtime):
    sandbox, started = keep(runtime), []

    runtime.run(make_request(sandbox=sandbox), on_started=started.append, on_output=lambda *_: None)

    assert [each.sandbox for each in started] == [sandbox]


def test_one_run_at_a_time(runtime):
    sandbox = keep(runtime)
    request = make_request("print('go', flush=True)\nimport time; time.sleep(30)", sandbox=sandbox)
    going, ended = threading.Event(), []
    told = {"on_started": lambda _: None, "on_output": lambda *_: going.set()}
    thread = threading.Thread(target=lambda: ended.append(runtime.run(request, **told)))
    thread.start()
    assert going.wait(10)

    with pytest.raises(SandboxBusy):
        run(runtime, "pass", sandbox=sandbox)
    assert kept(runtime) == {sandbox: "running"}
    assert runtime.cancel(request.id)
    thread.join(10)

    assert ended[0].cancelled
    assert kept(runtime) == {sandbox: "idle"}
    assert run(runtime, "print(1)", sandbox=sandbox).stdout == b"1\n"


def test_it_is_closed_once_with_what_runs_in_it_and_says_why_ever_after(runtime):
    sandbox = keep(runtime)
    request = make_request("print('go', flush=True)\nimport time; time.sleep(30)", sandbox=sandbox)
    going, ended = threading.Event(), []

    def drive() -> None:
        try:
            runtime.run(request, on_started=lambda _: None, on_output=lambda *_: going.set())
        except SandboxGone as gone:
            ended.append(str(gone))

    thread = threading.Thread(target=drive)
    thread.start()
    assert going.wait(10)

    closed = [runtime.close(sandbox), runtime.close(sandbox)]
    thread.join(10)

    assert closed == [True, False]
    assert ended == ["It was closed."]
    assert runtime.describe()["kept"]["ended"][sandbox] == "It was closed."
    for act in (lambda: run(runtime, "pass", sandbox=sandbox), lambda: runtime.extend(sandbox, 60)):
        with pytest.raises(SandboxGone, match="It was closed"):
            act()


def test_its_time_ends_it(runtime):
    sandbox = keep(runtime, seconds=0.3)

    assert eventually(lambda: kept(runtime) == {})
    with pytest.raises(SandboxGone, match="time-to-live"):
        run(runtime, "pass", sandbox=sandbox)


def test_more_time_is_given_and_never_taken(runtime):
    sandbox = keep(runtime, seconds=60)

    runtime.extend(sandbox, 600)
    runtime.extend(sandbox, 1)

    [said] = runtime.describe()["kept"]["sandboxes"]
    assert 590 < said["expires_in_seconds"] <= 600


def test_opening_it_again_changes_nothing(runtime):
    sandbox = keep(runtime)
    run(runtime, "open('a', 'w').write('b')", sandbox=sandbox)

    keep(runtime, id=sandbox)

    assert run(runtime, "print(open('a').read())", sandbox=sandbox).stdout == b"b\n"


def test_what_never_was_here_is_gone_too(runtime):
    for act in (lambda: run(runtime, "pass", sandbox="nobody"), lambda: runtime.extend("nobody", 60)):
        with pytest.raises(SandboxGone):
            act()
    assert runtime.close("nobody") is False


@pytest.mark.parametrize(
    "changes",
    [{"language": "cobol"}, {"id": ""}, {"expires_in_seconds": 0}, {"env": {"A B": "c"}}, {"network": True}],
)
def test_a_wrong_opening_is_refused(runtime, changes):
    usual = {"id": "x", "language": "python", "expires_in_seconds": 60, "limits": Limits(disk_mb=100)}

    with pytest.raises(InvalidRequest):
        runtime.open(Opening(**usual | changes))
