"""Bank transfers: what a statement books, once; what waits for staff; who is first; and what a crash leaves."""

from __future__ import annotations

import pytest
from django.db import Error, IntegrityError, connection, transaction

from billing import (
    bank_importing,
    bank_matching,
    bank_returns,
    janitor,
    methods,
    payments,
    settlement,
    tasks,
)
from billing.bank import references
from billing.bank.lines import BadFile
from billing.bank.rows import Columns
from billing.bank_matching import NotMatchable
from billing.gateways import BadSignature, ChargeState, NotFound, Order, Refused, registry
from billing.models import BankLine, BankMatch, BankReturn, BankStatement, BankTransfer, Payment
from tests import ledger_cast as cast
from tests.bank_cast import IBAN, camt, entry
from tests.integration.billing.test_invoicing import final_of, post_paid
from tests.integration.billing.test_ledger_races import at_once, kinds
from tests.payment_cast import buy, effects, now, opened

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def bank_account(settings):
    settings.BANK_IBAN = IBAN


@pytest.fixture
def account():
    account = cast.make_account(0)
    yield account
    cast.assert_books_are_right()


@pytest.fixture
def payment(account):
    """1000 credits for 10.00 EUR."""
    return buy(account, 1000, "bank_transfer")


def take(*entries, name="s.xml", **changes):
    return bank_importing.take(
        data=camt(entries, **changes), name=name, columns=None, actor="user:1", now=now()
    )  # fmt: skip


def line(amount="10.00", text="", **more):
    """A line that waits for staff."""
    take(entry(amount, text, **more), id=str(BankStatement.objects.count()))
    return BankLine.objects.order_by("-pk").first()


def match(found, payment, amount=None):
    said = {"line_id": found.pk, "reference": payment.gateway_ref, "actor": "user:1", "now": now()}
    return bank_matching.match(amount=amount, **said)


def state(payment):
    payment.refresh_from_db()
    return payment.state


# --- by itself


def test_a_payment_waits_until_a_statement_says_that_it_came(account, payment):
    assert (payment.state, payment.gateway) == ("processing", "bank")
    assert references.is_reference(payment.gateway_ref)

    statement, matched = take(
        entry("10.00", references.grouped(payment.gateway_ref), ref="B1"), entry("1", sign="DBIT")
    )

    assert (statement.new, statement.known, statement.skipped, matched) == (1, 0, 1, 1)
    assert (state(payment), cast.available(account, now())) == ("succeeded", 1000)
    assert effects(payment)[-1] == ("statement", "succeeded", "applied")
    assert BankMatch.objects.get().actor == "system"


def test_an_invoice_is_paid_by_a_transfer():
    account = post_paid(credits=100)
    cast.use(account, "mcp_call", 300)
    invoice = final_of(account)
    payment = payments.pay_invoice(invoice=invoice, method="bank_transfer", key="k", now=now())

    take(entry("2.00", payment.gateway_ref))

    invoice.refresh_from_db()
    assert (state(payment), invoice.state) == ("succeeded", "paid")


def test_a_file_that_comes_again_books_nothing(account, payment):
    entries = [entry("10.00", payment.gateway_ref, ref="B1"), entry("3.00"), entry("3.00")]
    take(*entries)

    again, matched = take(*entries)
    other, _ = take(*entries, id="another file with the same lines")

    assert (again.new, matched, BankStatement.objects.count()) == (3, 0, 2)
    assert (other.new, other.known, BankLine.objects.count()) == (0, 3, 3)
    assert cast.available(account, now()) == 1000


def test_the_same_line_as_csv_is_known(payment):
    take(entry("10.00", payment.gateway_ref, ref="B1"))
    data = b"d,a,t,r\n2026-11-25,10.00,whatever,B1\n2026-11-25,4.00,else,B2\n"
    columns = Columns(date="d", amount="a", text="t", bank_ref="r", delimiter="comma", decimal="point")

    statement, _ = bank_importing.take(data=data, name="s.csv", columns=columns, actor="user:1", now=now())

    assert (statement.new, statement.known) == (1, 1)


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (camt([entry("1.00"), entry("x")]), "Entry 2"),
        (camt([entry("1.00")], iban="GB82WEST12345698765432"), "not of our account"),
        (b" ", "empty"),
        (b"x" * (bank_importing.MOST_BYTES + 1), "at most 5 MB"),
    ],
)
def test_a_bad_file_books_nothing(data, sentence):
    with pytest.raises(BadFile, match=sentence):
        bank_importing.take(data=data, name="f", columns=None, actor="", now=now())

    assert (BankLine.objects.count(), BankStatement.objects.count()) == (0, 0)


@pytest.mark.parametrize(
    ("amount", "currency", "text"),
    [("9.99", "EUR", "{ref}"), ("10.01", "EUR", "{ref}"), ("10.00", "USD", "{ref}"), ("10.00", "EUR", "RF 9999")],
)
def test_what_is_not_exact_waits_for_staff(account, payment, amount, currency, text):
    found = line(amount, text.format(ref=payment.gateway_ref), currency=currency)

    assert (state(payment), found.matched, cast.available(account, now())) == ("processing", 0, 0)


def test_money_that_comes_after_the_customer_gave_up_is_honoured(payment):
    payments.cancel(payment=payment, now=now())
    assert state(payment) == "cancelled"

    take(entry("10.00", payment.gateway_ref))

    assert state(payment) == "succeeded"


def test_the_same_money_twice_pays_once_and_waits(payment):
    take(entry("10.00", payment.gateway_ref, ref="B1"), entry("10.00", payment.gateway_ref, ref="B2"))

    assert sorted(BankLine.objects.values_list("matched", flat=True)) == [0, 1000]


# --- by staff


def test_a_part_stays_with_the_payment_and_the_rest_matches_by_itself(account, payment):
    match(line("4.00"), payment)
    assert (state(payment), cast.available(account, now())) == ("processing", 0)

    take(entry("6.00", payment.gateway_ref))

    assert (state(payment), cast.available(account, now())) == ("succeeded", 1000)


def test_a_line_is_split_over_payments_and_what_is_too_much_goes_back(account, payment):
    second = buy(account, 500, "bank_transfer")
    found = line("17.00", "for both")

    match(found, payment)
    match(found, second)
    back = bank_matching.give_back(line_id=found.pk, amount=None, actor="user:1", now=now(), reason="too much")

    assert (state(payment), state(second), cast.available(account, now())) == ("succeeded", "succeeded", 1500)
    assert (back.amount, back.payer_iban, back.state) == (200, "GB82WEST12345698765432", "due")
    assert bank_returns.mark_sent(return_id=back.pk, actor="user:1", now=now())
    assert not bank_returns.mark_sent(return_id=back.pk, actor="user:2", now=now())


def test_what_is_not_ours_is_set_aside_with_who_said_so():
    found = line("3.00", "salary")

    bank_matching.set_aside(line_id=found.pk, actor="user:7", now=now(), reason="A colleague's")

    made = BankMatch.objects.get()
    assert (made.kind, made.amount, made.actor, made.reason) == ("foreign", 300, "user:7", "A colleague's")


@pytest.mark.parametrize(
    ("amount", "currency", "asked", "sentence"),
    [
        ("10.00", "USD", None, "is in EUR, and USD came"),
        ("5.00", "EUR", 501, "more than is left"),
        ("15.00", "EUR", 1001, "more than is left"),
        ("15.00", "EUR", 0, "more than is left"),
    ],
)
def test_what_does_not_fit_is_refused(payment, amount, currency, asked, sentence):
    found = line(amount, currency=currency)

    with pytest.raises(NotMatchable, match=sentence):
        match(found, payment, asked)


def test_what_is_matched_or_unknown_is_refused(account, payment):
    found = line("10.00")
    with pytest.raises(NotMatchable, match="no payment with this reference"):
        bank_matching.match(line_id=found.pk, reference="RF18539007547034", amount=None, actor="", now=now())
    match(found, payment)

    for act in (
        lambda: match(found, payment),
        lambda: bank_matching.give_back(line_id=found.pk, amount=1, actor="", now=now()),
        lambda: bank_matching.set_aside(line_id=found.pk, actor="", now=now(), reason=""),
    ):
        with pytest.raises(NotMatchable, match="Somebody has matched"):
            act()
    with pytest.raises(NotMatchable, match="All of this payment has come"):
        match(line("1.00"), payment)
    with pytest.raises(NotMatchable, match="more than is left"):
        bank_matching.give_back(line_id=BankLine.objects.last().pk, amount=101, actor="", now=now())


# --- at once, and crashes


def test_of_many_who_match_a_line_one_is_first(account):
    made = [buy(account, 1000, "bank_transfer") for _ in range(4)]
    found = line("10.00")

    outcomes = at_once([lambda payment=payment: match(found, payment) for payment in made])

    assert kinds(outcomes) == {"BankMatch": 1, "NotMatchable": 3}
    assert sorted(state(payment) for payment in made) == ["processing"] * 3 + ["succeeded"]
    assert cast.available(account, now()) == 1000


def test_of_many_lines_that_pay_a_payment_one_does(account, payment):
    found = [line("10.00", ref=f"B{number}") for number in range(4)]

    outcomes = at_once([lambda each=each: match(each, payment) for each in found])

    assert kinds(outcomes) == {"BankMatch": 1, "NotMatchable": 3}
    assert cast.available(account, now()) == 1000


def test_a_file_imported_by_many_at_once_books_once(account, payment):
    outcomes = at_once([lambda: take(entry("10.00", payment.gateway_ref)) for _ in range(4)])

    assert kinds(outcomes) == {"tuple": 4}
    assert (BankLine.objects.count(), cast.available(account, now())) == (1, 1000)


def test_a_crash_after_the_lines_are_kept_is_made_good_by_the_sweep(account, payment, monkeypatch):
    monkeypatch.setattr(bank_matching, "sweep", _crash)
    with pytest.raises(KeyboardInterrupt):
        take(entry("10.00", payment.gateway_ref))
    assert (BankLine.objects.count(), state(payment)) == (1, "processing")
    monkeypatch.undo()

    tasks.sweep_payments()
    tasks.sweep_payments()

    assert (state(payment), cast.available(account, now())) == ("succeeded", 1000)


def test_a_crash_within_a_match_leaves_nothing_of_it(account, payment, monkeypatch):
    found = line("10.00")
    monkeypatch.setattr(settlement, "record", _crash)
    with pytest.raises(KeyboardInterrupt):
        match(found, payment)
    monkeypatch.undo()

    assert (BankMatch.objects.count(), BankTransfer.objects.get().received) == (0, 0)
    match(found, payment)
    assert cast.available(account, now()) == 1000


def _crash(*_, **__):
    raise KeyboardInterrupt


def test_a_sender_that_died_is_asked_for_and_the_payment_waits(account):
    payment = opened(account, 1000, "bank_transfer")
    registry.of("bank").create(settlement.order(payment))

    assert janitor.ask(payment=payment, now=now()).state == "processing"
    Payment.objects.update(ask_at=now())
    assert not janitor.is_due(now=now())


# --- what the database holds


@pytest.mark.parametrize(
    "statement",
    [
        "update billing_bankline set matched = 500",
        "update billing_bankline set amount = 1",
        "delete from billing_bankline",
        "update billing_banktransfer set received = 500",
        "update billing_banktransfer set amount = 1",
        "delete from billing_banktransfer",
        "update billing_bankmatch set amount = 1",
        "delete from billing_bankmatch",
        "insert into billing_bankline select (jsonb_populate_record(l, jsonb_build_object('id', gen_random_uuid()))).* from billing_bankline l",
        "insert into billing_bankmatch select (jsonb_populate_record(m, jsonb_build_object('id', gen_random_uuid(), 'amount', 601))).* from billing_bankmatch m",
    ],
)
def test_the_database_keeps_the_sums_and_what_the_bank_said(payment, statement):
    match(line("10.00"), payment, 400)

    with pytest.raises(Error), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(statement)


def test_the_database_refuses_another_currency(payment):
    found = line("10.00", currency="USD")

    with pytest.raises(IntegrityError), transaction.atomic():
        BankMatch.objects.create(
            line=found, kind="payment", transfer=BankTransfer.objects.get(), amount=1, actor="x", created_at=now()
        )


# --- as a gateway


def test_a_refund_is_on_its_way_until_staff_sent_it(account, payment):
    take(entry("10.00", payment.gateway_ref))
    payment.refresh_from_db()

    refund = payments.refund(payment=payment, amount=400, key="r", now=now())
    assert (refund.state, cast.available(account, now())) == ("processing", 600)
    assert registry.of("bank").fetch_refund(key=str(refund.pk), ref=payment.gateway_ref).amount == 400

    bank_returns.mark_sent(return_id=BankReturn.objects.get().pk, actor="user:1", now=now())

    refund.refresh_from_db()
    payment.refresh_from_db()
    assert (refund.state, payment.refunded, registry.of("bank").fetch(ref=payment.gateway_ref).refunded) == (
        "succeeded", 400, 400
    )  # fmt: skip


def test_a_payment_of_which_a_part_came_is_not_given_up(payment):
    match(line("4.00"), payment)

    with pytest.raises(payments.GatewayRefused, match="A part of this payment has come"):
        payments.cancel(payment=payment, now=now())


def test_what_the_contract_asks(account):
    gateway = registry.of("bank")
    order = Order(reference="ours", amount=1000, currency="EUR", method="bank_transfer")
    charge = gateway.create(order)

    assert charge == gateway.create(order) == gateway.fetch(ref=charge.ref) == gateway.fetch(reference="ours")
    assert gateway.confirm(charge.ref, key="c") == gateway.capture(charge.ref, amount=1000, key="c") == charge
    for changes in ({"amount": 1}, {"method": "pm_1", "reference": "other"}):
        with pytest.raises(Refused):
            gateway.create(Order(**{**order.__dict__, **changes}))
    for ask in (
        lambda: gateway.fetch(ref="RF18"),
        lambda: gateway.fetch(reference="x"),
        lambda: gateway.cancel("x", key="c"),
    ):
        with pytest.raises(NotFound):
            ask()
    with pytest.raises(Refused):
        gateway.refund(charge.ref, amount=1, key="r")
    with pytest.raises(BadSignature):
        gateway.read_webhook(body=b"{}", headers={}, now=now())
    assert [gateway.cancel(charge.ref, key="c").state for _ in range(2)] == [ChargeState.CANCELLED] * 2


def test_it_is_off_where_no_account_is_set(account, settings):
    settings.BANK_IBAN = ""

    with pytest.raises(methods.UnknownMethod):
        buy(account, 1000, "bank_transfer")
    assert "bank" not in registry.names()


def test_nobody_keeps_it_as_a_method(account):
    with pytest.raises(methods.BadToken):
        methods.add(account=account, token="bank_transfer", gateway="bank", now=now())
