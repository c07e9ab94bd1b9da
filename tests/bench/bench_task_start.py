"""From submitting a managed task until it runs, through the whole product, against one request that only reads."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.bench.harness import Bench, Case, timed
from tests.product import running

BEGUN = ("running", "succeeded")


@contextmanager
def cases() -> Iterator[dict[str, Case]]:
    with running("--no-sample") as product:
        key = product.account("Bench", "--credits", "1000000")["api_key"]
        headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        connection = http.client.HTTPConnection("127.0.0.1", product.port, timeout=60)

        def call(method: str, path: str, body: Any = None) -> Any:
            connection.request(method, f"/api/v1/{path}", json.dumps(body) if body is not None else None, headers)
            answer = connection.getresponse()
            found = json.loads(answer.read())
            assert answer.status < 300, found
            return found

        federation = call("POST", "federations", {"name": "bench"})["id"]
        call("POST", f"federations/{federation}/agents", {"name": "managed", "max_concurrent_tasks": 50})

        def submit_until_running() -> float:
            began = time.perf_counter()
            wanted = {"type": "execute", "payload": {"code": "pass"}}
            task = call("POST", f"federations/{federation}/tasks", wanted)
            while task["state"] not in BEGUN:
                task = call("GET", f"tasks/{task['id']}")
            seconds = time.perf_counter() - began
            while task["state"] != "succeeded":
                time.sleep(0.01)
                task = call("GET", f"tasks/{task['id']}")
            return seconds

        yield {
            "GET a federation": timed(lambda: call("GET", f"federations/{federation}")),
            "submit until running": submit_until_running,
        }


BENCH = Bench(
    name="task_start",
    baseline="GET a federation",
    cases=cases,
    rounds=5,
    repeats=10,
    most_ms={"submit until running": 100.0},
    note="asking whether it runs is part of it",
)
