"""Tasks done on another machine: by a command, and in a sandbox whose runtime is scripted."""

import sys
import threading
import time

import pytest

from federation import outpost
from federation.client import Cancelled, Failed, Work
from sandboxes.runtimes import Artifact, Outcome, RuntimeLost


def work(payload=None, type="execute"):
    return Work({"task": {"id": "t1", "type": type, "payload": payload}, "epoch": 3})


def by(code, **options):
    return outpost.by_command([sys.executable, "-c", code], **options)


def test_a_command_gets_the_payload_and_gives_the_result():
    code = "import json, os, sys; print(json.dumps([json.load(sys.stdin), os.environ['NTD_TASK_EPOCH']]))"

    assert by(code)(work({"n": 1})) == [{"n": 1}, "3"]


def test_a_command_does_not_learn_the_agents_secrets(monkeypatch):
    monkeypatch.setenv("NTD_AGENT_TOKEN", "nta_hidden")
    monkeypatch.setenv("NTD_API_KEY", "ntd_hidden")

    found = by("import json, os; print(json.dumps([n for n in os.environ if '_hidden' in os.environ[n]]))")(work())

    assert found == []


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("import sys; sys.exit('no prices')", "no prices"),
        ("import sys; sys.exit(3)", "exit code 3"),
        ("print('not json')", "printed no JSON"),
        ("print('1' * 1100000)", "larger than"),
    ],
)
def test_what_a_command_does_wrong_is_the_tasks_failure(code, words):
    with pytest.raises(Failed, match=words) as failed:
        by(code)(work())

    assert failed.value.retryable is False


def test_a_command_that_is_not_there_is_named():
    with pytest.raises(Failed, match="no-such-program cannot be started"):
        outpost.by_command(["no-such-program"])(work())


def test_a_command_may_take_so_long():
    with pytest.raises(Failed, match=r"longer than its 0\.1 seconds"):
        by("import time; time.sleep(9)", timeout_seconds=0.1)(work())


def test_a_cancelled_command_is_killed_with_what_it_started():
    doing = work()
    code = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import time; time.sleep(9)'])"
    threading.Timer(0.1, doing.cancel).start()
    began = time.monotonic()

    with pytest.raises(Cancelled):
        by(code)(doing)

    assert time.monotonic() - began < 5


class Scripted:
    """A runtime that ends as told."""

    def __init__(self, **ends):
        self.ends, self.requests, self.cancelled = ends, [], []

    def run(self, request, *, on_started, on_output, on_sample=None):
        self.requests.append(request)
        if "raises" in self.ends:
            raise self.ends["raises"]
        on_started(None)
        fields = dict.fromkeys(Outcome.__dataclass_fields__, 0)
        said = {"exit_code": 0, "signal": None, "breach": None, "cancelled": False, "stdout": b"", "stderr": b""}
        return Outcome(**{**fields, **said, "artifacts": (), "artifacts_truncated": (), **self.ends})

    def cancel(self, request_id):
        self.cancelled.append(request_id)


def test_an_execution_runs_in_the_sandbox_and_its_artifact_is_the_result():
    runtime = Scripted(artifacts=(Artifact("result.json", b'{"n": 42}'),))
    payload = {"code": "print(1)", "timeout_seconds": 5, "limits": {"memory_mb": 64}, "files": {"a": "b"}}

    assert outpost.in_sandbox(runtime)(work(payload)) == {"n": 42}

    (request,) = runtime.requests
    assert (request.id, request.language, request.code, request.timeout_seconds) == ("t1-3", "python", "print(1)", 5)
    assert (request.limits.memory_mb, request.files) == (64, {"a": b"b"})


@pytest.mark.parametrize(
    ("ends", "words", "retryable"),
    [
        ({"exit_code": 1, "stderr": b"boom"}, "boom", False),
        ({"exit_code": None, "signal": 9, "breach": "memory"}, "limit of memory", False),
        ({"exit_code": None, "signal": 9}, "signal 9", False),
        ({"raises": RuntimeLost("the daemon went away")}, "went away", True),
    ],
)
def test_how_a_sandbox_ends_badly_is_told(ends, words, retryable):
    with pytest.raises(Failed, match=words) as failed:
        outpost.in_sandbox(Scripted(**ends))(work({"code": "print(1)"}))

    assert failed.value.retryable is retryable


@pytest.mark.parametrize(
    ("payload", "words"),
    [
        ({}, "needs `code`"),
        ({"code": "1", "timeout_seconds": 0}, "timeout_seconds"),
        ({"code": "1", "limits": {"memory_mb": 1}}, "."),
        ({"code": "1", "template": "mine"}, "leave out `template`"),
        ({"code": "1", "files": {"../a": "b"}}, "files"),
    ],
)
def test_a_payload_that_cannot_run_is_refused(payload, words):
    runtime = Scripted()

    with pytest.raises(Failed, match=words) as failed:
        outpost.in_sandbox(runtime)(work(payload))

    assert (failed.value.retryable, runtime.requests) == (False, [])


def test_a_cancelled_execution_is_stopped_in_its_sandbox():
    doing, runtime = work({"code": "1"}), Scripted(cancelled=True, exit_code=None)

    with pytest.raises(Cancelled):
        outpost.in_sandbox(runtime)(doing)
    doing.cancel()

    assert runtime.cancelled == ["t1-3"]
