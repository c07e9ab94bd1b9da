"""Real processes are killed while real tasks run; nothing may be lost, done twice, or left over."""

from __future__ import annotations

import os
import signal
import tempfile
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.product import Product, free_port, wait_until

pytestmark = [pytest.mark.chaos, pytest.mark.enable_socket]

FINAL = {"succeeded", "failed", "expired", "cancelled", "dead"}
TASKS = 12
CODE = "import time; time.sleep(0.4); print('done')"


class Fleet:
    """A federation with managed agents, and the tasks given to it."""

    def __init__(self, product: Product, name: str) -> None:
        self.product = product
        self.key: str = product.account(name, "--credits", "100000")["api_key"]
        self.federation = self._make("federations", {"name": name, "topology": "mesh", "lease_seconds": 5})["id"]
        for number in range(3):
            body = {"name": f"agent-{number}", "runtime": "managed", "max_concurrent_tasks": 2}
            self._make(f"federations/{self.federation}/agents", body)

    def _make(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        status, answer = self.product.call("POST", path, self.key, body)
        assert status == 201, answer
        return dict(answer)

    def submit(self, count: int = TASKS) -> None:
        task = {"type": "execute", "payload": {"language": "python", "code": CODE, "timeout_seconds": 30}}
        body = {"tasks": [task] * count}
        status, answer = self.product.call("POST", f"federations/{self.federation}/tasks/batch", self.key, body)
        assert status == 200, answer
        assert all("id" in item for item in answer["results"]), answer

    def tasks(self) -> list[dict[str, Any]]:
        status, answer = self.product.call("GET", f"federations/{self.federation}/tasks?page_size=200", self.key)
        if status == 503:
            raise ConnectionError(answer["detail"])
        assert status == 200, answer
        return list(answer["results"])

    def details(self) -> list[dict[str, Any]]:
        """Every task with its attempts."""
        return [self.product.call("GET", f"tasks/{task['id']}", self.key)[1] for task in self.tasks()]

    def states(self) -> list[str]:
        return [task["state"] for task in self.tasks()]

    def wait_until_some_run(self) -> None:
        wait_until(lambda: "running" in self.states(), 20, "no task runs")

    def wait_until_all_are_final(self, seconds: float = 90) -> None:
        def all_final() -> bool:
            try:
                return set(self.states()) <= FINAL
            except OSError:
                return False  # what was killed is coming back

        wait_until(all_final, seconds, "some tasks never end")


def succeeded_once(task: dict[str, Any]) -> bool:
    return [attempt["state"] for attempt in task["attempts"]].count("succeeded") == 1


@pytest.mark.parametrize("victim", ["worker", "sandboxes", "web", "scheduler", "valkey", "postgres"])
def test_killing_a_part_loses_no_task_and_completes_none_twice(product: Product, victim: str) -> None:
    fleet = Fleet(product, f"Kill {victim}")
    fleet.submit()
    fleet.wait_until_some_run()

    os.kill(product.part(victim), signal.SIGKILL)

    fleet.wait_until_all_are_final()
    tasks = fleet.details()
    assert len(tasks) == TASKS
    assert [task["state"] for task in tasks] == ["succeeded"] * TASKS, [task.get("error") for task in tasks]
    assert all(succeeded_once(task) for task in tasks)
    assert "ok" in product.manage("verify_ledger").lower()


class Kept:
    """A long-lived sandbox, and executions in it."""

    def __init__(self, product: Product, name: str) -> None:
        self.product = product
        self.key: str = product.account(name, "--credits", "100000")["api_key"]
        body = {"template": "python", "ttl_seconds": 3600}
        status, sandbox = product.call("POST", "sandboxes?wait=30", self.key, body)
        assert (status, sandbox["state"]) == (201, "ready"), sandbox
        self.id = sandbox["id"]

    def run(self, code: str, *, wait: int = 30) -> dict[str, Any]:
        body = {"sandbox": self.id, "code": code, "queue": True}
        status, answer = self.product.call("POST", f"executions?wait={wait}", self.key, body)
        return dict(answer) | {"status": status}

    def begin(self, code: str) -> str:
        """The id of an execution that runs by now."""
        execution = str(self.run(code, wait=0)["id"])
        output = f"executions/{execution}/output"
        wait_until(lambda: self.product.call("GET", output, self.key)[1] == "go\n", 30, "it does not run")
        return execution

    def execution(self, execution: str) -> dict[str, Any]:
        return dict(self.product.call("GET", f"executions/{execution}", self.key)[1])

    def row(self) -> dict[str, Any]:
        return dict(self.product.call("GET", "sandboxes", self.key)[1]["results"][0])


HALF = "import time\nopen('half', 'a').write('x')\nprint('go', flush=True)\ntime.sleep(60)"


def test_killing_the_worker_fails_what_ran_in_a_sandbox_once_and_its_files_stay(product: Product) -> None:
    kept = Kept(product, "Kept worker")
    kept.run("open('state', 'w').write('kept')")
    running = kept.begin(HALF)

    os.kill(product.part("worker"), signal.SIGKILL)

    wait_until(lambda: kept.execution(running)["state"] == "failed", 60, "it is not given up")
    assert "not run again by itself" in kept.execution(running)["error"]
    assert kept.run("print(open('state').read(), open('half').read())")["stdout"] == "kept x\n"
    assert kept.row()["state"] == "ready"


def test_killing_the_sandbox_daemon_fails_the_sandbox_and_what_ran_in_it_and_charges_no_more(product: Product) -> None:
    kept = Kept(product, "Kept daemon")
    running = kept.begin(HALF)

    os.kill(product.part("sandboxes"), signal.SIGKILL)

    wait_until(lambda: kept.execution(running)["state"] == "failed", 60, "it is not given up")
    wait_until(lambda: kept.row()["state"] == "failed", 60, "the sandbox is not given up")
    row = kept.row()
    assert "The sandbox was lost." in row["error"]
    assert kept.execution(running)["attempts"] == 1
    assert kept.run("print(1)")["status"] == 410
    assert "ok" in product.manage("verify_ledger").lower()


def test_killing_the_supervisor_leaves_no_process_and_the_next_start_finishes_the_work(product: Product) -> None:
    fleet = Fleet(product, "Kill all")
    fleet.submit()
    fleet.wait_until_some_run()
    assert product.process is not None
    family = psutil.Process(product.process.pid).children(recursive=True)

    product.stop(signal.SIGKILL)

    gone, alive = psutil.wait_procs(family, timeout=15)
    assert [process.cmdline() for process in alive] == []
    product.start("--no-sample")
    fleet.wait_until_all_are_final()
    tasks = fleet.details()
    assert [task["state"] for task in tasks] == ["succeeded"] * TASKS, [task.get("error") for task in tasks]
    assert all(succeeded_once(task) for task in tasks)
    assert "ok" in product.manage("verify_ledger").lower()


def test_stopping_leaves_no_process(product: Product) -> None:
    assert product.process is not None
    family = psutil.Process(product.process.pid).children(recursive=True)

    code = product.stop()

    assert code == 0
    # What pid 1 has yet to reap is dead already.
    _, alive = psutil.wait_procs(family, timeout=10)
    assert [process for process in alive if process.status() != psutil.STATUS_ZOMBIE] == []
    product.start("--no-sample")


def test_a_taken_port_stops_the_start_with_a_sentence(product: Product) -> None:
    with tempfile.TemporaryDirectory(prefix="ntd-") as folder:
        second = Product(Path(folder), product.port)

        with pytest.raises(RuntimeError, match="Cannot listen on 127.0.0.1"):
            second.start()


def test_a_second_start_from_one_home_says_that_it_is_up(product: Product) -> None:
    second = Product(product.home, free_port())
    second.log = product.home / "second.jsonl"

    with pytest.raises(RuntimeError, match="already up"):
        second.start()


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("sqlite:///ntd.db", "DATABASE_URL names SQLite"),
        ("mysql://root@localhost/ntd", "not postgresql://"),
        ("postgresql://nobody@127.0.0.1:9/none", "Cannot reach the PostgreSQL of DATABASE_URL"),
    ],
)
def test_a_wrong_database_url_stops_the_start_with_a_sentence(url: str, sentence: str) -> None:
    with tempfile.TemporaryDirectory(prefix="ntd-") as folder:
        product = Product(Path(folder), free_port())
        product.environment["DATABASE_URL"] = url

        with pytest.raises(RuntimeError, match=sentence):
            product.start()
