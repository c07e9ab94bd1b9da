"""How fast untrusted code starts: a sandbox of the daemon against a bare interpreter, which isolates nothing."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

from sandboxes.runtimes import Request
from sandboxes.runtimes.local import LocalRuntime
from tests.bench.harness import Bench, Case, timed

_ids = count(1)


@contextmanager
def daemon(*arguments: str) -> Iterator[LocalRuntime]:
    """A daemon of its own, with a pool or (`--ready 0`) without one."""
    with tempfile.TemporaryDirectory(prefix="ntd-") as folder:
        address = str(Path(folder) / "d.sock")
        command = [
            sys.executable,
            "-m",
            "sandboxes.daemon",
            "--socket",
            address,
            "--state",
            str(Path(folder) / "state"),
        ]
        process = subprocess.Popen([*command, *arguments], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        ready = json.loads(process.stdout.readline())
        assert ready["event"] == "ready", ready
        try:
            yield LocalRuntime(address)
        finally:
            process.terminate()
            process.wait(timeout=20)


def run(runtime: LocalRuntime, language: str, code: str) -> Case:
    def once() -> None:
        outcome = runtime.run(
            Request(id=f"bench-{next(_ids)}", language=language, code=code),
            on_started=lambda started: None,
            on_output=lambda stream, offset, chunk: None,
        )
        assert outcome.exit_code == 0, outcome

    return timed(once)


def bare(*command: str) -> Case:
    return timed(lambda: subprocess.run(command, check=True))


@contextmanager
def cases() -> Iterator[dict[str, Case]]:
    with daemon("--ready", "4") as pooled, daemon("--ready", "0") as cold:
        yield {
            "python -I -S -c pass": bare(sys.executable, "-I", "-S", "-c", "pass"),
            "node -e 0": bare("node", "-e", "0"),
            "sandbox, python, warm": run(pooled, "python", "pass"),
            "sandbox, python, cold": run(cold, "python", "pass"),
            "sandbox, node, warm": run(pooled, "node", "0"),
        }


BENCH = Bench(
    name="sandbox_start",
    baseline="python -I -S -c pass",
    cases=cases,
    goals={"sandbox, python, warm": 0.25, "sandbox, python, cold": 2.5},
    note="checkout + run + result, through the daemon's socket; node's own baseline is `node -e 0`",
)
