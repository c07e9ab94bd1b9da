"""What 2,000 heartbeats cost: CPU seconds of this process, PostgreSQL and Valkey together, against one core's second.

At a heartbeat a second each, the ratio is the share of one core that 2,000 agents take.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

import psutil
import websockets
from django.db import connection
from django.utils import timezone
from rest_framework.test import APIClient

from billing import accounts, keys
from federation import agents, coordination, store
from federation.beats import Beat
from federation.models import Agent, Federation
from tests.bench.harness import Bench, Case
from tests.product import free_port

AGENTS = 2000
FEW = 100
# Beats of each socket in a row.
SECONDS = 3


def _servers() -> list[psutil.Process]:
    return [psutil.Process(), *_stores()]


def _stores() -> list[psutil.Process]:
    with connection.cursor() as cursor:
        cursor.execute("select pg_backend_pid()")
        postmaster = psutil.Process(cursor.fetchone()[0]).parent()
    valkey = psutil.Process(int(store.client().info("server")["process_id"]))
    return [valkey, postmaster, *postmaster.children(recursive=True)]


def _cpu(processes: list[psutil.Process]) -> float:
    return sum(times.user + times.system for times in (each.cpu_times() for each in processes if each.is_running()))


def cpu_seconds(work: Callable[[], None], *, times: int = 1) -> Case:
    """CPU seconds of one call; `times` repeats it, for the clocks of other processes tick ten times a millisecond."""

    def case() -> float:
        processes = _servers()
        before = _cpu(processes)
        for _ in range(times):
            work()
        return (_cpu(processes) - before) / times

    return case


def _token(number: int) -> str:
    return f"{agents.TOKEN_PREFIX}{number}"


def _fill(federation: Federation, runtime: str) -> list[Agent]:
    """By rows: 2,000 joins are another benchmark. One joins as everybody does, and leads."""
    now = timezone.now()
    coordination.add_agent(federation=federation, name="leader", runtime=runtime, now=now)
    return Agent.objects.bulk_create(
        Agent(
            federation=federation, name=f"{runtime}-{number}", runtime=runtime, position=number + 10, created_at=now,
            last_heartbeat_at=now, token_digest=agents.digest(_token(number)) if runtime == "remote" else None,
        )
        for number in range(AGENTS)
    )  # fmt: skip


class Beating:
    """The same agents beat in each way."""

    def __init__(self) -> None:
        account = accounts.open_account(name="Bench heartbeats")
        self.moment = timezone.now()
        made = [
            coordination.create_federation(
                account=account, name=topology, topology=topology, max_agents=2000, heartbeat_seconds=1, by=None,
                now=self.moment,
            )
            for topology in ("star", "mesh")
        ]  # fmt: skip
        _fill(made[0], "managed")
        self.beats = [Beat(agent.pk, load=number % 20 / 20) for number, agent in enumerate(_fill(made[1], "remote"))]
        self.mesh = made[1]
        self.client, self.owner = APIClient(), APIClient()
        _, secret = keys.create(account=account, name="bench", scopes=("federation:write",), by=None, now=self.moment)
        self.owner.credentials(HTTP_AUTHORIZATION=f"Bearer {secret}")

    def managed(self) -> None:
        self.moment += timedelta(seconds=5)
        agents.beat_managed(now=self.moment)

    def in_arrays(self, size: int, most: int = AGENTS) -> None:
        for start in range(0, most, size):
            agents.heartbeat_many(beats=self.beats[start : start + size], now=timezone.now())

    def by_http_in_arrays(self) -> None:
        path = f"/api/v1/federations/{self.mesh.pk}/heartbeats"
        for start in range(0, AGENTS, 1000):
            beats = [{"agent": str(beat.agent_id), "load": beat.load} for beat in self.beats[start : start + 1000]]
            answer = self.owner.post(path, {"heartbeats": beats}, format="json")
            assert answer.status_code == 200, answer.content

    def by_http(self, most: int) -> None:
        for number, beat in enumerate(self.beats[:most]):
            self.client.credentials(HTTP_AUTHORIZATION=f"Bearer {_token(number)}")
            answer = self.client.post(f"/api/v1/agents/{beat.agent_id}/heartbeat", {"status": "idle"}, format="json")
            assert answer.status_code == 200, answer.content


@contextmanager
def _web() -> Iterator[tuple[str, int]]:
    """A web process as the product's, over this benchmark's servers: where its socket is, and its id."""
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "ntd_site.asgi:application", "--port", str(port), "--lifespan", "off"]
    command += ["--log-level", "error", "--no-access-log", "--ws-per-message-deflate", "false"]
    # Between the rounds nobody answers pings here.
    process = subprocess.Popen([*command, "--ws-ping-interval", "100000"], stdout=subprocess.DEVNULL)
    try:
        while not _answers(port):
            time.sleep(0.1)
        yield f"ws://127.0.0.1:{port}/ws/agents/", process.pid
    finally:
        process.terminate()
        process.wait()


def _answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5):
        return True
    return False


class Sockets:
    """Each agent with a socket of its own, a beat a second, spread over the second; a real web process answers."""

    def __init__(self, beating: Beating, url: str, pid: int) -> None:
        self.beats, self.pid = beating.beats, pid
        self.runner = asyncio.Runner()
        self.open = self.runner.run(self._open(url))

    def cpu_of_a_second(self) -> float:
        """Of the web process and the servers; the agents' own is not counted."""
        counted = [psutil.Process(self.pid), *_stores()]
        before = _cpu(counted)
        self.runner.run(self._beat())
        return (_cpu(counted) - before) / SECONDS

    async def _open(self, url: str) -> list[websockets.ClientConnection]:
        found: list[websockets.ClientConnection] = []
        for first in range(0, AGENTS, FEW):
            found += await asyncio.gather(*(self._hello(url, number) for number in range(first, first + FEW)))
        return found

    async def _beat(self) -> None:
        clock = asyncio.get_running_loop().time
        began = clock()
        for second in range(SECONDS):
            for number, opened in enumerate(self.open):
                if (early := began + second + number / AGENTS - clock()) > 0.002:
                    await asyncio.sleep(early)
                await opened.send(f'[{{"id":{second},"verb":"heartbeat","body":{{"load":{number % 20 / 20}}}}}]')
        answers = [json.loads(await opened.recv()) for opened in self.open for _ in range(SECONDS)]
        assert {answer[0]["status"] for answer in answers} == {200}
        # Whoever comes late is answered in larger batches, which cost less: then this says too little.
        print(f"  {SECONDS} s of heartbeats took {clock() - began:.1f} s", flush=True)

    async def _hello(self, url: str, number: int) -> websockets.ClientConnection:
        agent = str(self.beats[number].agent_id)
        connection = await websockets.connect(url, compression=None, ping_interval=None, open_timeout=60)
        await connection.send(json.dumps([{"verb": "hello", "agent": agent, "token": _token(number)}]))
        (answer,) = json.loads(await connection.recv())
        assert answer["status"] == 200, answer
        return connection


@contextmanager
def cases() -> Iterator[dict[str, Case]]:
    beating = Beating()
    single, http = cpu_seconds(lambda: beating.in_arrays(1, FEW)), cpu_seconds(lambda: beating.by_http(FEW))
    with _web() as (url, pid):
        sockets = Sockets(beating, url, pid)
        yield {
            "a second of one core": lambda: 1.0,
            "managed": cpu_seconds(beating.managed, times=3),
            "in arrays of 100": cpu_seconds(lambda: beating.in_arrays(100), times=3),
            "in one array": cpu_seconds(lambda: beating.in_arrays(AGENTS), times=3),
            "in arrays of 1,000, REST": cpu_seconds(beating.by_http_in_arrays),
            "one by one, without HTTP": lambda: single() * AGENTS / FEW,
            "one by one, REST": lambda: http() * AGENTS / FEW,
            "one by one, WebSocket": sockets.cpu_of_a_second,
        }
        sockets.runner.close()


BENCH = Bench(
    name="heartbeats",
    baseline="a second of one core",
    cases=cases,
    rounds=5,
    repeats=3,
    goals={
        "managed": 0.5,
        "in arrays of 100": 0.5,
        "in one array": 0.5,
        "in arrays of 1,000, REST": 0.5,
        "one by one, WebSocket": 0.5,
    },
    note="CPU seconds per 2,000 heartbeats, all processes involved but the agents' own; REST in process, without a "
    "socket; WebSocket by 2,000 real ones to one web process",
)
