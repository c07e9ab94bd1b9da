"""The database goes away at a statement of an operation, and the same is asked again: it has happened once.

At a statement: before it ran, or after it ran and before its answer came. The suite cuts some operations off once;
NTD_CUT_ALL=1 does so to each of them, before and after every statement.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from decimal import Decimal

import psycopg
import pytest
from django.db import OperationalError, connection
from django.db.models import Count, Sum

from billing import batches, budgets, closing, credit_notes, janitor, ledger, metering, payments, price_drafts
from billing.metering import Event
from billing.models import (
    Account,
    Budget,
    BudgetCounter,
    CreditNote,
    Dispute,
    Entry,
    Grant,
    Hold,
    Invoice,
    InvoiceSeries,
    LedgerAccount,
    Payment,
    PriceBook,
    Refund,
    SimulatedPayment,
    Transaction,
    UsageRecord,
)
from billing.payment_states import SENT_BY
from tests import ledger_cast as cast
from tests.integration.billing.test_pair_races import OPERATIONS, World, final
from tests.ledger_cast import UCR

pytestmark = pytest.mark.django_db(transaction=True)

ALL = bool(os.environ.get("NTD_CUT_ALL"))
Act = Callable[[World], object]


def many(w: World) -> object:
    """With prices, two meters and one that is known already."""
    events = [
        Event("batch", f"e{n}", meter, Decimal(n), w.now, "a", {}) for n, meter in ((1, "inference"), (2, "mcp_call"))
    ]
    return batches.record_many(
        account_id=w.other.pk, events=[batches.Given(each, True) for each in [*events, events[0]]], now=w.now
    )


def close(w: World) -> None:
    """Before and after the invoice that is there."""
    while closing.close(account_id=w.account.pk, now=w.now + timedelta(days=40)):
        pass


def settle(w: World) -> object:
    return metering.settle(
        account_id=w.account.pk,
        meter="data_byte",
        quantity=Decimal(10**9),
        occurred_at=w.now,
        now=w.now,
        key="k",
        source="s",
    )


def note(w: World) -> object:
    """Of an invoice that was paid, so that its money goes back too."""
    made, _ = credit_notes.issue(invoice_id=w.invoice.pk, reason="r", key="k", now=w.now)
    return credit_notes.send_refund(note=made, now=w.now)


def move(w: World) -> object:
    return ledger.transfer(
        from_account_id=w.account.pk, to_account_id=w.other.pk, amount_ucr=7 * UCR, key="k", now=w.now
    )


def paid(w: World) -> object:
    return payments.pay_invoice(invoice=w.invoice, method="sim_ok", key="k", now=w.now)


REPEATED: dict[str, Act] = {
    "charge": lambda w: cast.charge(w.account, 9, key="k", now=w.now),
    "charge after an expiry": lambda w: cast.charge(w.account, 9, key="k", now=w.later),
    "hold": lambda w: cast.hold(w.account, 9, key=f"k {w.account.pk}", now=w.now, expires_at=w.later),
    "capture": lambda w: ledger.capture(hold_key=w.held[0].key, amount_ucr=4 * UCR, key="k", source="t", now=w.now),
    "release": OPERATIONS["release"],
    "transfer": move,
    "take back": lambda w: ledger.take_back(
        grant_ids=[], amount_ucr=11 * UCR, key="k", source="t", allow_debt=True, **w.sub
    ),
    "grant": lambda w: cast.give(w.account, 5, key="k", now=w.now),
    "reverse": lambda w: ledger.reverse(transaction_id=w.charged, key="k", reason="", now=w.now),
    "use": lambda w: cast.use(w.account, "mcp_call", 2, key="k", now=w.now),
    "use many": many,
    "settle": settle,
    "finish work": lambda w: metering.capture(
        hold_key=w.held[1].key, meter="mcp_call", quantity=Decimal(3), occurred_at=w.now, now=w.now, key="k", source="t"
    ),
    "finish work late": lambda w: metering.capture(
        hold_key=w.held[1].key,
        meter="mcp_call",
        quantity=Decimal(3),
        occurred_at=w.now,
        now=w.later,
        key="k",
        source="t",
    ),
    "invoice": final,
    "close period": close,
    "void": OPERATIONS["void"],
    "mark paid": OPERATIONS["mark paid"],
    "pay": paid,
    "credit note": note,
    "buy": lambda w: payments.top_up(account=w.account, credits_ucr=6 * UCR, method="sim_ok", key="k", now=w.now),
    "refund": lambda w: payments.refund(payment=w.bought, amount=20, key="k", now=w.now),
    "win": OPERATIONS["win"],
    "lose": OPERATIONS["lose"],
    "remind": OPERATIONS["remind"],
    "overdraft": OPERATIONS["overdraft"],
    "budget": OPERATIONS["budget"],
    "change budget": lambda w: budgets.change(budget=w.budget, limit_ucr=UCR),
    "publish prices": lambda w: price_drafts.publish(draft_id=w.draft.pk, version=1, valid_from=w.now, now=w.now),
}
BEFORE: dict[str, Act] = {"credit note": paid}
# Which the suite cuts off, at which part of their statements, and whether before it runs.
CUT: dict[str, tuple[float, bool]] = {
    "charge": (1, False),
    "transfer": (0.6, True),
    "use many": (0.9, False),
    "finish work late": (0.7, False),
    "close period": (0.5, True),
    "credit note": (0.8, False),
    "refund": (0.6, False),
    "lose": (0.7, True),
    "publish prices": (1, True),
}


@contextmanager
def cut_off(statement: int, *, answered: bool) -> Iterator[list[int]]:
    """The connection is gone at this statement of those that are asked; gives how many there were."""
    seen, count = itertools.count(), [0]

    def cut(execute, sql, params, many, context):
        count[0] += 1
        if next(seen) != statement:
            return execute(sql, params, many, context)
        if not answered:
            execute(sql, params, many, context)
        _terminate()
        if not answered:
            raise OperationalError("the answer is lost")
        return execute(sql, params, many, context)

    with connection.execute_wrapper(cut):
        yield count


def _terminate() -> None:
    with psycopg.connect(**connection.get_connection_params(), autocommit=True) as other:
        other.execute("select pg_terminate_backend(%s, 5000)", [connection.connection.info.backend_pid])


def said_again(w: World, act: Act) -> None:
    """The same again at once, and when its sender is known to be dead; then everything that sweeps finish.

    What was done may be refused as done.
    """
    for _ in range(2):
        with suppress(Exception):
            act(w)
        w.now += 2 * SENT_BY
    for _ in range(2):
        janitor.sweep(now=w.later)
        credit_notes.sweep(now=w.later)


def stands(w: World) -> dict[str, object]:
    """How much there is of everything of both accounts."""
    both = [w.account.pk, w.other.pk]
    wallets = LedgerAccount.objects.filter(account__in=both).order_by("account__created_at")
    found: dict[str, object] = {
        "wallets": list(
            wallets.values_list("posted_ucr", "held_ucr", "debt_ucr", "arrears_ucr", "floor_ucr", "last_line")
        ),
        "status": list(Account.objects.filter(pk__in=both).order_by("created_at").values_list("status")),
        "holds": sorted(Hold.objects.filter(account__in=both).values_list("state", "captured_ucr")),
        "invoices": sorted(Invoice.objects.filter(account__in=both).values_list("state", "total", "credited")),
        "payments": sorted(
            Payment.objects.filter(account__in=both).values_list("state", "amount", "refunded", "refunding", "disputed")
        ),
        "taken": SimulatedPayment.objects.aggregate(Count("pk"), Sum("captured"), Sum("refunded")),
        "counters": sorted(BudgetCounter.objects.filter(budget__account__in=both).values_list("spent_ucr", "held_ucr")),
        "numbers": {(each.prefix, each.year): each.last_number for each in InvoiceSeries.objects.all()},
        "legs": Entry.objects.filter(transaction__account__in=both).count(),
        "books": PriceBook.objects.count(),
    }
    for model in (Transaction, Grant, UsageRecord, Refund, CreditNote, Dispute, Budget):
        found[model.__name__] = model.objects.filter(account__in=both).count()
    return found


def places(name: str, statements: int) -> Iterator[tuple[int, bool]]:
    if ALL:
        yield from itertools.product(range(statements), (True, False))
    else:
        part, is_before = CUT[name]
        yield round(part * (statements - 1)), is_before


@pytest.mark.parametrize("name", REPEATED if ALL else CUT)
def test_what_was_cut_off_and_is_asked_again_has_happened_once(name):
    act = REPEATED[name]
    wanted, statements = _clean(name, act)
    for statement, answered in places(name, statements):
        w = World()
        BEFORE.get(name, lambda _: None)(w)
        base = _outside(w)

        with cut_off(statement, answered=answered), suppress(OperationalError):
            act(w)
        connection.close()
        said_again(w, act)

        assert _less(stands(w), base) == wanted, f"cut off at statement {statement} of {statements}"
    cast.assert_books_are_right()


def _clean(name: str, act: Act) -> tuple[dict[str, object], int]:
    w = World()
    BEFORE.get(name, lambda _: None)(w)
    base = _outside(w)
    with cut_off(-1, answered=True) as count:
        act(w)
    statements = count[0]
    said_again(w, act)
    return _less(stands(w), base), statements


def _outside(w: World) -> dict[str, object]:
    """What is not of an account, before the act."""
    return {name: each for name, each in stands(w).items() if name in ("taken", "numbers", "books")}


def _less(found: dict[str, object], base: dict[str, object]) -> dict[str, object]:
    """What is not of an account counts by how much there is more."""
    taken = {key: (found["taken"][key] or 0) - (base["taken"][key] or 0) for key in found["taken"]}
    numbers = {key: last - base["numbers"].get(key, 0) for key, last in found["numbers"].items()}
    return {**found, "taken": taken, "numbers": numbers, "books": found["books"] - base["books"]}
