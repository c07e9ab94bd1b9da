"""Spends at one moment do not get past a budget together."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connection

from billing import budgets, ledger
from tests import ledger_cast
from tests.ledger_cast import NOON, UCR


@pytest.mark.django_db(transaction=True)
def test_ten_of_forty_charges_and_holds_fit_into_a_budget_of_ten() -> None:
    account = ledger_cast.make_account(1000)
    said = {"scope": "account", "period": "day", "action": "block", "now": NOON}
    budget = budgets.create(account=account, limit_ucr=10 * UCR, **said)

    def spend(number: int) -> bool:
        act = ledger_cast.charge if number % 2 else ledger_cast.hold
        try:
            act(account, 1, key=f"race {number}")
        except ledger.BudgetExceeded:
            return False
        finally:
            connection.close()
        return True

    with ThreadPoolExecutor(8) as pool:
        accepted = sum(pool.map(spend, range(40)))

    (stands,) = budgets.standings(account, [budget], now=NOON)
    assert accepted == 10
    assert stands.spent_ucr + stands.held_ucr == 10 * UCR
    ledger_cast.assert_books_are_right()
