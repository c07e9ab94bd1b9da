"""What a charge costs: the ledger's function against two plain statements that keep a balance and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count

from django.db import connection, transaction
from django.utils import timezone

from billing import accounts, ledger, verify
from tests.bench.harness import Bench, Case, timed

_keys = count(1)
BATCH = 100


@contextmanager
def cases() -> Iterator[dict[str, Case]]:
    account = accounts.open_account(name="Bench", credits=100_000_000)
    with connection.cursor() as cursor:
        cursor.execute(
            "create table if not exists bench_wallet (id int primary key, posted bigint check (posted >= 0))"
        )
        cursor.execute(
            "create table if not exists bench_entry (id bigserial primary key, amount bigint, at timestamptz)"
        )
        cursor.execute("insert into bench_wallet values (1, 1000000000000000) on conflict do nothing")

    def plain() -> None:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("update bench_wallet set posted = posted - 1000 where id = 1 and posted >= 1000")
            cursor.execute("insert into bench_entry (amount, at) values (-1000, %s)", [timezone.now()])

    def charge() -> None:
        key = f"bench:{next(_keys)}"
        ledger.charge(account_id=account.pk, amount_ucr=1000, key=key, source="bench", now=timezone.now())

    def hundred_in_one() -> None:
        with transaction.atomic():
            for _ in range(BATCH):
                charge()

    batch = timed(hundred_in_one)
    yield {"plain SQL": timed(plain), "charge": timed(charge), "charge, 100 in one": lambda: batch() / BATCH}
    failed = [check for check in verify.checks() if not check.ok]
    assert not failed, failed


BENCH = Bench(
    name="ledger_post",
    baseline="plain SQL",
    cases=cases,
    repeats=50,
    goals={"charge": 3.0},
    note="a charge is double entry, grants, an idempotency key and guards; the baseline is an update and an insert",
)
