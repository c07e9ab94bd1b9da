"""Plain Python. What managed agents can do: a task's type and payload as the arguments of an execution, and back.

execute    the payload is an execution body
backtest   a strategy of the sample, or one with its source in the payload, over the sample's prices
strategy   a customer's own code: {"code", "name"}
train      a small model of the sample's prices (training.py)
infer      what such a model predicts (inference.py)
any other  the payload goes to the agent's handler
"""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from federation import inference, training
from federation.sample import shelf, sweep

EXECUTE, BACKTEST, STRATEGY, TRAIN, INFER = "execute", "backtest", "strategy", "train", "infer"
MCP_TOOL = "mcp.tool"
MANAGED_TYPES = frozenset({EXECUTE, BACKTEST, STRATEGY, TRAIN, INFER})
RESULT_PATH = "result.json"
TOLD_PATH = "mail.jsonl"
ON_MESSAGE = "on_message"
# What a handler may define, each with its one argument.
ARGUMENTS = {"handle": "the payload", ON_MESSAGE: "the message"}
DEPENDENCIES_PATH = "dependencies.json"
MAX_RESULT_BYTES = 1024 * 1024
EXECUTION_FIELDS = {
    "code", "language", "template", "pool", "input", "args", "env", "files", "timeout_seconds", "limits", "network",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Handler:
    """An agent's own code for tasks of its own types, and where and within what it runs. No types: any."""

    code: str
    template: str = "python"
    types: tuple[str, ...] = ()
    timeout_seconds: float = 60
    limits: Mapping[str, Any] = field(default_factory=dict)
    network: bool = False


class BadPayload(ValueError):
    """Raised when no execution can be made of a task's payload; the text says what to change."""

    code = "validation_error"


def execution_arguments(
    *,
    type: str,
    payload: Any,
    handler: Handler | None = None,
    dependencies: Mapping[str, Any] | None = None,
    model: inference.Model | None = None,
) -> dict[str, Any]:
    """The keyword arguments of `executions.submit` that do the task. Raises BadPayload. `infer` needs its `model`.

    The results of the tasks it depends on, by their ids, are the program's file DEPENDENCIES_PATH; a handler gets
    them in the payload, as a remote agent does.
    """
    if type not in MANAGED_TYPES:
        return _handled(type, {**payload, "dependencies": dependencies} if dependencies else payload, handler)
    if not isinstance(payload, dict):
        raise BadPayload("The payload must be an object.")
    arguments = _execution(payload) if type == EXECUTE else _sample(type, payload, model)
    if dependencies:
        arguments["files"] = {**(arguments.get("files") or {}), DEPENDENCIES_PATH: json.dumps(dependencies)}
    return arguments


def check(*, type: str, payload: Any) -> None:
    """What can be seen of a managed type's payload by itself. Raises BadPayload."""
    if type != INFER:
        execution_arguments(type=type, payload=payload)
    elif not isinstance(payload, dict):
        raise BadPayload("The payload must be an object.")
    else:
        try:
            inference.parse(payload)
        except inference.InvalidInference as invalid:
            raise BadPayload(str(invalid)) from invalid


def _sample(type: str, payload: Mapping[str, Any], model: inference.Model | None) -> dict[str, Any]:
    try:
        if type == INFER:
            assert model is not None
            return inference.execution_request(inference.parse(payload), model)
        if type == TRAIN:
            return training.execution_request(training.parse(payload))
        return dict(sweep.execution_request(_job(type, payload)))
    except (sweep.InvalidJob, training.InvalidTraining, inference.InvalidInference) as invalid:
        raise BadPayload(str(invalid)) from invalid


def _handled(type: str, payload: Any, handler: Handler | None) -> dict[str, Any]:
    if handler is None or (handler.types and type not in handler.types):
        raise BadPayload(f"This agent has no handler for tasks of the type {type}.")
    return _of_handler(handler, "handle", {"payload.json": json.dumps(payload).encode()})


def message_arguments(*, asked: bytes, handler: Handler) -> dict[str, Any]:
    """The keyword arguments of `executions.submit` that give an agent's messages (`mail.asked`) to its handler."""
    return _of_handler(handler, "mail", {"mail.json": asked})


def _of_handler(handler: Handler, program: str, files: Mapping[str, bytes]) -> dict[str, Any]:
    return {
        "code": shelf.inside(program),
        "files": {"handler.py": handler.code, **files},
        "template": handler.template,
        "timeout_seconds": handler.timeout_seconds,
        "limits": dict(handler.limits),
        "network": handler.network,
    }


def handler_fault(code: str) -> str:
    """Why this cannot be a handler, with the line; empty when it can. It is read, never run."""
    if "\x00" in code:
        return "It has the character U+0000."
    try:
        tree = ast.parse(code, "handler.py")
    except SyntaxError as wrong:
        return f"{(wrong.msg or 'invalid syntax').capitalize()}, line {wrong.lineno}."
    except (ValueError, RecursionError, MemoryError) as wrong:
        return f"It cannot be read: {wrong or type(wrong).__name__}."
    if not tree.body:
        return "It is empty. Define a function `handle(payload)`."
    faults = (_signature_fault(node) for node in _functions(tree) if node.name in ARGUMENTS)
    return next((said for said in faults if said), "")


def reads_messages(code: str) -> bool:
    """Whether this handler, which has no fault, defines what happens with a message."""
    return any(node.name == ON_MESSAGE for node in _functions(ast.parse(code, "handler.py")))


def _functions(tree: ast.Module) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    return [node for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def _signature_fault(function: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    given = function.args
    positional = len(given.posonlyargs) + len(given.args)
    required = positional - len(given.defaults)
    takes_one = (positional >= 1 or given.vararg) and required <= 1 and None not in given.kw_defaults
    name, argument = function.name, ARGUMENTS[function.name]
    return "" if takes_one else f"`{name}` takes one argument, {argument}, line {function.lineno}."


def _job(type: str, payload: Mapping[str, Any]) -> sweep.Job:
    if type == BACKTEST:
        return sweep.parse(payload)
    if not isinstance(payload.get("code"), str):
        raise BadPayload("A strategy needs its source text in `code`.")
    wanted = {name: value for name, value in payload.items() if name not in ("code", "name")}
    return sweep.parse({**wanted, "strategy": payload.get("name") or "my strategy", "source": payload["code"]})


def _execution(payload: Mapping[str, Any]) -> dict[str, Any]:
    unknown = sorted(set(payload) - EXECUTION_FIELDS)
    if unknown:
        raise BadPayload(f"An execution has no field {unknown[0]!r}.")
    if not isinstance(payload.get("code"), str) or not payload["code"].strip():
        raise BadPayload("A task of the type execute needs `code` in its payload.")
    arguments = dict(payload)
    if not {"language", "template", "pool"} & set(arguments):
        arguments["language"] = "python"
    return arguments


def label(*, type: str, payload: Any) -> str:
    """A few words for lists."""
    if not isinstance(payload, dict):
        return type
    if type in (BACKTEST, STRATEGY):
        try:
            return _job(type, payload).label[:160]
        except (sweep.InvalidJob, BadPayload):
            return type
    if type in (TRAIN, INFER):
        try:
            return (training if type == TRAIN else inference).label(payload)[:160]
        except (training.InvalidTraining, inference.InvalidInference):
            return type
    if type == MCP_TOOL:
        return f"{payload.get('tool', '')}()"[:160]
    first = next((line.strip() for line in str(payload.get("code", "")).splitlines() if line.strip()), "")
    return first[:80] if type == EXECUTE else type


def result(*, artifact: bytes | None, stdout: str, exit_code: int | None) -> Any:
    """A task's result: the JSON the program left, else what it printed."""
    if artifact is not None and len(artifact) <= MAX_RESULT_BYTES:
        with suppress(ValueError, RecursionError):
            found = json.loads(artifact)
            if is_storable(found):
                return found
    return {"exit_code": exit_code, "stdout": stdout[-20_000:].replace("\x00", "\N{REPLACEMENT CHARACTER}")}


def is_storable(value: Any) -> bool:
    """JSON allows what the database does not: no numbers, half characters, NUL."""
    try:
        text = json.dumps(value, allow_nan=False, ensure_ascii=False)
        text.encode()
    except (ValueError, RecursionError):
        return False
    return "\\u0000" not in text
