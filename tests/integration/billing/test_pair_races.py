"""Every two operations on one account's money at the same moment, on real connections: whoever wins, the books are right.

Each is done or refused in the contract's words; nothing waits for ever and the database breaks no deadlock for us.
The suite lets each operation meet some others; NTD_PAIR_ROUNDS=1 has every pair meet, that many times.
"""

from __future__ import annotations

import itertools
import os
import random
import threading
import time
from collections.abc import Callable
from contextlib import contextmanager, nullcontext
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from billing import (
    auto_top_ups,
    batches,
    budgets,
    closing,
    credit_notes,
    details,
    disputes,
    dunning,
    invoicing,
    janitor,
    ledger,
    metering,
    methods,
    payments,
    periods,
    price_drafts,
    restocking,
)
from billing.gateways import DisputeWord
from billing.metering import Event
from billing.models import Account, Budget, Dispute
from tests import ledger_cast as cast
from tests import payment_cast
from tests.ledger_cast import UCR

pytestmark = pytest.mark.django_db(transaction=True)

ROUNDS = int(os.environ.get("NTD_PAIR_ROUNDS", "0"))
_number = itertools.count(1)


class World:
    """An account with everything that money can be in, and another one."""

    def __init__(self) -> None:
        self.now: datetime = timezone.now()
        self.account = self._account(400)
        self.other = self._account(100)
        self.sub = {"account_id": self.account.pk, "now": self.now}
        last = periods.Period(self.now - timedelta(days=9), self.now - timedelta(days=6))
        self.period = periods.Period(last.end, self.now - timedelta(days=3))
        # Drawn on the overdraft, so that something is due.
        self.charged = cast.charge(self.account, 20, now=self.now).transaction_id
        cast.use(self.account, "mcp_call", 400 - 20 + 30, now=last.start)
        self.invoice = invoicing.finalize(
            invoice_id=invoicing.generate(account=self.account, period=last, now=self.now)[0].pk, now=self.now
        )
        self.bought = payment_cast.buy(self.account, 80)
        cast.give(self.account, 300, now=self.now)
        cast.give(self.account, 20, expires_at=self.now + timedelta(hours=1), now=self.now)
        self.disputed = payment_cast.buy(self.account, 30)
        self.said("opened")
        self.used = cast.use(self.account, "mcp_call", 3, now=self.period.start)
        self.held = [cast.hold(self.account, 10, now=self.now, expires_at=self.later) for _ in range(2)]
        said = {"scope": "account", "period": "day", "now": self.now}
        self.budget = budgets.create(account=self.account, limit_ucr=1000 * UCR, action="block", **said)
        card = methods.add(account=self.account, token="sim_ok", now=self.now, is_default=True)
        auto_top_ups.set_up(
            account=self.account, threshold_ucr=10**6 * UCR, credits_ucr=10 * UCR, method=card, now=self.now
        )
        self.draft = price_drafts.start(account=None, now=self.now)

    @property
    def later(self) -> datetime:
        return self.now + timedelta(hours=2)

    def _account(self, credits: int) -> Account:
        account = cast.make_account(credits)
        ledger.set_overdraft(account_id=account.pk, overdraft_ucr=200 * UCR)
        return account

    def said(self, word: str) -> Dispute:
        about = DisputeWord(ref=f"dp {self.account.pk}", state=word)
        return disputes.hear(payment=self.disputed, said=about, now=self.now)


def key() -> str:
    return f"pair {next(_number)}"


def move(w: World, sender: Account, receiver: Account) -> object:
    return ledger.transfer(
        from_account_id=sender.pk, to_account_id=receiver.pk, amount_ucr=7 * UCR, key=key(), now=w.now
    )


def batch(w: World) -> object:
    events = [Event("batch", key(), "inference", Decimal(1), w.now, "a", {}) for _ in range(3)]
    outcomes = batches.record_many(
        account_id=w.account.pk, events=[batches.Given(each, True) for each in events], now=w.now
    )
    return [each.refused for each in outcomes]


def pay(w: World) -> object:
    return payments.pay_invoice(invoice=_again(w.invoice), method="sim_ok", key=key(), now=w.now)


def note(w: World) -> object:
    made, _ = credit_notes.issue(invoice_id=w.invoice.pk, reason="r", key=key(), now=w.now, amount=5)
    return credit_notes.send_refund(note=made, now=w.now)


def final(w: World) -> object:
    draft, _ = invoicing.generate(account=w.account, period=w.period, now=w.now)
    return invoicing.finalize(invoice_id=draft.pk, now=w.now)


def _again(row: Any) -> Any:
    return type(row).objects.get(pk=row.pk)


def staff(**changes: Any) -> Callable[[World], object]:
    return lambda w: details.change(account=w.account, changes=changes, is_staff=True, now=w.now)


OPERATIONS: dict[str, Callable[[World], object]] = {
    "charge": lambda w: cast.charge(w.account, 9, now=w.now),
    "charge more than most": lambda w: cast.charge(w.account, 260, now=w.now),
    "charge after an expiry": lambda w: cast.charge(w.account, 9, now=w.later),
    "hold": lambda w: cast.hold(w.account, 9, now=w.now, expires_at=w.later),
    "capture": lambda w: ledger.capture(
        hold_key=w.held[0].key, amount_ucr=4 * UCR, key=key(), source="t", now=w.now
    ),
    "release": lambda w: ledger.release(key=w.held[0].key, now=w.now),
    "expire holds": lambda w: ledger.expire_holds(now=w.later),
    "expire grants": lambda w: ledger.expire_grants(now=w.later),
    "transfer": lambda w: move(w, w.account, w.other),
    "transfer back": lambda w: move(w, w.other, w.account),
    "take back": lambda w: ledger.take_back(
        grant_ids=[], amount_ucr=11 * UCR, key=key(), source="t", allow_debt=True, **w.sub
    ),
    "grant": lambda w: cast.give(w.account, 5, now=w.now),
    "reverse": lambda w: ledger.reverse(transaction_id=w.charged, key=key(), reason="", now=w.now),
    "reverse usage": lambda w: ledger.reverse(transaction_id=w.used.transaction_id, key=key(), reason="", now=w.now),
    "overdraft": staff(overdraft_ucr=190 * UCR),
    "suspend": staff(status="suspended"),
    "close account": staff(status="closed"),
    "use": lambda w: cast.use(w.account, "mcp_call", 2, now=w.now),
    "use late": lambda w: cast.use(w.account, "mcp_call", 2, now=w.now, occurred_at=w.period.start),
    "use many": batch,
    "finish work": lambda w: metering.capture(
        hold_key=w.held[1].key, meter="mcp_call", quantity=Decimal(3), occurred_at=w.now, now=w.now, key=key(),
        source="t",
    ),
    "finish work late": lambda w: metering.capture(
        hold_key=w.held[1].key, meter="mcp_call", quantity=Decimal(3), occurred_at=w.now, now=w.later, key=key(),
        source="t",
    ),
    "close period": lambda w: closing.close(account_id=w.account.pk, now=w.now + timedelta(days=10)),
    "invoice": final,
    "void": lambda w: invoicing.void(invoice_id=w.invoice.pk, reason="r", now=w.now),
    "mark paid": lambda w: invoicing.mark_paid(invoice_id=w.invoice.pk, reason="r", now=w.now),
    "pay": pay,
    "credit note": note,
    "remind": lambda w: dunning.sweep(now=w.now + timedelta(days=60)),
    "buy": lambda w: payment_cast.buy(w.account, 6),
    "refund": lambda w: payments.refund(payment=_again(w.bought), amount=20, key=key(), now=w.now),
    "refund all": lambda w: payments.refund(
        payment=_again(w.bought), amount=None, key=key(), now=w.now, allow_debt=True
    ),
    "refund what is disputed": lambda w: payments.refund(
        payment=_again(w.disputed), amount=1, key=key(), now=w.now
    ),
    "win": lambda w: w.said("won"),
    "lose": lambda w: w.said("lost"),
    "top up": lambda w: restocking.sweep(now=w.now),
    "ask": lambda w: janitor.sweep(now=w.later),
    "budget": lambda w: budgets.create(
        account=w.account, scope="meter", target="mcp_call", period="month", limit_ucr=5 * UCR, action="block",
        now=w.now,
    ),
    "change budget": lambda w: budgets.change(budget=_again(w.budget), limit_ucr=UCR),
    "remove budget": lambda w: budgets.remove(budget=_again(w.budget)),
    "publish prices": lambda w: price_drafts.publish(draft_id=w.draft.pk, version=1, valid_from=w.now, now=w.now),
}  # fmt: skip
# What is not there any more when it is looked for, as a page would find it: answered with 404.
GONE = (Budget.DoesNotExist,)


@contextmanager
def shuffled(seed: int):
    """Short waits between statements, so that each round meets otherwise."""
    dice = random.Random(seed)

    def wait(execute, sql, params, many, context):
        time.sleep(dice.choice((0, 0, 0.0005, 0.002)))
        return execute(sql, params, many, context)

    with connection.execute_wrapper(wait):
        yield


def meet(w: World, names: tuple[str, ...], seed: int) -> dict[str, object]:
    """What each answered, all begun together; every other round without waits, and so with prepared calls."""
    start = threading.Barrier(len(names))
    outcomes: dict[str, object] = {}

    def run(place: int, name: str) -> None:
        try:
            with connection.cursor() as cursor:
                cursor.execute("set deadlock_timeout = '100ms'")
            start.wait(timeout=20)
            with shuffled(seed * 100 + place) if seed % 2 else nullcontext():
                outcomes[f"{place} {name}"] = OPERATIONS[name](w)
        except Exception as refused:  # noqa: BLE001 - the outcome is what the test asks about
            outcomes[f"{place} {name}"] = refused
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=each) for each in enumerate(names)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert len(outcomes) == len(names), f"some wait for ever: {names}"
    return outcomes


def wrong_in(outcomes: dict[str, object]) -> dict[str, object]:
    """What is no answer of the contract's."""
    raised = {name: each for name, each in outcomes.items() if isinstance(each, Exception)}
    return {name: each for name, each in raised.items() if not hasattr(each, "code") and not isinstance(each, GONE)}


def encounters() -> dict[str, list[tuple[str, ...]]]:
    names = list(OPERATIONS)
    if ROUNDS:
        return {first: [(first, second) for second in names[names.index(first) :]] * ROUNDS for first in names}
    random.Random(7).shuffle(names)
    return {"some": [tuple(names[first : first + 7]) for first in range(0, len(names), 7)]}


@pytest.mark.parametrize("which", encounters())
def test_operations_that_meet_are_done_or_refused_and_the_books_are_right(which):
    for seed, names in enumerate(encounters()[which]):
        outcomes = meet(World(), names, seed)

        assert wrong_in(outcomes) == {}
        cast.assert_books_are_right()
