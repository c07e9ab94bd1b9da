"""Plain Python. Tasks of a federation elsewhere, done on this machine: in its sandboxes, or by a command of its own.

Each function here makes one that `federation.client.Agent` can be given. In a sandbox run the types that managed
agents know, on the built-in languages. A command gets the payload as JSON on its standard input and leaves the
result as JSON on its standard output; an exit code other than 0 is a failure, with what it wrote to standard error.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from federation import workloads
from federation.client import Cancelled, Failed, Work
from sandboxes import limits, programs
from sandboxes.runtimes import InvalidRequest, Outcome, Request, Runtime, RuntimeLost, RuntimeUnavailable

ERROR_CHARACTERS = 8_000
MAX_OUTPUT_BYTES = 1024 * 1024
# Whoever does one task need not be able to act as the agent.
SECRETS = frozenset({"NTD_API_KEY", "NTD_AGENT_TOKEN"})
# What only the coordinator has.
ELSEWHERE = ("template", "pool")


def in_sandbox(runtime: Runtime) -> Callable[[Work], Any]:
    def do(work: Work) -> Any:
        request = _request(work)
        work.on_cancel(lambda: _stop(runtime, request.id))
        try:
            outcome = runtime.run(request, on_started=lambda _: work.check(), on_output=lambda *_: None)
        except InvalidRequest as wrong:
            raise Failed(str(wrong), retryable=False) from wrong
        except (RuntimeLost, RuntimeUnavailable) as lost:
            raise Failed(str(lost)) from lost
        return _result(outcome)

    return do


def _stop(runtime: Runtime, request_id: str) -> None:
    with suppress(RuntimeLost, RuntimeUnavailable):
        runtime.cancel(request_id)


def _request(work: Work) -> Request:
    try:
        arguments = workloads.execution_arguments(type=work.type, payload=work.payload)
        named = [name for name in ELSEWHERE if arguments.pop(name, None)]
        if named:
            raise workloads.BadPayload(f"This agent runs the built-in languages only; leave out `{named[0]}`.")
        return _as_request(f"{work.id}-{work.epoch}", arguments)
    except programs.Refused as refused:
        words = "; ".join(f"{field}: {' '.join(said)}" for field, said in refused.errors.items())
        raise Failed(words, retryable=False) from refused
    except (workloads.BadPayload, programs.TooLarge, limits.InvalidLimits) as wrong:
        raise Failed(str(wrong), retryable=False) from wrong


def _as_request(request_id: str, arguments: Mapping[str, Any]) -> Request:
    wanted = {name: arguments[name] for name in arguments if name not in ("language", "limits", "network")}
    program = programs.check(**wanted)
    return Request(
        id=request_id,
        language=str(arguments["language"]),
        code=program.code,
        stdin=program.stdin or b"",
        args=program.args,
        env=program.env,
        files=program.files,
        timeout_seconds=program.timeout_seconds,
        limits=limits.Limits.parse(arguments.get("limits") or {}),
        network=bool(arguments.get("network", False)),
    )


def _result(outcome: Outcome) -> Any:
    said = outcome.stderr.decode(errors="replace").replace("\x00", "\N{REPLACEMENT CHARACTER}")[-ERROR_CHARACTERS:]
    if outcome.cancelled:
        raise Cancelled("It was cancelled.")
    if outcome.exit_code != 0 or outcome.breach:
        words = f"It reached its limit of {outcome.breach}.\n" if outcome.breach else ""
        ending = f"signal {outcome.signal}" if outcome.signal else f"exit code {outcome.exit_code}"
        raise Failed((words + said).strip() or f"It ended with {ending}.", retryable=False)
    left = {artifact.path: artifact.content for artifact in outcome.artifacts}
    return workloads.result(
        artifact=left.get(workloads.RESULT_PATH),
        stdout=outcome.stdout.decode(errors="replace"),
        exit_code=outcome.exit_code,
    )


def by_command(
    command: Sequence[str], *, timeout_seconds: float | None = None, prepare: Callable[[], None] | None = None
) -> Callable[[Work], Any]:
    """`prepare` runs in each new process before the command does."""

    def do(work: Work) -> Any:
        environment = {name: value for name, value in os.environ.items() if name not in SECRETS}
        environment |= {"NTD_TASK_ID": work.id, "NTD_TASK_TYPE": work.type, "NTD_TASK_EPOCH": str(work.epoch)}
        try:
            process = subprocess.Popen(
                list(command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                env=environment, start_new_session=True, preexec_fn=prepare,
            )  # fmt: skip
        except OSError as wrong:
            raise Failed(f"{command[0]} cannot be started: {wrong.strerror}", retryable=False) from wrong
        work.on_cancel(lambda: _kill(process))
        try:
            stdout, stderr = process.communicate(json.dumps(work.payload).encode(), timeout=timeout_seconds)
        except subprocess.TimeoutExpired:
            _kill(process)
            process.communicate()
            raise Failed(f"It ran longer than its {timeout_seconds:g} seconds.", retryable=False) from None
        work.check()
        return _printed(process.returncode, stdout, stderr)

    return do


def _kill(process: subprocess.Popen[bytes]) -> None:
    """It and what it started, but for what made a session of its own."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _printed(code: int, stdout: bytes, stderr: bytes) -> Any:
    if code != 0:
        said = stderr.decode(errors="replace").strip()[-ERROR_CHARACTERS:]
        raise Failed(said or f"It ended with exit code {code}.", retryable=False)
    if len(stdout) > MAX_OUTPUT_BYTES:
        raise Failed(f"Its result is larger than {MAX_OUTPUT_BYTES:,} bytes.", retryable=False)
    try:
        return json.loads(stdout) if stdout.strip() else None
    except (ValueError, RecursionError) as wrong:
        raise Failed(f"It printed no JSON: {wrong}", retryable=False) from wrong
