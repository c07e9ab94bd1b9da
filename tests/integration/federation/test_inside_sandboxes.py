"""What is sent into sandboxes, in real ones: handlers, trainings, and MCP servers over standard input and output."""

from __future__ import annotations

import json
import sysconfig

import pytest

from federation import servers, training, workloads
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


@pytest.mark.parametrize("model", training.MODELS)
def test_a_training_leaves_its_metrics_and_weights(runtime, model):
    found, ended = run(runtime, workloads.execution_arguments(type="train", payload={"model": model}))

    assert (found["model"], len(found["windows"])) == (model, 9), ended.stderr
    assert {each.path for each in ended.artifacts} == {"result.json", "weights.json"}


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
