"""An execution through the whole product (HTTP, queue, sandbox, ledger) against a bare interpreter."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from tests.bench.harness import Bench, Case, timed
from tests.product import running

AT_ONCE = 8
EACH = 10


@contextmanager
def cases() -> Iterator[dict[str, Case]]:
    with running("--no-sample") as product:
        key = product.account("Bench", "--credits", "1000000")["api_key"]
        headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        body = json.dumps({"language": "python", "code": "pass"})

        def submit(connection: http.client.HTTPConnection) -> None:
            connection.request("POST", "/api/v1/executions?wait=30", body, headers)
            answer = connection.getresponse()
            execution = json.loads(answer.read())
            assert execution["state"] == "succeeded", execution

        def client() -> http.client.HTTPConnection:
            return http.client.HTTPConnection("127.0.0.1", product.port, timeout=60)

        one, many = client(), [client() for _ in range(AT_ONCE)]

        def eight_at_once() -> None:
            with ThreadPoolExecutor(AT_ONCE) as pool:
                list(pool.map(lambda number: [submit(many[number]) for _ in range(EACH)], range(AT_ONCE)))

        together = timed(eight_at_once)
        yield {
            "python -I -S -c pass": timed(
                lambda: subprocess.run([sys.executable, "-I", "-S", "-c", "pass"], check=True)
            ),
            "POST executions?wait": timed(lambda: submit(one)),
            "eight at once, each": lambda: together() / (AT_ONCE * EACH),
        }


BENCH = Bench(
    name="execution",
    baseline="python -I -S -c pass",
    cases=cases,
    rounds=5,
    repeats=10,
    note="the rate limit is off for this; 60 executions/s is 16.7 ms each",
)
