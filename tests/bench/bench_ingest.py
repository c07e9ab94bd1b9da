"""Usage events by the thousand: sent once, sent again, and one by one, against a bare COPY that knows no duplicates."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from uuid import UUID, uuid4

import psutil
from django.db import connection
from django.utils import timezone

from billing import accounts, batches, metering, verify
from tests.bench.harness import Bench, Case, timed

EVENTS = 1000
ONE_BY_ONE = 50


def events(count: int) -> list[batches.Given]:
    now = timezone.now()
    made = (
        metering.Event("bench", str(uuid4()), "mcp_call", Decimal(1), now, "agent-1", {"run": number})
        for number in range(count)
    )
    return [batches.Given(event, True) for event in made]


@contextmanager
def cases() -> Iterator[dict[str, Case]]:
    account = accounts.open_account(name="Bench", credits=100_000_000).pk
    with connection.cursor() as cursor:
        cursor.execute(
            "create table if not exists bench_event (source text, key text, quantity numeric, at timestamptz)"
        )
    known = events(EVENTS)
    batches.record_many(account_id=account, events=known, now=timezone.now())

    def bare() -> None:
        with connection.cursor() as cursor, cursor.copy("copy bench_event from stdin") as copy:
            for event, _ in known:
                copy.write_row((event.source, event.key, event.quantity, event.occurred_at))

    def fresh() -> float:
        sent = events(EVENTS)
        return timed(lambda: batches.record_many(account_id=account, events=sent, now=timezone.now()))() / EVENTS

    def again() -> None:
        batches.record_many(account_id=account, events=known, now=timezone.now())

    def one_by_one() -> None:
        for event, _ in events(ONE_BY_ONE):
            metering.record_usage(
                account_id=account, meter=event.meter, quantity=event.quantity, occurred_at=event.occurred_at,
                now=timezone.now(), key=event.key, source=event.source, agent=event.agent, properties=event.properties,
            )  # fmt: skip

    copied, repeated, singly = timed(bare), timed(again), timed(one_by_one)
    yield {
        "bare COPY": lambda: copied() / EVENTS,
        "1,000 new events": fresh,
        "1,000 known events": lambda: repeated() / EVENTS,
        "one by one": lambda: singly() / ONE_BY_ONE,
    }
    print(cpu_said(account))
    failed = [check for check in verify.checks() if not check.ok]
    assert not failed, failed


def cpu_said(account: UUID) -> str:
    """What a new event costs of a processor, here and in the database, which a busy machine does not change."""
    with connection.cursor() as cursor:
        cursor.execute("select pg_backend_pid()")
        backend = psutil.Process(cursor.fetchone()[0])
    sent = [events(EVENTS) for _ in range(20)]
    ours, theirs = time.process_time(), sum(backend.cpu_times()[:2])
    for each in sent:
        batches.record_many(account_id=account, events=each, now=timezone.now())
    ours, theirs = time.process_time() - ours, sum(backend.cpu_times()[:2]) - theirs
    spent = (ours + theirs) / (len(sent) * EVENTS)
    return (
        f"  processor: {ours / len(sent) / EVENTS * 1e6:.0f} us here and {theirs / len(sent) / EVENTS * 1e6:.0f} us in the "
        f"database for a new event, so two cores can take {2 / spent:,.0f} events/s"
    )


BENCH = Bench(
    name="ingest",
    baseline="bare COPY",
    cases=cases,
    rounds=5,
    repeats=5,
    fewer={"one by one": 1},
    note="seconds of one event: 0.040 ms are 25,000 events/s; each new one is priced, charged and kept with its keys",
)
