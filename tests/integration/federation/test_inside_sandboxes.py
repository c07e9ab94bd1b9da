"""What is sent into sandboxes, in real ones: handlers, trainings, and MCP servers over standard input and output."""

from __future__ import annotations

import json
import sysconfig

import pytest

from federation import inference, mail, servers, training, workloads
from federation.mail import Fate
from federation.models import McpServer
from sandboxes import programs
from sandboxes.limits import Limits
from sandboxes.runtimes import Request
from tests import mcp_servers
from tests.integration.sandboxes import daemons

SERVER = {"command": ["python3", "server.py"], "files": {"server.py": mcp_servers.SOURCE}}


@pytest.fixture(scope="module")
def runtime(tmp_path_factory):
    """The tests' own packages stand in for those that `up` installs."""
    packages = sysconfig.get_paths()["purelib"]
    options = ("--python-libraries", packages, "--ready", "1", "--running", "1", "--node", "")
    daemon = daemons.Daemon.start(tmp_path_factory.mktemp("daemon"), *options)
    yield daemon.runtime
    daemon.stop()


def run(runtime, arguments):
    """(the result it left, how it ended)"""
    asked = {name: arguments[name] for name in ("code", "files", "timeout_seconds")}
    program = programs.check(**asked)
    request = Request(
        id="one", language="python", code=program.code, files=program.files,
        timeout_seconds=program.timeout_seconds, limits=Limits.parse(arguments["limits"]),
    )  # fmt: skip
    ended = runtime.run(request, on_started=lambda _: None, on_output=lambda *_: None)
    left = {each.path: each.content for each in ended.artifacts}
    return json.loads(left["result.json"]) if "result.json" in left else None, ended


def test_a_handler_gets_the_payload_and_gives_the_result(runtime):
    code = "import numpy as np\n\ndef handle(payload):\n    return {'mean': np.mean(payload['n'])}\n"
    handler = workloads.Handler(code=code)

    found, ended = run(runtime, workloads.execution_arguments(type="mine", payload={"n": [1, 2, 3]}, handler=handler))

    assert (found, ended.exit_code) == ({"mean": 2.0}, 0), ended.stderr


READER = """
import json, os, pathlib, time

def on_message(message):
    pathlib.Path("artifacts/own.txt").write_text("kept")
    if message["payload"] == "sleep":
        time.sleep(60)
    if message["payload"] == "end":
        os._exit(7)
    return {"got": message["payload"] / 2}
"""


@pytest.mark.parametrize(
    ("payloads", "timeout_seconds", "expected"),
    [
        ([2, "x", 4], 20, [(Fate.DONE, {"got": 1.0}), (Fate.FAILED, None), (Fate.DONE, {"got": 2.0})]),
        ([2, "end", 4], 20, [(Fate.DONE, {"got": 1.0}), (Fate.FAILED, None), (Fate.UNTOUCHED, None)]),
        ([2, "sleep", 4], 1, [(Fate.DONE, {"got": 1.0}), (Fate.FAILED, None), (Fate.UNTOUCHED, None)]),
    ],
)
def test_a_handler_reads_messages_one_by_one(runtime, payloads, timeout_seconds, expected):
    handler = workloads.Handler(code=READER, timeout_seconds=timeout_seconds)
    messages = [{"id": f"m{number}", "payload": payload} for number, payload in enumerate(payloads)]
    asked = mail.asked(messages, timeout_seconds=timeout_seconds)

    _, ended = run(runtime, workloads.message_arguments(asked=asked, handler=handler))

    told = {each.path: each.content for each in ended.artifacts}["mail.jsonl"]
    found = mail.judge([each["id"] for each in messages], told, error="It ended.", ran=True, is_lost=False)
    assert [(each.fate, each.reply) for each in found.values()] == expected, ended.stderr


@pytest.mark.parametrize("model", training.MODELS)
def test_a_training_leaves_its_metrics_and_weights(runtime, model):
    found, ended = run(runtime, workloads.execution_arguments(type="train", payload={"model": model}))

    assert (found["model"], len(found["windows"])) == (model, 9), ended.stderr
    assert {each.path for each in ended.artifacts} == {"result.json", "weights.json"}


def test_a_trained_model_predicts(runtime):
    trained, _ = run(runtime, workloads.execution_arguments(type="train", payload={"model": "ridge"}))
    payload = {"model": "01a2194d-ea77-759d-af04-2401b199f592", "symbols": ["IBM", "AAPL"], "day": "2012-06-29"}
    model = inference.read_model(trained)

    found, ended = run(runtime, workloads.execution_arguments(type="infer", payload=payload, model=model))

    assert (ended.exit_code, found["day"], found["kind"]) == (0, "2012-06-29", "ridge"), ended.stderr
    assert [(each["symbol"], -0.2 < each["expected_return"] < 0.2) for each in found["predictions"]] == [
        ("IBM", True), ("AAPL", True),
    ]  # fmt: skip


def talk(runtime, payload, timeout_seconds=10, **changes):
    server = McpServer(**{**SERVER, "timeout_seconds": timeout_seconds, **changes})
    found, ended = run(runtime, servers.execution_arguments(server, servers.job(server, payload)))
    assert ended.exit_code == 0, ended.stderr
    return found


def test_an_mcp_server_says_its_tools_and_answers_a_call(runtime):
    found = talk(runtime, {"tool": "add", "arguments": {"a": 20, "b": 22}})

    assert [tool["name"] for tool in found["tools"]] == ["add", "fail", "sleep", "large", "die"]
    assert found["result"] == {"content": [{"type": "text", "text": "42"}], "structured": {"result": 42}}


@pytest.mark.parametrize(
    ("payload", "changes", "words", "retryable"),
    [
        ({"tool": "fail", "arguments": {"why": "no prices"}}, {}, "no prices", False),
        ({"tool": "subtract"}, {}, "no tool 'subtract'", False),
        ({"tool": "die"}, {}, "broke off", False),
        ({"tool": "sleep", "arguments": {"seconds": 60}}, {"timeout_seconds": 3}, "within 3 seconds", None),
        (None, {"command": ["no-such-program"]}, "cannot be started", False),
        (None, {"command": ["python3", "-c", "print('not a server')"]}, "broke off", True),
    ],
)
def test_what_goes_wrong_with_a_server_is_said(runtime, payload, changes, words, retryable):
    found = talk(runtime, payload, **changes)

    assert words in found["error"], found
    assert retryable in (None, found["retryable"])  # None: it depends on how far it came in that time
