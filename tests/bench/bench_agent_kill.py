"""Agents killed -9 in the middle of a task, ten at a time: how much longer than the lease until it runs elsewhere.

Everything is real: the product, its clock, and agents that are processes with the Python client. As many others are
idle as are killed, and the dead have as much room as the living: whoever gets their tasks must be alive. The federation
beats every ten seconds, as they do unless told otherwise.
"""

from __future__ import annotations

import itertools
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from ntd_site import embedded
from tests.bench.bench_execution import CALLS_A_MINUTE
from tests.bench.harness import Bench, Case, timed
from tests.product import ROOT, Product, running, wait_until

AT_ONCE = 10
ROUNDS = 10
LEASE_SECONDS = 5
ALLOWED_SECONDS = 1.0
PATIENCE_SECONDS = 60
figures: dict[str, str] = {}


class Said(NamedTuple):
    what: str
    task: str
    epoch: int
    pid: int
    at: float


class Fleet:
    """A federation with twice as many idle agents as are killed at once."""

    def __init__(self, product: Product, book: Path) -> None:
        self.product = product
        self.book = book
        self.key = product.account("Bench", "--credits", "1000000")["api_key"]
        self.federation = self.ask("POST", "federations", {"name": "kill", "lease_seconds": LEASE_SECONDS})["id"]
        self.processes: dict[int, tuple[str, subprocess.Popen[bytes]]] = {}
        self.joined = 0
        self.beyond: list[float] = []
        self.early = 0
        self.parts: list[tuple[float, ...]] = []
        self.rng = random.Random(1)

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        status, answer = self.product.call(method, path, self.key, body)
        assert status < 300, answer
        return answer

    def fill(self) -> None:
        """Agents until there are enough, all of them connected."""
        while len(self.processes) < 2 * AT_ONCE:
            self.joined += 1
            self._start(f"agent-{self.joined}")
        wait_until(lambda: self._connected() >= 2 * AT_ONCE, PATIENCE_SECONDS, "the agents do not connect")

    def _start(self, name: str) -> None:
        body = {"name": name, "runtime": "remote", "max_concurrent_tasks": 2}
        made = self.ask("POST", f"federations/{self.federation}/agents", body)
        given = [self.product.url, made["id"], made["token"], str(self.book)]
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.bench.agent_peers", *given],
            cwd=ROOT, preexec_fn=embedded.child_setup(unprivileged=False),
        )  # fmt: skip
        self.processes[process.pid] = (made["id"], process)

    def _connected(self) -> int:
        found = self.ask("GET", f"federations/{self.federation}/agents?limit=100")["results"]
        return sum(each["connection"] != "" for each in found)

    def _begun(self, tasks: set[str]) -> bool:
        return {each.task for later in (False, True) for each in self.said("began", tasks, later=later)} == tasks

    def said(self, what: str, tasks: set[str], *, later: bool = False) -> list[Said]:
        lines = [line.split() for line in self.book.read_text().splitlines()] if self.book.exists() else []
        found = [Said(word, task, int(epoch), int(pid), float(at)) for word, task, epoch, pid, at in lines]
        return [each for each in found if each.what == what and each.task in tasks and (each.epoch > 1) == later]

    def kill_round(self) -> float:
        """Ten tasks, ten kills at once; the longest of them, in seconds beyond the lease."""
        self.fill()
        orders = {"tasks": [{"type": "hold"}] * AT_ONCE}
        made = self.ask("POST", f"federations/{self.federation}/tasks/batch", orders)["results"]
        tasks = {each["id"] for each in made}
        wait_until(lambda: self._begun(tasks), PATIENCE_SECONDS, "they do not begin")
        early = {each.task for each in self.said("began", tasks, later=True)}
        self.early += len(early)  # lapsed although nobody was killed: the machine was too slow for the lease
        tasks -= early
        killed = {}
        time.sleep(self.rng.uniform(0, LEASE_SECONDS / 3))
        for each in self.said("began", tasks):
            killed[each.task] = self._kill(each.pid)
        wait_until(lambda: self._ended(tasks), PATIENCE_SECONDS, "they do not end")
        self._check(tasks)
        again = {each.task: each.at for each in self.said("began", tasks, later=True)}
        beyond = {task: again[task] - at - LEASE_SECONDS for task, at in killed.items()}
        self.beyond += beyond.values()
        for task, at in again.items():
            self.parts.append(_parts(self.ask("GET", f"tasks/{task}")["attempts"], at))
        return max(beyond.values())

    def _kill(self, pid: int) -> float:
        _, process = self.processes[pid]
        at = time.time()
        process.send_signal(signal.SIGKILL)
        process.wait(10)
        return at

    def _ended(self, tasks: set[str]) -> bool:
        return all(self.ask("GET", f"tasks/{task}")["state"] in ("succeeded", "failed", "dead") for task in tasks)

    def _check(self, tasks: set[str]) -> None:
        """Each lapsed and was completed, once; then the dead are removed. An idle agent may steal in between."""
        for task in tasks:
            found = self.ask("GET", f"tasks/{task}")
            *before, last = [attempt["state"] for attempt in found["attempts"]]
            assert (found["state"], set(before), last) == ("succeeded", {"lapsed"}, "succeeded"), found
        done = self.said("done", tasks, later=True)
        assert len(done) == len({each.task for each in done}) == len(tasks), done
        for pid, (agent, process) in list(self.processes.items()):
            if process.poll() is not None:
                self.ask("DELETE", f"agents/{agent}")
                del self.processes[pid]

    def tell(self) -> None:
        last = self.beyond[-AT_ONCE * ROUNDS :]
        if self.early:
            figures["lapsed without a kill"] = f"{self.early}, not counted"
        good = sum(seconds <= ALLOWED_SECONDS for seconds in last)
        figures["within lease + 1 s"] = f"{good} of {len(last)}, each completed exactly once"
        figures["beyond the lease"] = (
            f"median {sorted(last)[len(last) // 2]:.2f} s, longest {max(last):.2f} s, shortest {min(last):.2f} s"
        )

        names = ("noticed", "given", "claimed", "begun")
        for name, seconds in zip(names, zip(*self.parts[-AT_ONCE * ROUNDS :], strict=True), strict=True):
            figures[f"until {name}"] = (
                f"median {sorted(seconds)[len(seconds) // 2]:.2f} s, longest {max(seconds):.2f} s"
            )

    def stop(self) -> None:
        for _, process in self.processes.values():
            process.kill()
            process.wait(10)


def _parts(attempts: list[dict[str, Any]], begun: float) -> tuple[float, ...]:
    """Seconds from the lease's end until it was noticed, from there until the task was given, claimed and begun."""
    first, last = attempts[0], attempts[-1]
    said = first["lease_expires_at"], first["ended_at"], last["assigned_at"], last["started_at"]
    moments = [*(datetime.fromisoformat(each).timestamp() for each in said), begun]
    return tuple(after - before for before, after in itertools.pairwise(moments))


@contextmanager
def cases() -> Iterator[dict[str, Case]]:
    os.environ["RATE_LIMIT_PER_MINUTE"] = CALLS_A_MINUTE
    with running("--no-sample") as product, tempfile.TemporaryDirectory(prefix="ntd-bench-") as folder:
        fleet = Fleet(product, Path(folder) / "book")
        try:
            yield {
                "GET a federation": timed(lambda: fleet.ask("GET", f"federations/{fleet.federation}")),
                "kill until elsewhere, less lease": fleet.kill_round,
            }
            fleet.tell()
        finally:
            fleet.stop()


BENCH = Bench(
    name="agent_kill",
    baseline="GET a federation",
    cases=cases,
    rounds=ROUNDS,
    repeats=1,
    most_p95_ms={"kill until elsewhere, less lease": ALLOWED_SECONDS * 1e3},
    figures=figures,
    note="the longest of ten kills in each round; the goal holds for every one of them",
)
