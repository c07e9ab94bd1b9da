"""What budgets cost a charge: none, one that tells, and five that all watch it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count

from django.utils import timezone

from billing import accounts, budgets, ledger, verify
from billing.models import Account
from tests.bench.harness import Bench, Case, timed

_keys = count(1)
LIMIT_UCR = 10**14
WATCHING = {
    "no budget": (),
    "one budget": (("account", "month"),),
    "five budgets": (("account", "day"), ("account", "week"), ("account", "month"), ("account", "total")),
}


@contextmanager
def cases() -> Iterator[dict[str, Case]]:
    yield {name: timed(_charge(_account(name, watching))) for name, watching in WATCHING.items()}
    failed = [check for check in verify.checks() if not check.ok]
    assert not failed, failed


def _account(name: str, watching: tuple[tuple[str, str], ...]) -> Account:
    account = accounts.open_account(name=f"Bench, {name}", credits=100_000_000)
    now = timezone.now()
    for scope, period in watching:
        budgets.create(account=account, scope=scope, period=period, limit_ucr=LIMIT_UCR, action="block", now=now)
    if len(watching) > 1:
        said = {"scope": "meter", "target": "mcp_call", "period": "day", "action": "block"}
        budgets.create(account=account, limit_ucr=LIMIT_UCR, now=now, **said)
    return account


def _charge(account: Account) -> Callable[[], object]:
    def charge() -> object:
        said = {"amount_ucr": 1000, "meter": "mcp_call", "source": "bench", "now": timezone.now()}
        return ledger.charge(account_id=account.pk, key=f"bench:{next(_keys)}", **said)

    return charge


BENCH = Bench(
    name="budgets",
    baseline="no budget",
    cases=cases,
    repeats=50,
    note="the same charge of three accounts; without a budget the wallet's own row says that none is to be looked for",
)
