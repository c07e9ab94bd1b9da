"""`POST messages/batch` through the whole product, 100 messages a request, against one message a request.

Goal: 15,000 messages/s from one client and one web process, while the worker brings them into the history.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from tests.bench.bench_execution import CALLS_A_MINUTE
from tests.bench.harness import Bench, Case
from tests.product import running

PAYLOAD = {"price": "101.25", "quantity": 120, "note": "x" * 60}
BATCH, BATCHES, SINGLES = 100, 50, 50
INBOX = 1_000_000


@contextmanager
def cases() -> Iterator[dict[str, Case]]:
    os.environ["RATE_LIMIT_PER_MINUTE"] = CALLS_A_MINUTE
    with running("--no-sample") as product:
        key = product.account("Bench", "--credits", "1000000")["api_key"]
        headers = {"Authorization": f"Bearer {key}"}
        with httpx.Client(base_url=f"{product.url}/api/v1/", headers=headers, timeout=30) as client:

            def call(path: str, body: Any) -> Any:
                return client.post(path, json=body).raise_for_status().json()

            wiring = {"name": "bus", "topology": "mesh", "inbox_limit": INBOX}
            messages = f"federations/{call('federations', wiring)['id']}/messages"
            agents = messages.replace("messages", "agents")
            one, two = (call(agents, {"name": name, "runtime": "remote"})["id"] for name in "ab")
            message = {"from": one, "to": two, "payload": PAYLOAD}

            def single() -> float:
                began = time.perf_counter()
                for _ in range(SINGLES):
                    call(messages, message)
                return (time.perf_counter() - began) / SINGLES

            def batch() -> float:
                body = {"messages": [message] * BATCH}
                began = time.perf_counter()
                for _ in range(BATCHES):
                    answers = call(f"{messages}/batch", body)["results"]
                    assert all("id" in answer for answer in answers), answers
                return (time.perf_counter() - began) / (BATCHES * BATCH)

            yield {"one a request": single, "100 a request": batch}


BENCH = Bench(
    name="bus_http",
    baseline="one a request",
    cases=cases,
    rounds=5,
    repeats=3,
    most_ms={"100 a request": 0.0667},
    note="seconds a message; 15,000 messages/s is 0.067 ms",
)
