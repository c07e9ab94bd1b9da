"""What a task costs the coordinator, from claim to completion, against the least SQL that could keep such a queue.

Where the name says CPU, seconds are the processor's: of this process and of its database connection's together.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from random import Random
from typing import Any

import psutil
from django.db import connection, transaction
from django.utils import timezone

from billing import accounts
from federation import attempts, bulk, coordination, dispatch
from tests.bench.harness import Bench, Case

BATCH, MANY = 100, 500
CAPACITY = 1000
PLAIN_CLAIM = """
update bench_task set state = 'running', epoch = epoch + 1, lease = now() + interval '30 s'
where id in (select id from bench_task where state = 'queued' order by id limit %s for update skip locked)
returning id, epoch
"""
PLAIN_COMPLETE = "update bench_task set state = 'done', result = '1' where id = any(%s) and state = 'running'"


class Plain:
    """A table, and two statements to take from it and to write back."""

    def __init__(self) -> None:
        with connection.cursor() as cursor:
            cursor.execute(
                "create table if not exists bench_task (id bigserial primary key, state text default 'queued', epoch int "
                "default 0, lease timestamptz, result jsonb); create index if not exists bench_queued on bench_task (id) "
                "where state = 'queued'"
            )

    def fill(self, number: int) -> None:
        with connection.cursor() as cursor:
            cursor.execute("insert into bench_task (state) select 'queued' from generate_series(1, %s)", [number])

    def work(self, number: int) -> None:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(PLAIN_CLAIM, [number])
            claimed = [row[0] for row in cursor.fetchall()]
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(PLAIN_COMPLETE, [claimed])


class Ours:
    """A federation with one remote agent."""

    def __init__(self) -> None:
        account, now = accounts.open_account(name="Bench tasks"), timezone.now()
        self.federation = coordination.create_federation(by=None, account=account, name="tasks", now=now)
        self.agent, _ = coordination.add_agent(
            federation=self.federation, name="worker", runtime="remote", max_concurrent_tasks=CAPACITY, now=now
        )

    def fill(self, number: int) -> None:
        orders = [coordination.Order(type="work", payload={"n": 1})] * number
        coordination.submit_tasks(federation=self.federation, orders=orders, by=None, now=timezone.now())

    def work(self, number: int) -> None:
        claimed = dispatch.claim_many(agent=self.agent, most=number, now=timezone.now())
        assert len(claimed) == number
        answers = [bulk.Answer(each.task_id, each.epoch, {"n": 1}) for each in claimed]
        bulk.complete(agent=self.agent, answers=answers, now=timezone.now())

    def assign_and_work(self, number: int) -> None:
        dispatch.assign(federation_id=self.federation.pk, now=timezone.now(), rng=Random(1))
        self.work(number)

    def one(self, _: int) -> None:
        attempt = dispatch.claim(agent=self.agent, now=timezone.now())
        assert attempt is not None
        said = {"task_id": attempt.task_id, "epoch": attempt.epoch, "agent_id": self.agent.pk, "result": {"n": 1}}
        attempts.complete(**said, now=timezone.now())


def _case(fill: Any, work: Any, number: int, clock: Any = time.perf_counter) -> Case:
    def run() -> float:
        fill(number)
        began = clock()
        work(number)
        return float(clock() - began) / number

    return run


@contextmanager
def cases() -> Iterator[dict[str, Case]]:
    plain, ours = Plain(), Ours()
    backend = psutil.Process(connection.connection.info.backend_pid)

    def processor() -> float:
        database = backend.cpu_times()
        return time.process_time() + database.user + database.system

    yield {
        "plain SQL, 100 in one": _case(plain.fill, plain.work, BATCH),
        "plain SQL, one": _case(plain.fill, plain.work, 1),
        "claim and complete, 100 in one": _case(ours.fill, ours.work, BATCH),
        "assign, claim and complete, 100 in one": _case(ours.fill, ours.assign_and_work, BATCH),
        "claim and complete, one": _case(ours.fill, ours.one, 1),
        "CPU of plain SQL, 500 in one": _case(plain.fill, plain.work, MANY, processor),
        "CPU of claim and complete, 500 in one": _case(ours.fill, ours.work, MANY, processor),
    }


BENCH = Bench(
    name="coordinator",
    baseline="plain SQL, 100 in one",
    baselines={
        "claim and complete, one": "plain SQL, one",
        "CPU of claim and complete, 500 in one": "CPU of plain SQL, 500 in one",
    },
    cases=cases,
    rounds=5,
    repeats=6,
    note="seconds a task; 1,000 tasks/s is 1 ms. Submitting is not in it; fairness, capacity, epochs and pages are",
)
