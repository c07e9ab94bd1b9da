"""`POST messages/batch` over HTTP, 100 messages a request, against one message a request on the same server.

Goal: 15,000 messages/s (0.067 ms each) from one client and one web process.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
from django.utils import timezone

from billing import accounts, keys
from federation import bus, coordination, history
from tests.bench.harness import Bench, Case

PAYLOAD = {"price": "101.25", "quantity": 120, "note": "x" * 60}
BATCH, BATCHES, SINGLES = 100, 50, 50


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def web() -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """A web process of its own, and its address."""
    port = _free_port()
    command = [sys.executable, "-m", "uvicorn", "ntd_site.asgi:application", "--port", str(port)]
    command += ["--log-level", "error", "--no-access-log", "--loop", "uvloop", "--http", "httptools"]
    command += ["--ws-per-message-deflate", "false", "--ws-ping-interval", "100000"]
    process = subprocess.Popen(
        command, env={**os.environ, "RATE_LIMIT_PER_MINUTE": "100000000"}, stdout=subprocess.DEVNULL
    )
    address = f"http://127.0.0.1:{port}"
    try:
        while not _answers(address):
            time.sleep(0.1)
        yield address, process
    finally:
        process.terminate()
        process.wait()


def _answers(address: str) -> bool:
    try:
        return httpx.get(f"{address}/health", timeout=5).status_code > 0
    except httpx.HTTPError:
        return False


@contextmanager
def cases() -> Iterator[dict[str, Case]]:
    account = accounts.open_account(name="Bench bus http")
    now = timezone.now()
    federation = coordination.create_federation(
        by=None, account=account, name="bus", topology="mesh", inbox_limit=1_000_000, now=now
    )
    one, two = (coordination.add_agent(federation=federation, name=name, runtime="remote", now=now)[0] for name in "ab")
    _, secret = keys.create(account=account, name="bench", scopes=keys.SCOPES, by=None, now=now)
    message: dict[str, Any] = {"from": str(one.pk), "to": str(two.pk), "payload": PAYLOAD}

    with web() as (address, _), httpx.Client(headers={"Authorization": f"Bearer {secret}"}) as client:
        path = f"{address}/api/v1/federations/{federation.pk}/messages"

        def single() -> float:
            began = time.perf_counter()
            for _ in range(SINGLES):
                client.post(path, json=message).raise_for_status()
            return (time.perf_counter() - began) / SINGLES

        def batch() -> float:
            body = {"messages": [message] * BATCH}
            began = time.perf_counter()
            for _ in range(BATCHES):
                client.post(f"{path}/batch", json=body).raise_for_status()
            took = (time.perf_counter() - began) / (BATCHES * BATCH)
            while items := bus.receive(agent=two, most=1000, clock=timezone.now):
                bus.acknowledge(agent=two, message_ids=[item.id for item in items], now=timezone.now())
            history.flush_all(now=timezone.now())
            return took

        yield {"one a request": single, "100 a request": batch}


BENCH = Bench(
    name="bus_http",
    baseline="one a request",
    cases=cases,
    rounds=5,
    repeats=1,
    goals={"100 a request": 0.05},
    note="seconds a message; 15,000 messages/s is 0.067 ms",
)
