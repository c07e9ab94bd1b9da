"""Plain Python. What managed agents can do: a task's type and payload as the arguments of an execution, and back.

execute    the payload is an execution body
backtest   a strategy of the sample, or one with its source in the payload, over the sample's prices
strategy   a customer's own code: {"code", "name"}
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from federation.sample import sweep

EXECUTE, BACKTEST, STRATEGY = "execute", "backtest", "strategy"
MANAGED_TYPES = frozenset({EXECUTE, BACKTEST, STRATEGY})
RESULT_PATH = "result.json"
DEPENDENCIES_PATH = "dependencies.json"
MAX_RESULT_BYTES = 1024 * 1024
EXECUTION_FIELDS = {
    "code", "language", "template", "pool", "input", "args", "env", "files", "timeout_seconds", "limits", "network",
}  # fmt: skip


class BadPayload(ValueError):
    """Raised when no execution can be made of a task's payload; the text says what to change."""

    code = "validation_error"


def execution_arguments(
    *, type: str, payload: Mapping[str, Any], dependencies: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The keyword arguments of `executions.submit` that do the task. The results of the tasks it depends on, by their
    ids, are the program's file DEPENDENCIES_PATH."""
    if not isinstance(payload, dict):
        raise BadPayload("The payload must be an object.")
    arguments = _execution(payload) if type == EXECUTE else _backtest(type, payload)
    if dependencies:
        arguments["files"] = {**(arguments.get("files") or {}), DEPENDENCIES_PATH: json.dumps(dependencies)}
    return arguments


def _backtest(type: str, payload: Mapping[str, Any]) -> dict[str, Any]:
    try:
        return dict(sweep.execution_request(_job(type, payload)))
    except sweep.InvalidJob as invalid:
        raise BadPayload(str(invalid)) from invalid


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
    first = next((line.strip() for line in str(payload.get("code", "")).splitlines() if line.strip()), "")
    return first[:80] if type == EXECUTE else type


def result(*, artifact: bytes | None, stdout: str, exit_code: int | None) -> Any:
    """A task's result: the JSON the program left, else what it printed."""
    if artifact is not None and len(artifact) <= MAX_RESULT_BYTES:
        try:
            return _storable(json.loads(artifact))
        except (ValueError, RecursionError):
            pass
    return {"exit_code": exit_code, "stdout": stdout[-20_000:].replace("\x00", "\N{REPLACEMENT CHARACTER}")}


def _storable(value: Any) -> Any:
    """Raises for what JSON allows and the database does not: no numbers, half characters, NUL."""
    text = json.dumps(value, allow_nan=False, ensure_ascii=False)
    text.encode()
    if "\\u0000" in text:
        raise ValueError("NUL cannot be stored")
    return value
