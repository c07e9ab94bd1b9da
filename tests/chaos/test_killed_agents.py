"""Agents of other machines, real processes, killed in the middle of a task or told to stop."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from ntd_site import embedded
from tests.product import ROOT, Product, share_libraries, wait_until

pytestmark = [pytest.mark.chaos, pytest.mark.enable_socket]

LEASE_SECONDS = 2
SLOW = "import json, sys, time; n = json.load(sys.stdin); open(n['mark'], 'a').write('x'); time.sleep(n['s']); print(n['s'])"


class Outside:
    """A federation of remote agents, and the processes that are these."""

    def __init__(self, product: Product) -> None:
        self.product = product
        self.key: str = product.account("Outside", "--credits", "100000")["api_key"]
        body = {"name": "outside", "lease_seconds": LEASE_SECONDS, "heartbeat_seconds": 1, "agent_timeout_seconds": 60}
        self.federation = self.ask("POST", "federations", body)["id"]
        self.folder = Path(tempfile.mkdtemp(prefix="ntd-agents-"))
        self.agents: list[subprocess.Popen[bytes]] = []

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        status, answer = self.product.call(method, path, self.key, body)
        assert status < 300, answer
        return answer

    def start(self, name: str, *options: str) -> subprocess.Popen[bytes]:
        """An agent that has joined; it knows the coordinator's address and a key, and has a home of its own."""
        environment = {each: value for each, value in os.environ.items() if each not in ("DATABASE_URL", "REDIS_URL")}
        (self.folder / name).mkdir(exist_ok=True)
        if not (self.folder / name / "libraries").exists():
            share_libraries(self.folder / name)
        environment |= {
            "NTD_HOME": str(self.folder / name), "FEDERATION_ROLE": "worker", "COORDINATOR_URL": self.product.url,
            "NTD_API_KEY": self.key, "NTD_SKIP_VENV": "1",
        }  # fmt: skip
        command = [
            sys.executable,
            "manage.py",
            "agent",
            "--federation",
            self.federation,
            "--name",
            name,
            "--capacity",
            "1",
        ]
        with open(self.folder / f"{name}.log", "wb") as log:
            process = subprocess.Popen(
                [*command, *options], cwd=ROOT, env=environment, stdout=log, stderr=log,
                preexec_fn=embedded.child_setup(unprivileged=False),
            )  # fmt: skip
        self.agents.append(process)
        said = self.folder / f"{name}.log"
        wait_until(lambda: name in self.names(), 60, f"{name} does not join: {said.read_text()[-2000:]}")
        return process

    def names(self) -> dict[str, dict[str, Any]]:
        return {each["name"]: each for each in self.ask("GET", f"federations/{self.federation}/agents")["results"]}

    def submit(self, seconds: float) -> tuple[str, Path]:
        mark = self.folder / f"mark-{time.monotonic_ns()}"
        body = {"type": "slow", "payload": {"s": seconds, "mark": str(mark)}}
        return self.ask("POST", f"federations/{self.federation}/tasks", body)["id"], mark

    def task(self, pk: str) -> dict[str, Any]:
        return dict(self.ask("GET", f"tasks/{pk}"))

    def stop(self) -> None:
        for each in self.agents:
            each.kill()
            each.wait(10)


@pytest.fixture
def outside(product: Product) -> Iterator[Outside]:
    found = Outside(product)
    yield found
    found.stop()


def by_command() -> tuple[str, str]:
    return "--command", f'{sys.executable} -c "{SLOW}"'


@pytest.mark.parametrize(("transport", "kills"), [("websocket", 2), ("rest", 1)])
def test_a_killed_agents_task_goes_to_another_within_the_lease_and_a_second(
    outside: Outside, transport: str, kills: int
) -> None:
    agents = {name: outside.start(name, "--transport", transport, *by_command()) for name in ("one", "two")}
    for _ in range(kills):
        pk, mark = outside.submit(3.0)
        wait_until(mark.exists, 15, "the task does not start")
        victim = {each["id"]: name for name, each in outside.names().items()}[outside.task(pk)["assigned_to"]]
        children = psutil.Process(agents[victim].pid).children()

        agents[victim].kill()
        killed = time.monotonic()
        wait_until(lambda pk=pk: outside.task(pk)["epoch"] == 2, 15, "nobody gets it")  # type: ignore[misc]
        took = time.monotonic() - killed

        # A lease and the second in which it is noticed; the rest is what asking costs here.
        assert took < LEASE_SECONDS + 1 + 0.7
        psutil.wait_procs(children, timeout=5)
        assert not any(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in children)
        wait_until(lambda pk=pk: outside.task(pk)["state"] == "succeeded", 15, "it is not done")  # type: ignore[misc]
        states = [attempt["state"] for attempt in outside.task(pk)["attempts"]]
        assert (states, mark.read_text()) == (["lapsed", "succeeded"], "xx")
        outside.ask("DELETE", f"agents/{outside.names()[victim]['id']}")
        agents[victim] = outside.start(victim, "--transport", transport, *by_command())


def test_an_agent_told_to_stop_finishes_what_it_has_and_leaves(outside: Outside) -> None:
    agent = outside.start("one", *by_command())
    pk, mark = outside.submit(1.5)
    wait_until(mark.exists, 15, "the task does not start")

    agent.send_signal(signal.SIGTERM)

    assert agent.wait(20) == 0
    assert (outside.task(pk)["state"], outside.names()) == ("succeeded", {})


def test_a_cancelled_task_ends_its_command(outside: Outside) -> None:
    agent = outside.start("one", *by_command())
    pk, mark = outside.submit(60.0)
    wait_until(mark.exists, 15, "the task does not start")

    outside.ask("POST", f"tasks/{pk}/cancel")

    wait_until(lambda: not psutil.Process(agent.pid).children(), 10, "the command runs on")


def test_a_task_runs_in_the_sandboxes_of_the_agents_machine(outside: Outside) -> None:
    agent = outside.start("one")
    body = {"type": "execute", "payload": {"code": "print(6 * 7)", "language": "python"}}
    pk = outside.ask("POST", f"federations/{outside.federation}/tasks", body)["id"]

    wait_until(lambda: outside.task(pk)["state"] in ("succeeded", "failed", "dead"), 60, "it is not done")

    task = outside.task(pk)
    assert (task["state"], task["result"]) == ("succeeded", {"exit_code": 0, "stdout": "42\n"}), task
    assert task["attempts"][0]["execution"] is None
    agent.send_signal(signal.SIGTERM)
    assert agent.wait(30) == 0


def test_the_coordinator_may_go_and_come_back(outside: Outside) -> None:
    outside.start("one", *by_command())
    pk, mark = outside.submit(1.0)
    wait_until(mark.exists, 15, "the task does not start")

    os.kill(outside.product.part("web"), signal.SIGKILL)

    def done() -> bool:
        try:
            return outside.task(pk)["state"] == "succeeded"
        except OSError:
            return False

    wait_until(done, 60, "it is not done")
    assert mark.read_text() in ("x", "xx")  # twice when the lease ran out meanwhile
    assert [attempt["state"] for attempt in outside.task(pk)["attempts"]].count("succeeded") == 1
