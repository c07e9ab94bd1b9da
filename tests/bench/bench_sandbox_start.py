"""How fast untrusted code starts: a sandbox of the daemon against a bare interpreter, which isolates nothing."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import count
from pathlib import Path

from sandboxes.daemon import runsc
from sandboxes.runtimes import Request, Started
from sandboxes.runtimes.local import LocalRuntime
from tests.bench.harness import Bench, Case, timed

_ids = count(1)
TOGETHER = 20
# What a pool of four says when nothing runs and all wait.
READY = {"ready": 4, "starting": 0, "running": 0, "draining": 0, "failed": 0}


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
    return timed(lambda: _run(runtime, language, code))


def _run(runtime: LocalRuntime, language: str, code: str) -> Started:
    started: list[Started] = []
    outcome = runtime.run(
        Request(id=f"bench-{next(_ids)}", language=language, code=code),
        on_started=started.append,
        on_output=lambda stream, offset, chunk: None,
    )
    assert outcome.exit_code == 0, outcome
    return started[0]


def warm(runtime: LocalRuntime, language: str, code: str) -> Case:
    """A run that comes when the sandboxes of the last one are made anew, as on a machine with something to spare."""

    def once() -> float:
        while runtime.describe()["pools"][language] != READY:
            time.sleep(0.002)
        began = time.perf_counter()
        started = _run(runtime, language, code)
        took = time.perf_counter() - began
        assert started.warm
        return took

    return once


def bare(*command: str) -> Case:
    return timed(lambda: subprocess.run(command, check=True))


def bare_together(*command: str) -> Case:
    def once() -> None:
        processes = [subprocess.Popen(command) for _ in range(TOGETHER)]
        assert not any(process.wait() for process in processes)

    return timed(once)


def together(runtime: LocalRuntime, language: str, code: str) -> Case:
    threads = ThreadPoolExecutor(TOGETHER)
    return timed(lambda: list(threads.map(lambda _: _run(runtime, language, code), range(TOGETHER))))


@contextmanager
def cases() -> Iterator[dict[str, Case]]:
    python, node = (sys.executable, "-I", "-S", "-c", "pass"), ("node", "-e", "0")
    ready, jail = ("--ready", str(READY["ready"])), ("--engine", "bubblewrap")
    with (
        daemon(*jail, *ready) as pooled,
        daemon(*jail, "--ready", "0", "--running", str(TOGETHER)) as cold,
        gvisor_cases(*ready) as with_kernels,
    ):
        yield {
            "python -I -S -c pass": bare(*python),
            "node -e 0": bare(*node),
            "sandbox, python, warm": warm(pooled, "python", "pass"),
            "sandbox, python, one after another": run(pooled, "python", "pass"),
            "sandbox, python, cold": run(cold, "python", "pass"),
            "sandbox, node, warm": warm(pooled, "node", "0"),
            "sandbox, node, cold": run(cold, "node", "0"),
            "20 x python -I -S -c pass": bare_together(*python),
            "20 sandboxes, python, cold": together(cold, "python", "pass"),
            **with_kernels,
        }


@contextmanager
def gvisor_cases(*ready: str) -> Iterator[dict[str, Case]]:
    """The same on gVisor, where there is one."""
    if runsc.find() is None:
        yield {}
        return
    kernels = ("--engine", "gvisor", "--gvisor-soft-memory")
    with daemon(*kernels, *ready) as pooled, daemon(*kernels, "--ready", "0") as cold:
        yield {
            "gVisor, python, warm": warm(pooled, "python", "pass"),
            "gVisor, python, cold": run(cold, "python", "pass"),
            "gVisor, node, warm": warm(pooled, "node", "0"),
            "gVisor, node, cold": run(cold, "node", "0"),
        }


BENCH = Bench(
    name="sandbox_start",
    baseline="python -I -S -c pass",
    cases=cases,
    baselines={
        "sandbox, node, warm": "node -e 0",
        "sandbox, node, cold": "node -e 0",
        "gVisor, node, warm": "node -e 0",
        "gVisor, node, cold": "node -e 0",
        "20 sandboxes, python, cold": "20 x python -I -S -c pass",
    },
    fewer={
        "20 x python -I -S -c pass": 3,
        "20 sandboxes, python, cold": 3,
        **dict.fromkeys(("gVisor, python, warm", "gVisor, node, warm"), 5),
        **dict.fromkeys(("gVisor, python, cold", "gVisor, node, cold"), 3),
    },
    goals={
        "sandbox, python, warm": 0.25,
        "sandbox, node, warm": 0.25,
        "sandbox, python, cold": 2.5,
        "sandbox, node, cold": 2.5,
        "20 sandboxes, python, cold": 3,
    },
    note="checkout + run + result, through the daemon's socket",
)
