"""django-hordak 2 on the same server, in a process and a database of its own: a number and how in (bare, checked),
seconds (of the clock, of the processor) out.

NTD_BENCH_HORDAK=/path/to/python    a Python with django-hordak and psycopg (never a dependency of ours)
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait

CLIENTS = 8


def setup(url: str) -> None:
    import django
    import psycopg
    from django.conf import settings

    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("drop database if exists bench_hordak")
        connection.execute("create database bench_hordak")
        parts = connection.info
        database = {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": "bench_hordak",
            "USER": parts.user,
            "PASSWORD": parts.password,
            "HOST": parts.host,
            "PORT": parts.port,
        }
    settings.configure(
        DATABASES={"default": database},
        INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth", "mptt", "djmoney", "hordak"],
        DEFAULT_AUTO_FIELD="django.db.models.AutoField",
        USE_TZ=True,
        CURRENCIES=["EUR"],
        DEFAULT_CURRENCY="EUR",
        SECRET_KEY="bench",
    )
    django.setup()
    from django.core.management import call_command

    call_command("migrate", verbosity=0)


def main(url: str) -> None:
    setup(url)
    from django.db import transaction
    from hordak.models import Account, AccountType
    from moneyed import Money

    made = {"currencies": ["EUR"]}
    income = Account.objects.create(name="Revenue", code="1", type=AccountType.income, **made)
    wallets = [
        Account.objects.create(name=f"Wallet {n}", code=str(n + 2), type=AccountType.liability, **made)
        for n in range(50)
    ]

    def bare(wallet: Account) -> None:
        wallet.transfer_to(income, Money("0.01", "EUR"))

    def checked(wallet: Account) -> None:
        """As hordak would have to be used to give nothing out twice: it begins at nothing here, so it only looks."""
        with transaction.atomic():
            locked = Account.objects.select_for_update().get(pk=wallet.pk)
            assert locked.get_balance() is not None
            bare(locked)

    def run(client: int, each: int, act: Callable[[Account], None]) -> None:
        for n in range(each):
            act(wallets[(client * each + n) % len(wallets)])

    clients = ThreadPoolExecutor(CLIENTS)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    for line in sys.stdin:
        each, how = int(line.split()[0]), {"bare": bare, "checked": checked}[line.split()[1]]
        began, worked = time.perf_counter(), time.process_time()
        wait([clients.submit(run, client, each, how) for client in range(CLIENTS)])
        sys.stdout.write(f"{time.perf_counter() - began} {time.process_time() - worked}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1])
