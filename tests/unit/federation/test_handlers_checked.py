"""What a handler may be, told without running it; and the program that runs it, in a folder as in a sandbox."""

import json
import subprocess
import sys

import pytest

from federation import workloads
from federation.workloads import Handler


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("def handle(payload)\n    return 1\n", "Expected ':', line 1."),
        ("x = 1\n\ndef handle(payload):\nreturn 1\n", "line 4."),
        ("", "It is empty"),
        ("# nothing\n", "It is empty"),
        ("x = '\x00'", "U+0000"),
        ("(" * 500, "line 1"),
        ("def handle():\n    pass\n", "takes one argument, the payload, line 1"),
        ("\ndef handle(a, b):\n    pass\n", "line 2"),
        ("def handle(*, a):\n    pass\n", "takes one argument"),
    ],
)
def test_a_fault_names_its_line(code, words):
    assert words in workloads.handler_fault(code)


@pytest.mark.parametrize(
    "code",
    [
        "def handle(payload):\n    return payload\n",
        "async def handle(payload, more=1, *, x=2):\n    return payload\n",
        "def handle(*all):\n    return all\n",
        "print('a module that just runs')\n",
        "from somewhere import handle\n",
    ],
)
def test_what_can_run_has_no_fault(code):
    assert workloads.handler_fault(code) == ""


def test_a_task_of_ones_own_type_is_the_handlers():
    handler = Handler(code="x = 1", template="mine", types=("price",), timeout_seconds=5, limits={"memory_mb": 64})

    arguments = workloads.execution_arguments(type="price", payload=[1], handler=handler)

    assert arguments["files"] == {"handler.py": "x = 1", "payload.json": b"[1]"}
    assert (arguments["template"], arguments["timeout_seconds"], arguments["limits"]) == ("mine", 5, {"memory_mb": 64})


@pytest.mark.parametrize("handler", [None, Handler(code="x = 1", types=("price",))])
def test_a_type_nobody_handles_is_named(handler):
    with pytest.raises(workloads.BadPayload, match="no handler for tasks of the type risk"):
        workloads.execution_arguments(type="risk", payload={}, handler=handler)


def run(folder, code, payload):
    arguments = workloads.execution_arguments(type="mine", payload=payload, handler=Handler(code=code))
    for name, content in arguments["files"].items():
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    (folder / "__main__.py").write_text(arguments["code"])
    done = subprocess.run([sys.executable, "__main__.py"], cwd=folder, capture_output=True, text=True)
    result = folder / "artifacts" / "result.json"
    return done, json.loads(result.read_text()) if result.exists() else None


@pytest.mark.parametrize(
    ("code", "result"),
    [
        ("def handle(payload):\n    return {'n': 2 * payload['n']}\n", {"n": 42}),
        ("async def handle(payload):\n    return payload['n']\n", 21),
        ("import numpy as np\ndef handle(payload):\n    return {'a': np.arange(3), 'b': np.float64(1.5)}\n", {"a": [0, 1, 2], "b": 1.5}),
        ("import os\ndef handle(payload):\n    os.mkdir('artifacts')\n    open('artifacts/result.json', 'w').write('7')\n", 7),
        ("print('ran')\n", None),
    ],
)  # fmt: skip
def test_what_it_returns_or_leaves_is_the_result(tmp_path, code, result):
    done, found = run(tmp_path, code, {"n": 21})

    assert (done.returncode, found) == (0, result), done.stderr


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("def handle(payload):\n    return {1, 2}\n", "handle() returned what is no JSON"),
        ("def handle(payload):\n    return float('nan')\n", "no JSON"),
        ("\n\ndef handle(payload):\n    return payload['missing']\n", 'handler.py", line 4, in handle'),
    ],
)
def test_what_goes_wrong_in_it_is_said_with_its_line(tmp_path, code, words):
    done, found = run(tmp_path, code, {})

    assert (done.returncode, found) == (1, None)
    assert words in done.stderr
