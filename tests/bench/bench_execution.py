"""An execution through the whole product (HTTP, queue, sandbox, ledger) against a bare interpreter.

Beside the times: what it costs of the processors in each process, which is the steadier figure on a shared machine.
"""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from tests.bench.harness import Bench, Case, timed
from tests.product import Product, running

AT_ONCE = 8
EACH = 10
# A key may make this many calls a minute, so the limit is out of the way.
CALLS_A_MINUTE = "1000000"
FIGURES: dict[str, str] = {}


class Spent:
    """The processors' time of each part, over the executions of one case."""

    def __init__(self, product: Product) -> None:
        self.product = product
        self.seconds: Counter[str] = Counter()
        self.executions = 0

    def of(self, case: Case, *, executions: int) -> Case:
        def counted() -> float:
            before = self.product.cpu_seconds()
            taken = case()
            after = self.product.cpu_seconds()
            self.seconds.update({part: after[part] - before[part] for part in after})
            self.executions += executions
            return taken

        return counted

    def __str__(self) -> str:
        each = {part: 1000 * spent / self.executions for part, spent in self.seconds.most_common()}
        said = ", ".join(f"{part} {ms:.1f}" for part, ms in each.items())
        return f"{sum(each.values()):.1f} ms of a processor an execution ({said})"


@contextmanager
def cases() -> Iterator[dict[str, Case]]:
    os.environ["RATE_LIMIT_PER_MINUTE"] = CALLS_A_MINUTE
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

        def fresh(connection: http.client.HTTPConnection) -> http.client.HTTPConnection:
            """The server ends what was idle for five seconds, such as while another case ran."""
            connection.close()
            return connection

        def eight_at_once() -> None:
            for each in many:
                fresh(each)
            with ThreadPoolExecutor(AT_ONCE) as pool:
                list(pool.map(lambda number: [submit(many[number]) for _ in range(EACH)], range(AT_ONCE)))

        alone, together = Spent(product), Spent(product)
        eight = together.of(timed(eight_at_once), executions=AT_ONCE * EACH)
        yield {
            "python -I -S -c pass": timed(
                lambda: subprocess.run([sys.executable, "-I", "-S", "-c", "pass"], check=True)
            ),
            "POST executions?wait": alone.of(timed(lambda: submit(fresh(one))), executions=1),
            "eight at once, each": lambda: eight() / (AT_ONCE * EACH),
        }
        FIGURES.update({"one at a time": str(alone), "eight at once": str(together)})
        FIGURES["load"] = f"{os.getloadavg()[0]:.1f} on {os.cpu_count()} processors"


BENCH = Bench(
    name="execution",
    baseline="python -I -S -c pass",
    cases=cases,
    rounds=5,
    repeats=10,
    most_ms={"POST executions?wait": 40.0, "eight at once, each": 16.7},
    figures=FIGURES,
    note="60 executions/s is 16.7 ms each",
)
