"""A charge by eight clients: against pgbench's own transaction, django-hordak's, many accounts against one; and reading
a balance with a short and a long history. The ledger is verified after every round.

pgbench comes with Debian's postgresql; hordak is asked where NTD_BENCH_HORDAK names a Python that has it. What is not
there is said and left out.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager, suppress
from decimal import Decimal
from glob import glob
from itertools import count
from pathlib import Path
from uuid import UUID, uuid4

import psutil
from django.db import connection, transaction
from django.utils import timezone

from billing import accounts, batches, ledger, metering, verify
from tests.bench.harness import Bench, Case, timed

CLIENTS, EACH, BATCH = 8, 50, 100
# They stay, and so do their connections, as in a server.
_clients = ThreadPoolExecutor(CLIENTS)
LONG, SHORT = 100_000, 1_000
# Made as cheaply as keys can be: hordak has none.
_RUN, _keys = uuid4(), count(1)
# By itself hordak neither locks nor looks whether there is enough; a charge does both.
HORDAK = {"hordak, transfer_to": "bare", "hordak, locked and checked": "checked"}
# As many charges would have written, in a few statements.
HISTORY = """
create temp table history on commit drop as select n, gen_random_uuid() as id from generate_series(1, %(count)s) n;
insert into billing_transaction
    (id, account_id, kind, source, key, request_hash, description, actor, request_id, created_at)
select id, %(account)s, 'charge', 'history', n::text, '', '', '', '', now() from history;
insert into billing_grantconsumption (grant_id, transaction_id, amount_ucr)
select g.id, h.id, 1000 from history h, billing_grant g where g.account_id = %(account)s;
insert into billing_entry (id, transaction_id, ledger_account_id, amount_ucr, balance_after_ucr, line, created_at)
select gen_random_uuid(), h.id, w.id, -1000, w.posted_ucr - 1000 * n, w.last_line + n, now()
  from history h, billing_ledgeraccount w where w.account_id = %(account)s
union all
select gen_random_uuid(), h.id, r.id, 1000, null, null, now()
  from history h, (select id from billing_ledgeraccount where kind = 'revenue' limit 1) r;
update billing_grant set remaining_ucr = remaining_ucr - 1000 * %(count)s where account_id = %(account)s;
update billing_ledgeraccount set posted_ucr = posted_ucr - 1000 * %(count)s, last_line = last_line + %(count)s
 where account_id = %(account)s"""


# Case -> what an operation cost of a processor, here and in the database: a busy machine changes it little.
_worked: dict[str, list[tuple[float, float]]] = {}


def database_cpu() -> float:
    """Seconds of a processor that all of the database's processes have used, also those that have ended."""
    with connection.cursor() as cursor:
        cursor.execute("select pg_backend_pid()")
        server = psutil.Process(cursor.fetchone()[0]).parent()
    assert server is not None
    used = 0.0
    for each in server.children():
        with suppress(psutil.NoSuchProcess):  # it ends this very moment
            used += sum(each.cpu_times()[:2])
    ended = server.cpu_times()
    return used + ended.children_user + ended.children_system


def note_work(name: str, ours: float, theirs: float) -> None:
    _worked.setdefault(name, []).append((ours / (CLIENTS * EACH), theirs / (CLIENTS * EACH)))


def work_said() -> None:
    for name, found in _worked.items():
        ours, theirs = (statistics.median(each) * 1e6 for each in zip(*found, strict=True))
        print(f"  processor, {name:<24} {ours:>6.0f} us in Python + {theirs:>6.0f} us in the database")


def clients(name: str, work: Callable[[int], object]) -> Case:
    """Seconds of one operation when eight clients work at once."""

    def run(client: int) -> None:
        for _ in range(EACH):
            work(client)

    def case() -> float:
        database, worked, began = database_cpu(), time.process_time(), time.perf_counter()
        wait([_clients.submit(run, client) for client in range(CLIENTS)])
        took, worked = time.perf_counter() - began, time.process_time() - worked
        note_work(name, worked, database_cpu() - database)
        return took / (CLIENTS * EACH)

    return case


def pgbench() -> Case | None:
    program = shutil.which("pgbench") or next(iter(sorted(glob("/usr/lib/postgresql/*/bin/pgbench"))), None)
    if program is None:
        print("pgbench is not installed (Debian: postgresql); nothing is compared with it.")
        return None
    url = os.environ["DATABASE_URL"]
    subprocess.run([program, "-i", "-q", "-s", "20", url], check=True, capture_output=True)

    def case() -> float:
        said = subprocess.run(
            [program, "-n", "-c", str(CLIENTS), "-j", "2", "-t", str(EACH), "-M", "prepared", url],
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        return 1 / float(said.partition("tps = ")[2].split()[0])

    return case


@contextmanager
def hordak() -> Iterator[dict[str, Case]]:
    python = os.environ.get("NTD_BENCH_HORDAK")
    if not python:
        print("NTD_BENCH_HORDAK names no Python with django-hordak; nothing is compared with it.")
        yield {}
        return
    program = Path(__file__).with_name("hordak_rival.py")
    with subprocess.Popen(
        [python, str(program), os.environ["DATABASE_URL"]], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as rival:
        assert rival.stdin is not None
        assert rival.stdout is not None
        assert rival.stdout.readline() == "ready\n"
        answers, questions = rival.stdout, rival.stdin

        def of(name: str, how: str) -> Case:
            def case() -> float:
                database = database_cpu()
                questions.write(f"{EACH} {how}\n")
                questions.flush()
                took, worked = map(float, answers.readline().split())
                note_work(name, worked, database_cpu() - database)
                return took / (CLIENTS * EACH)

            return case

        yield {name: of(name, how) for name, how in HORDAK.items()}
        questions.close()


def with_history(entries: int) -> UUID:
    account = accounts.open_account(name=f"{entries} entries", credits=1_000_000)
    charge(account.pk)
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(HISTORY, {"account": account.pk, "count": entries})
    with connection.cursor() as cursor:
        cursor.execute("analyze")
    return account.pk


def charge(account_id: UUID) -> None:
    key = f"bench:{_RUN}:{next(_keys)}"
    ledger.charge(account_id=account_id, amount_ucr=1000, key=key, source="bench", now=timezone.now())


def one_event(account_id: UUID) -> None:
    metering.record_usage(
        account_id=account_id, meter="mcp_call", quantity=Decimal(1), occurred_at=None, now=timezone.now(),
        key=str(uuid4()), source="bench",
    )  # fmt: skip


def hundred_events(account_id: UUID) -> None:
    now = timezone.now()
    events = [metering.Event("bench", str(uuid4()), "mcp_call", Decimal(1), now, "", {}) for _ in range(BATCH)]
    batches.record_many(account_id=account_id, events=[batches.Given(event, False) for event in events], now=now)


@contextmanager
def cases() -> Iterator[dict[str, Case]]:
    spread = [accounts.open_account(name=f"Bench {n}", credits=100_000).pk for n in range(200)]
    hot = accounts.open_account(name="Hot", credits=100_000_000).pk
    places = count()
    with ExitStack() as stack:
        rivals = stack.enter_context(hordak())
        found = {
            "pgbench, tpcb-like": pgbench(),
            **rivals,
            "charge": clients("charge", lambda _: charge(spread[next(places) % len(spread)])),
            "charge, one account": clients("charge, one account", lambda _: charge(hot)),
            "event": timed(lambda: one_event(hot)),
            "event, 100 at once": lambda: timed(lambda: hundred_events(hot))() / BATCH,
        }
        if rivals:
            found["charge (against hordak)"] = found["charge (against hordak, checked)"] = found["charge"]
        for entries in (SHORT, LONG):
            account_id = with_history(entries)
            found[f"balance, {entries:,} entries"] = timed(
                lambda account_id=account_id: ledger.balance(account_id=account_id, now=timezone.now())
            )
        yield {name: case for name, case in found.items() if case is not None}
        work_said()


def books_are_right() -> None:
    failed = [check for check in verify.checks() if not check.ok]
    assert not failed, failed


def _bench() -> Bench:
    has_hordak = bool(os.environ.get("NTD_BENCH_HORDAK"))
    has_pgbench = bool(shutil.which("pgbench") or glob("/usr/lib/postgresql/*/bin/pgbench"))
    bare = {"charge (against hordak)": "hordak, transfer_to"} if has_hordak else {}
    checked = {"charge (against hordak, checked)": "hordak, locked and checked"} if has_hordak else {}
    return Bench(
        name="charge",
        baseline="pgbench, tpcb-like" if has_pgbench else "charge",
        cases=cases,
        rounds=5,
        repeats=3,
        baselines={
            "charge, one account": "charge",
            "event, 100 at once": "event",
            f"balance, {LONG:,} entries": f"balance, {SHORT:,} entries",
            **bare,
            **checked,
        },
        # Times, so the inverse of rates: 0.6 of pgbench's rate is 1/0.6 of its time.
        goals={
            **({"charge": 1 / 0.6} if has_pgbench else {}),
            **dict.fromkeys(bare, 1 / 2.5),
            "charge, one account": 1 / 0.4,
            "event, 100 at once": 1 / 3,
            f"balance, {LONG:,} entries": 1.5,
        },
        after_round=books_are_right,
        note=f"{CLIENTS} clients at once for charges and their rivals; seconds of one operation",
    )


BENCH = _bench()
