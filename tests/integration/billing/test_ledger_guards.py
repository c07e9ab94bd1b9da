"""What the database refuses, whoever asks."""

from datetime import timedelta

import pytest
from django.db import IntegrityError, connection, transaction
from uuid_utils.compat import uuid7

from billing import invoicing, periods
from billing.models import (
    Entry,
    Grant,
    GrantConsumption,
    Hold,
    Invoice,
    InvoiceLine,
    LedgerAccount,
    Transaction,
    UsageRecord,
)
from tests import ledger_cast as cast
from tests.ledger_cast import NOON, UCR

pytestmark = pytest.mark.django_db


@pytest.fixture
def account():
    account = cast.make_account(100)
    cast.use(account, "mcp_call", 3)
    return account


@pytest.mark.parametrize("model", [Entry, Transaction, GrantConsumption, UsageRecord])
def test_what_was_written_can_be_neither_changed_nor_deleted(account, model):
    column = {"Entry": "amount_ucr", "Transaction": "key", "GrantConsumption": "amount_ucr", "UsageRecord": "key"}
    for act in (
        lambda: model.objects.update(**{column[model.__name__]: 1}),
        lambda: model.objects.all()._raw_delete(using="default"),
    ):
        with pytest.raises(IntegrityError, match="append-only"), transaction.atomic():
            act()


@pytest.mark.parametrize("model", [Grant, Hold, Invoice])
def test_grants_holds_and_invoices_are_never_deleted(account, model):
    cast.hold(account, 1)
    _invoice(account)
    with pytest.raises(IntegrityError, match="append-only"), transaction.atomic():
        model.objects.all()._raw_delete(using="default")


def legs(transaction_ids, amounts_ucr):
    house = LedgerAccount.objects.get(code="revenue:mcp_call")
    return [
        Entry(transaction_id=pk, ledger_account=house, amount_ucr=ucr, created_at=NOON)
        for pk, ucr in zip(transaction_ids, amounts_ucr, strict=True)
    ]


def written(account, key, **changed):
    given = {"account_id": account.pk, "kind": "charge", "source": "s", "request_hash": "", "created_at": NOON}
    return Transaction.objects.create(**given | {"key": key} | changed).pk


@pytest.mark.parametrize("amounts_ucr", [(-5,), (5, -4), (5, -5, 5), (5, 5, -5, -6)])
def test_legs_that_do_not_balance_are_refused(account, amounts_ucr):
    one = written(account, "k")
    with pytest.raises(IntegrityError, match="does not balance"), transaction.atomic():
        Entry.objects.bulk_create(legs([one] * len(amounts_ucr), amounts_ucr))


def test_two_transactions_written_at_once_balance_each_for_itself(account):
    one, two = written(account, "1"), written(account, "2")
    with pytest.raises(IntegrityError, match="does not balance"), transaction.atomic():
        Entry.objects.bulk_create(legs([one, two], [5, -5]))

    Entry.objects.bulk_create(legs([one, two, two, one], [5, 7, -7, -5]))


def test_legs_need_their_transaction_and_their_account(account):
    unknown = uuid7()
    with pytest.raises(IntegrityError, match="needs its transaction"), transaction.atomic():
        Entry.objects.bulk_create(legs([unknown, unknown], [5, -5]))
    one = written(account, "k")
    with pytest.raises(IntegrityError, match="needs its transaction"), transaction.atomic():
        Entry.objects.bulk_create(legs([one, one, unknown, unknown], [5, -5, 5, -5]))
    astray = legs([one, one], [5, -5])
    astray[1].ledger_account_id = unknown
    with pytest.raises(IntegrityError, match="needs its transaction"), transaction.atomic():
        Entry.objects.bulk_create(astray)


def test_legs_need_a_transaction_of_somebody_who_is_there(account):
    nobodys = written(account, "k", account_id=uuid7())

    with pytest.raises(IntegrityError, match="needs its transaction"), transaction.atomic():
        Entry.objects.bulk_create(legs([nobodys, nobodys], [5, -5]))


@pytest.mark.parametrize(
    ("kind", "reverses", "why"),
    [
        ("reversal", "unknown", "needs the transaction"),
        ("reversal", None, "reversals_name_what_they_reverse"),
        ("charge", "spend", "reversals_name_what_they_reverse"),
        ("reversal", "reversed", "a_transaction_is_reversed_once"),
    ],
)
def test_a_reversal_names_what_is_there_and_was_not_reversed(account, kind, reverses, why):
    spend, again = (cast.charge(account, 1).transaction_id for _ in range(2))
    written(account, "before", kind="reversal", reverses_id=again)
    named = {"unknown": uuid7(), None: None, "spend": spend, "reversed": again}[reverses]

    with pytest.raises(IntegrityError, match=why), transaction.atomic():
        written(account, "k", kind=kind, reverses_id=named)


@pytest.mark.parametrize(
    "act",
    [
        "delete from billing_ledgeraccount where kind = 'revenue'",
        "delete from billing_ledgeraccount where kind = 'wallet'",
        "update billing_ledgeraccount set id = gen_random_uuid() where kind = 'wallet'",
        "update billing_ledgeraccount set account_id = gen_random_uuid() where kind = 'wallet'",
    ],
)
def test_what_entries_point_to_stays(account, act):
    with pytest.raises(IntegrityError), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(act)


@pytest.mark.parametrize("column", ["account_id", "price_id", "transaction_id"])
def test_usage_needs_what_it_points_to(account, column):
    record = UsageRecord.objects.get()
    record.pk, record.key = uuid7(), "another"
    setattr(record, column, uuid7())

    with pytest.raises(IntegrityError, match="needs its account, price and transaction"), transaction.atomic():
        record.save(force_insert=True)


@pytest.mark.parametrize(
    "change",
    [
        {"posted_ucr": -1},
        {"held_ucr": -1},
        {"held_ucr": 100 * UCR + 1},
        {"debt_ucr": -1},
        {"arrears_ucr": -1},
        {"kind": "revenue"},
        {"floor_ucr": 1},
        {"floor_ucr": None},
        {"account": None},
    ],
)
def test_a_wallet_cannot_be_below_its_floor_or_lose_its_account(account, change):
    with pytest.raises(IntegrityError), transaction.atomic():
        LedgerAccount.objects.filter(account=account).update(**change)


@pytest.mark.parametrize(
    "change",
    [{"posted_ucr": 1}, {"posted_ucr": -1}, {"held_ucr": 1}, {"floor_ucr": 0}, {"kind": "wallet"}, {"account": True}],
)
def test_an_account_of_the_house_has_nothing_in_it_and_is_nobodys(account, change):
    change = {name: cast.make_account().pk if value is True else value for name, value in change.items()}
    with pytest.raises(IntegrityError), transaction.atomic():
        LedgerAccount.objects.filter(code="revenue:mcp_call").update(**change)


@pytest.mark.parametrize("change", [{"amount_ucr": 0}, {"amount_ucr": -1}, {"priority": -1}, {"priority": 101}])
def test_a_grant_is_above_0_and_has_a_priority_that_exists(account, change):
    given = Grant.objects.filter(account=account).order_by("pk")[0]
    given.pk, given.category, given.transaction_id = uuid7(), "promo", written(account, "k", kind="grant")
    given.remaining_ucr = min(given.remaining_ucr, change.get("amount_ucr", 10**10))
    for name, value in change.items():
        setattr(given, name, value)

    with pytest.raises(IntegrityError, match="grant_is_sound|grant_within_amount"), transaction.atomic():
        given.save(force_insert=True)


@pytest.mark.parametrize(
    "change", [{"remaining_ucr": -1}, {"remaining_ucr": 10**10}, {"amount_ucr": 0}, {"priority": 101}]
)
def test_a_grant_stays_within_its_amount(account, change):
    with pytest.raises(IntegrityError), transaction.atomic():
        Grant.objects.filter(account=account).update(**change)


def test_an_account_has_one_sign_up_grant(account):
    with pytest.raises(IntegrityError, match="one_signup_grant"), transaction.atomic():
        cast.give(account, 5, category="signup")


@pytest.mark.parametrize(
    "change",
    [
        {"captured_ucr": 1},
        {"state": "captured", "captured_ucr": 11 * UCR, "resolved_at": NOON},
        {"state": "released"},
        {"amount_ucr": 20 * UCR},
    ],
)
def test_a_hold_captures_within_its_amount_and_ends_at_a_time(account, change):
    held = cast.hold(account, 10)
    with pytest.raises(IntegrityError), transaction.atomic():
        Hold.objects.filter(pk=held.pk).update(**change)


def test_an_ended_hold_cannot_come_back(account):
    held = cast.hold(account, 10)
    Hold.objects.filter(pk=held.pk).update(state="released", resolved_at=NOON)
    with pytest.raises(IntegrityError, match="cannot change"), transaction.atomic():
        Hold.objects.filter(pk=held.pk).update(state="active", resolved_at=None)


def test_one_key_is_one_transaction(account):
    done = Transaction.objects.filter(account=account).order_by("pk")[0]
    with pytest.raises(IntegrityError, match="one_transaction_per_key"), transaction.atomic():
        Transaction.objects.create(
            id=uuid7(), account=account, kind="charge", source=done.source, key=done.key, created_at=NOON
        )


# --- invoices


def _invoice(account, *, final=False):
    period = periods.Period(NOON - timedelta(days=1), NOON + timedelta(days=1))
    draft, _ = invoicing.generate(account=account, period=period, now=NOON)
    return invoicing.finalize(invoice_id=draft.pk, now=period.end) if final else draft


@pytest.mark.parametrize("change", [{"total": 1}, {"amount_due": 1}, {"number": "x"}, {"period_end": NOON}])
def test_a_final_invoice_cannot_be_rewritten(account, change):
    invoice = _invoice(account, final=True)
    with pytest.raises(IntegrityError), transaction.atomic():
        Invoice.objects.filter(pk=invoice.pk).update(**change)


def test_lines_of_a_final_invoice_cannot_change(account):
    invoice = _invoice(account, final=True)
    for act in (
        lambda: invoice.lines.update(amount=0),
        lambda: invoice.lines.all()._raw_delete(using="default"),
        lambda: InvoiceLine.objects.create(
            invoice=invoice, position=9, meter="mcp_call", description="", quantity=1, unit="", cost_ucr=1, amount=1
        ),
    ):
        with pytest.raises(IntegrityError, match="final invoice"), transaction.atomic():
            act()


@pytest.mark.parametrize("state", ["draft", "open", "void", "uncollectible"])
def test_a_paid_invoice_stays_paid(account, state):
    invoice = _invoice(account, final=True)
    with pytest.raises(IntegrityError), transaction.atomic():
        Invoice.objects.filter(pk=invoice.pk).update(state=state)


def test_a_total_that_is_not_the_sum_is_refused(account):
    invoice = _invoice(account)
    with pytest.raises(IntegrityError, match="invoice_total_adds_up"), transaction.atomic():
        Invoice.objects.filter(pk=invoice.pk).update(subtotal=invoice.subtotal + 1)


def test_two_final_invoices_cannot_cover_the_same_time(account):
    final = _invoice(account, final=True)
    overlapping = Invoice.objects.create(
        account=account, currency="EUR", period_start=NOON, period_end=NOON + timedelta(days=9), created_at=NOON
    )
    with pytest.raises(IntegrityError, match="invoiced already"), transaction.atomic():
        Invoice.objects.filter(pk=overlapping.pk).update(
            state="paid", number="n", paid_at=NOON, series=final.series, sequence=77
        )
