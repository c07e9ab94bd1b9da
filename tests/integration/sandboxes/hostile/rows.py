"""Hostile programs as tables: a row is a sentence, with the same attack in both languages side by side.

An `Attempt` is one thing that must be refused; many share a program. A `Row` is a program of its own and
what must come of it.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from sandboxes.runtimes import Outcome
from tests.integration.sandboxes.daemons import run

LANGUAGES = ("python", "node")
# How a program ends that met its limit and dealt with it.
HANDLED: Mapping[str, Any] = {"exit_code": 0, "breach": None}

TRY_IN_PYTHON = """
import array, ctypes, fcntl, json, mmap, os, resource, signal, socket, struct, subprocess, time
tried, worked = [], []
def attempt(says, action):
    tried.append(says)
    try:
        action()
    except OSError:
        return
    worked.append(says)
"""
TRY_IN_NODE = """
const fs = require('fs'), os = require('os'), net = require('net'), dgram = require('dgram'), child = require('child_process');
const tried = [], worked = [];
// What a socket says by an event.
const connected = (socket) => new Promise((done, fail) => socket.on('error', fail).on('connect', done));
function run(program, ...args) {
  const done = child.spawnSync(program, args);
  if (done.error || done.status) throw done.error || Object.assign(new Error(done.stderr), {code: done.status});
}
async function attempt(says, action) {
  tried.push(says);
  try { await action(); } catch (problem) { if (!problem.code) throw problem; return; }
  worked.push(says);
}
"""


@dataclass(frozen=True)
class Attempt:
    """Statements that must end in a refusal by the system, in each language."""

    says: str
    python: str
    node: str


@dataclass(frozen=True)
class Row:
    """A program in each language, and how it must end. `why_not` is why a language has none.

    `ends_with_its_kernel` is how it ends where a kernel of its own ends with it, if not as everywhere.
    """

    says: str
    python: str = ""
    node: str = ""
    ends: Mapping[str, Any] = field(default_factory=lambda: HANDLED)
    ends_with_its_kernel: Mapping[str, Any] | None = None
    limits: Mapping[str, float] = field(default_factory=dict)
    timeout_seconds: float = 30
    why_not: str = ""

    def code(self, language: str) -> str:
        return textwrap.dedent(getattr(self, language))


def hit(breach: str, **ends: Any) -> dict[str, Any]:
    """How a program ends that hit a limit and did not deal with it."""
    return {"breach": breach} | ends


def both(rows: Iterable[Row]) -> pytest.MarkDecorator:
    """Each row in each language."""
    cases = [_case(row, language) for row in rows for language in LANGUAGES]
    return pytest.mark.parametrize(("row", "language"), cases)


def _case(row: Row, language: str) -> Any:
    if not getattr(row, language):
        assert row.why_not, f"say why {language} cannot: {row.says}"
    marks = () if getattr(row, language) else pytest.mark.skip(reason=f"not in {language}: {row.why_not}")
    return pytest.param(row, language, id=f"{language}: {row.says}", marks=marks)


def play(runtime: Any, row: Row, language: str, **changes: Any) -> Outcome:
    """Run a row's program and see that it ended as the row says."""
    limits, ends = dict(row.limits), ends_of(runtime, row)
    outcome = run(
        runtime,
        row.code(language),
        language=language,
        limits=limits,
        timeout_seconds=row.timeout_seconds,
        **changes,
    )
    ended = {name: getattr(outcome, name) for name in ends}
    assert ended == dict(ends), outcome.stderr.decode(errors="replace")[-2000:]
    if ends.get("breach"):
        assert outcome.exit_code != 0
    return outcome


def ends_of(runtime: Any, row: Row) -> Mapping[str, Any]:
    if row.ends_with_its_kernel is None or runtime.describe()["engine"] != "gvisor":
        return row.ends
    return row.ends_with_its_kernel


def worked(runtime: Any, attempts: Iterable[Attempt], language: str, **changes: Any) -> list[str]:
    """What of the attempts the system did not refuse, after each has really been made."""
    rows = list(attempts)
    write = {"python": _python_of, "node": _node_of}[language]
    outcome = run(runtime, write(rows), language=language, timeout_seconds=60, **changes)
    assert outcome.exit_code == 0, outcome.stderr.decode(errors="replace")[-2000:]
    tried, went_through = json.loads(outcome.stdout)
    assert tried == [each.says for each in rows]
    return list(went_through)


def _python_of(attempts: list[Attempt]) -> str:
    steps = [
        f"def action():\n{textwrap.indent(textwrap.dedent(each.python), '    ')}\nattempt({each.says!r}, action)"
        for each in attempts
    ]
    return "\n".join([TRY_IN_PYTHON, *steps, "print(json.dumps([tried, worked]))"])


def _node_of(attempts: list[Attempt]) -> str:
    steps = [f"await attempt({json.dumps(each.says)}, async () => {{ {each.node} }});" for each in attempts]
    end = "console.log(JSON.stringify([tried, worked])); process.exit(0);"
    return "\n".join([TRY_IN_NODE, "(async () => {", *steps, end, "})();"])
