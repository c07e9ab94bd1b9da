"""How long after a program printed a line it is on the wire of the event stream; against a bare interpreter's pipe."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tests.bench.harness import Bench, Case
from tests.product import running

EVERY_SECONDS = 0.03
ROUNDS, REPEATS = 5, 40
# Both go on printing while the other is read, and before anybody listens.
LINES = 2 * ROUNDS * REPEATS + 300
# Each line says when it was printed; the sandbox has the machine's clock.
PROGRAM = f"""
import time
for number in range({LINES}):
    print(repr(time.time()), flush=True)
    time.sleep({EVERY_SECONDS})
"""


def _streamed(answer: http.client.HTTPResponse) -> Iterator[str]:
    """The lines of the output frames, as they come."""
    for line in answer:
        if line.startswith(b"data:") and b'"text"' in line:
            yield from json.loads(line[5:])["text"].split()


@contextmanager
def cases() -> Iterator[dict[str, Case]]:
    with running("--no-sample") as product:
        key = product.account("Bench", "--credits", "1000000")["api_key"]
        body = {"language": "python", "code": PROGRAM, "timeout_seconds": 600}
        bare = subprocess.Popen([sys.executable, "-I", "-S", "-u", "-c", PROGRAM], stdout=subprocess.PIPE, text=True)
        assert bare.stdout is not None
        _, execution = product.call("POST", "executions", key, body)
        stream = http.client.HTTPConnection("127.0.0.1", product.port, timeout=60)
        stream.request(
            "GET", f"/api/v1/executions/{execution['id']}/events", headers={"Authorization": f"Bearer {key}"}
        )
        lines, piped = _streamed(stream.getresponse()), bare.stdout
        try:
            yield {"pipe": _newest(piped.readline), "event stream": _newest(lambda: next(lines))}
        finally:
            bare.kill()
            product.call("POST", f"executions/{execution['id']}/cancel", key, {})


def _newest(next_line: Callable[[], str]) -> Case:
    """How late the next line is that is printed from now on; those of before were waiting for this case."""

    def case() -> float:
        began = time.time()
        while (printed := float(next_line())) < began:
            pass
        return time.time() - printed

    return case


BENCH = Bench(
    name="stream_line",
    baseline="pipe",
    cases=cases,
    rounds=ROUNDS,
    repeats=REPEATS,
    most_p95_ms={"event stream": 100.0},
    note="from print() to the client's socket, one line every 30 ms",
)
