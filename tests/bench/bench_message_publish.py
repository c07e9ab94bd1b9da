"""What a message costs: the bus (route, guards, inbox, accounting) against a raw XADD on the same server."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import redis
from django.conf import settings
from django.utils import timezone

from billing import accounts
from federation import bus, coordination
from tests.bench.harness import Bench, Case, timed

PAYLOAD = {"price": "101.25", "quantity": 120, "note": "x" * 120}
BATCH = 100


@contextmanager
def cases() -> Iterator[dict[str, Case]]:
    account = accounts.open_account(name="Bench bus")
    now = timezone.now()
    federation = coordination.create_federation(
        by=None, account=account, name="bus", topology="mesh", inbox_limit=10_000_000, now=now
    )
    sender, receiver = (
        coordination.add_agent(federation=federation, name=name, runtime="remote", now=now)[0] for name in "ab"
    )
    raw = redis.Redis.from_url(settings.REDIS_URL)
    body = str(PAYLOAD)

    def xadd() -> None:
        raw.xadd("bench:raw", {"body": body})

    def xadd_hundred() -> None:
        with raw.pipeline(transaction=False) as pipeline:
            for _ in range(BATCH):
                pipeline.xadd("bench:raw", {"body": body})
            pipeline.execute()

    def draft() -> bus.Draft:
        return bus.Draft(sender=sender.pk, recipient=receiver.pk, payload=PAYLOAD)

    def send() -> None:
        bus.send(federation=federation, draft=draft(), now=timezone.now())

    def send_hundred() -> None:
        bus.send_many(federation=federation, drafts=[draft() for _ in range(BATCH)], now=timezone.now())

    raw_batch, sent_batch = timed(xadd_hundred), timed(send_hundred)
    yield {
        "XADD": timed(xadd),
        "XADD, 100 pipelined": lambda: raw_batch() / BATCH,
        "bus, one": timed(send),
        "bus, 100 in one": lambda: sent_batch() / BATCH,
    }


BENCH = Bench(
    name="message_publish",
    baseline="XADD",
    cases=cases,
    note="seconds a message; 10,000 messages/s is 0.1 ms",
)
