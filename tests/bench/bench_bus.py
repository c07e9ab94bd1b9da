"""The bus from end to end, one producer and one consumer process, against raw pipelined XADD on the same server.

Goals: 100,000 messages/s, and half the rate of raw XADD or better; 50,000/s through to the history in the database;
2,000 broadcasts/s to fifty; 99 % of single messages within 20 ms. The producer gathers messages for WINDOW_SECONDS or
PACK messages, whichever comes first.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import redis
from django.conf import settings
from django.utils import timezone

from billing import accounts
from federation import bus, coordination, history
from federation.models import Agent, Federation
from tests.bench.harness import Bench, Case

PAYLOAD = {"price": "101.25", "quantity": 120, "note": "x" * 60}
MESSAGES, PACK, WINDOW_SECONDS = 50_000, 1000, 0.01
SINGLES, BROADCASTS, MEMBERS = 200, 400, 50


class Peer:
    """Another process, ready to go."""

    def __init__(self, *arguments: object) -> None:
        command = [sys.executable, "-m", "tests.bench.bus_peers", *map(str, arguments)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._line() == "ready"

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def result(self) -> list[float]:
        found = [float(part) for part in self._line().split()]
        self._process.wait()
        return found


def produce(federation: Federation, sender: Agent, receiver: Agent, number: int) -> None:
    drafts: list[bus.Draft] = []
    began = time.monotonic()
    for _ in range(number):
        drafts.append(bus.Draft(sender.pk, receiver.pk, payload=PAYLOAD))
        if len(drafts) == PACK or (not len(drafts) % 100 and time.monotonic() - began > WINDOW_SECONDS):
            bus.send_many(federation=federation, drafts=drafts, now=timezone.now())
            drafts, began = [], time.monotonic()
    if drafts:
        bus.send_many(federation=federation, drafts=drafts, now=timezone.now())


@dataclass
class Cast:
    """Two who talk, a crowd with a sender before it, and the server as it is."""

    federation: Federation
    sender: Agent
    receiver: Agent
    crowd: Federation
    many: list[Agent]

    @classmethod
    def assembled(cls) -> Cast:
        account, now = accounts.open_account(name="Bench bus"), timezone.now()
        pair, crowd = (
            coordination.create_federation(
                by=None, account=account, name=name, topology="mesh", max_agents=100, inbox_limit=1_000_000, now=now
            )
            for name in ("pair", "crowd")
        )

        def agent(federation: Federation, name: str) -> Agent:
            return coordination.add_agent(federation=federation, name=name, runtime="remote", now=now)[0]

        many = [agent(crowd, f"member-{number}") for number in range(MEMBERS + 1)]
        return cls(pair, agent(pair, "sender"), agent(pair, "receiver"), crowd, many)

    def end_to_end(self) -> float:
        peer = Peer("consume", self.receiver.pk, MESSAGES)
        began = time.time()
        produce(self.federation, self.sender, self.receiver, MESSAGES)
        took = peer.result()[0] - began
        history.flush_all(now=timezone.now())
        return took / MESSAGES

    def into_the_history(self) -> float:
        peer, flusher = Peer("consume", self.receiver.pk, MESSAGES), Peer("flush", MESSAGES)
        began = time.time()
        produce(self.federation, self.sender, self.receiver, MESSAGES)
        peer.result()
        return (flusher.result()[0] - began) / MESSAGES

    def broadcast(self) -> float:
        began = time.time()
        for _ in range(BROADCASTS // 100):
            drafts = [bus.Draft(self.many[0].pk, None, payload=PAYLOAD) for _ in range(100)]
            bus.send_many(federation=self.crowd, drafts=drafts, now=timezone.now())
        took = time.time() - began
        for agent in self.many[1:]:
            empty(agent)
        history.flush_all(now=timezone.now())
        return took / BROADCASTS

    def single_p99(self) -> float:
        peer = Peer("consume", self.receiver.pk, SINGLES)
        for _ in range(SINGLES):
            draft = bus.Draft(self.sender.pk, self.receiver.pk, payload={**PAYLOAD, "sent": time.time()})
            bus.send(federation=self.federation, draft=draft, now=timezone.now())
            time.sleep(0.005)
        return peer.result()[2] / 1e3


def empty(agent: Agent) -> None:
    while items := bus.receive(agent=agent, most=1000, clock=timezone.now):
        bus.acknowledge(agent=agent, message_ids=[item.id for item in items], now=timezone.now())


def raw_xadd() -> float:
    raw = redis.Redis.from_url(settings.REDIS_URL)
    body = str(PAYLOAD)
    began = time.time()
    for _ in range(MESSAGES // PACK):
        with raw.pipeline(transaction=False) as pipeline:
            for _ in range(PACK):
                pipeline.xadd("bench:raw", {"body": body})
            pipeline.execute()
    took = time.time() - began
    raw.delete("bench:raw")
    return took / MESSAGES


@contextmanager
def cases() -> Iterator[dict[str, Case]]:
    cast = Cast.assembled()
    yield {
        "raw XADD, 1,000 pipelined": raw_xadd,
        "end to end": cast.end_to_end,
        "into the history": cast.into_the_history,
        "a broadcast to 50": cast.broadcast,
        "p99 of one message": cast.single_p99,
    }


BENCH = Bench(
    name="bus",
    baseline="raw XADD, 1,000 pipelined",
    cases=cases,
    rounds=3,
    repeats=1,
    goals={"end to end": 2.0},
    note="seconds a message; 100,000/s is 0.010 ms, 50,000/s 0.020 ms, 2,000 broadcasts/s 0.500 ms",
)
