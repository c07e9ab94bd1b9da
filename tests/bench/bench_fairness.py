"""How much longer ten executions of one account take when another has a thousand waiting before them.

The workers stand still until everything is queued, so that nothing is served early.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

from tests.bench.harness import Bench, Case
from tests.product import Product, running

FEW, MANY = 10, 1000
SECONDS = 240
CODE = "import time; time.sleep(0.1)"


def _batch(product: Product, key: str, number: int) -> list[str]:
    body = {"executions": [{"language": "python", "code": CODE}] * number}
    status, answer = product.call("POST", "executions/batch", key, body, timeout=SECONDS)
    assert status == 200, answer
    return [execution["id"] for execution in answer["results"]]


def _wait(product: Product, key: str) -> None:
    """Until nothing of the account waits or runs."""
    deadline = time.monotonic() + SECONDS
    states = ("queued", "starting", "running")
    while any(product.call("GET", f"executions?page_size=1&state={state}", key)[1]["results"] for state in states):
        assert time.monotonic() < deadline
        time.sleep(0.02)


@contextmanager
def cases() -> Iterator[dict[str, Case]]:
    os.environ["RATE_LIMIT_PER_MINUTE"] = "1000000"
    with running("--no-sample") as product:
        many = product.account("Many", "--credits", "1000000")["api_key"]
        few = product.account("Few", "--credits", "1000000")["api_key"]

        def ten_beside(others: int) -> float:
            worker = product.part("worker")
            os.kill(worker, signal.SIGSTOP)
            try:
                if others:
                    _batch(product, many, others)
                ids = _batch(product, few, FEW)
            finally:
                began = time.time()
                os.kill(worker, signal.SIGCONT)
            _wait(product, few)
            rows = [product.call("GET", f"executions/{pk}", few)[1] for pk in ids]
            assert all(row["state"] == "succeeded" for row in rows), rows
            _wait(product, many)
            return max(datetime.fromisoformat(row["finished_at"]).timestamp() for row in rows) - began

        yield {"ten alone": lambda: ten_beside(0), "ten beside a thousand": lambda: ten_beside(MANY)}


BENCH = Bench(
    name="fairness",
    baseline="ten alone",
    cases=cases,
    rounds=3,
    repeats=1,
    goals={"ten beside a thousand": 2.0},
    note="seconds until the last of ten programs of 0.1 s has ended, eight at once",
)
