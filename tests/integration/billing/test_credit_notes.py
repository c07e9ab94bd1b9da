"""Credit notes: never more than the invoice says, settled as the case needs, and exact however they are cut."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from django.db import DatabaseError, connection, transaction
from django.utils import timezone

from billing import credit_notes, invoicing, ledger, payments, periods, refunds
from billing.models import CreditNote, Invoice, Payment, Refund
from billing.payment_states import State
from tests import ledger_cast as cast
from tests.integration.billing.test_ledger_races import at_once, kinds
from tests.ledger_cast import UCR

pytestmark = pytest.mark.django_db
MARCH = periods.Period(datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 4, 1, tzinfo=UTC))


@pytest.fixture(autouse=True)
def _books_are_right_after_every_test(db):
    yield
    cast.assert_books_are_right()


def final(credits=0, calls=100, inferences=0, overdraft=1000, **account):
    """A final invoice of March: what `credits` do not cover is due."""
    owner = cast.make_account(credits, **account)
    ledger.set_overdraft(account_id=owner.pk, overdraft_ucr=overdraft * UCR)
    cast.use(owner, "mcp_call", calls)
    if inferences:
        cast.use(owner, "inference", inferences)
    draft, _ = invoicing.generate(account=owner, period=MARCH, now=MARCH.end)
    return invoicing.finalize(invoice_id=draft.pk, now=MARCH.end)


def credit(invoice, key="key", send=True, **wanted):
    note, _ = credit_notes.issue(invoice_id=invoice.pk, reason="counted twice", key=key, now=timezone.now(), **wanted)
    if send:
        credit_notes.send_refund(note=note, now=timezone.now())
    invoice.refresh_from_db()
    return note


def pay(invoice, method="sim_ok"):
    paid = payments.pay_invoice(invoice=invoice, method=method, key="pay", now=timezone.now())
    invoice.refresh_from_db()
    return paid


def balance(invoice):
    return ledger.balance(account_id=invoice.account_id, now=timezone.now()).posted_ucr // UCR


def test_all_of_an_open_invoice_is_owed_no_more_and_the_debt_is_gone():
    invoice = final(calls=100)

    note = credit(invoice)

    assert (note.total, note.due_reduced, note.granted_ucr) == (100, 100, 100 * UCR)
    assert (invoice.state, invoice.open_amount, balance(invoice)) == ("paid", 0, 0)


def test_part_of_an_open_invoice_leaves_the_rest_to_pay():
    invoice = final(calls=100)

    credit(invoice, amount=30)
    paid = pay(invoice)

    assert (paid.amount, paid.credits_ucr) == (70, 70 * UCR)
    assert (invoice.state, balance(invoice)) == ("paid", 0)


def test_an_invoice_marked_paid_after_a_credit_note_settles_only_what_was_open():
    invoice = final(calls=100)
    credit(invoice, amount=30)

    invoicing.mark_paid(invoice_id=invoice.pk, reason="bank", now=timezone.now())

    assert balance(invoice) == 0


def test_what_credits_covered_is_given_back_as_credits():
    invoice = final(credits=500, calls=100)

    note = credit(invoice, amount=40)

    assert (note.granted, note.granted_ucr, note.refund_amount) == (40, 40 * UCR, 0)
    assert balance(invoice) == 440


def test_what_a_payment_paid_goes_back_as_money_and_costs_no_credits():
    invoice = final(calls=100)
    payment = pay(invoice)

    note = credit(invoice, amount=60)

    payment.refresh_from_db()
    assert (note.refund_amount, note.refund.state, payment.refunded) == (60, "succeeded", 60)
    assert balance(invoice) == 0


def test_what_was_paid_elsewhere_is_given_back_as_credits():
    invoice = final(calls=100)
    invoicing.mark_paid(invoice_id=invoice.pk, reason="bank", now=timezone.now())

    note = credit(invoice)

    assert (note.refund_amount, note.granted) == (0, 100)
    assert balance(invoice) == 100


def test_an_invoice_half_of_credits_and_half_of_money_goes_back_both_ways():
    invoice = final(credits=40, calls=100)
    pay(invoice)

    note = credit(invoice)

    assert (note.refund_amount, note.granted, balance(invoice)) == (60, 40, 40)


def test_tax_is_credited_with_the_lines_and_pieces_sum_to_the_invoice():
    invoice = final(calls=101, inferences=7, tax_rate=Decimal("0.19"))
    notes = [credit(invoice, key="a", lines={1: 33}), credit(invoice, key="b", amount=17), credit(invoice, key="c")]

    assert sum(note.tax for note in notes) == invoice.tax
    assert sum(note.total for note in notes) == invoice.total == invoice.credited
    assert sum(note.granted_ucr for note in notes) == 171 * UCR
    assert balance(invoice) == 0


def test_notes_have_numbers_of_their_own_without_gaps():
    invoice = final(calls=100)
    numbers = [credit(invoice, key=key, amount=10).number for key in "ab"]
    with pytest.raises(credit_notes.CreditExceedsInvoice):
        credit(invoice, key="c", amount=81)
    numbers.append(credit(invoice, key="d").number)

    year = timezone.now().year
    assert numbers == [f"CN{year}-0001", f"CN{year}-0002", f"CN{year}-0003"]


@pytest.mark.parametrize("wanted", [{"amount": 101}, {"lines": {1: 101}}])
def test_never_more_than_the_invoice(wanted):
    invoice = final(calls=100)

    with pytest.raises(credit_notes.CreditExceedsInvoice, match=r"1\.00 EUR is left"):
        credit(invoice, **wanted)

    assert not CreditNote.objects.exists()
    assert balance(invoice) == -100


def test_a_line_that_is_not_there_is_named():
    with pytest.raises(credit_notes.NoSuchLine, match="no line 2"):
        credit(final(), lines={2: 1})


def test_the_same_key_is_the_same_note_and_another_wish_is_refused():
    invoice = final(calls=100)
    first = credit(invoice, amount=10)

    assert credit(invoice, amount=10).pk == first.pk
    with pytest.raises(ledger.KeyReused):
        credit(invoice, amount=11)
    assert invoice.credited == 10


def test_only_final_invoices_are_credited():
    account = cast.make_account(10)
    draft, _ = invoicing.generate(account=account, period=MARCH, now=MARCH.end)
    with pytest.raises(credit_notes.NotCreditable):
        credit(draft)
    invoicing.void(invoice_id=draft.pk, reason="", now=MARCH.end)
    with pytest.raises(credit_notes.NotCreditable):
        credit(draft)


def test_an_invoice_credited_in_full_has_nothing_left_and_cannot_be_voided():
    invoice = final(calls=100)
    credit(invoice, amount=99)

    with pytest.raises(invoicing.IllegalMove, match="credit notes"):
        invoicing.void(invoice_id=invoice.pk, reason="", now=timezone.now())
    credit(invoice, key="rest")
    with pytest.raises(credit_notes.NotCreditable, match="Nothing is left"):
        credit(invoice, key="more")


def test_a_payment_under_way_is_waited_for():
    invoice = final(calls=100)
    pay(invoice, method="sim_action_required")

    with pytest.raises(credit_notes.NotCreditable, match="under way"):
        credit(invoice)


def test_a_payment_opened_with_what_was_due_before_is_refused():
    invoice = final(calls=100)
    seen = Invoice.objects.get(pk=invoice.pk)
    credit(invoice, amount=30)

    with pytest.raises(Exception, match="only an open one"):
        payments.pay_invoice(invoice=seen, method="sim_ok", key="late", now=timezone.now())

    assert not Payment.objects.filter(invoice=invoice).exists()


def test_a_crash_before_the_refund_was_sent_is_made_good_by_the_sweep():
    invoice = final(calls=100)
    pay(invoice)
    note = credit(invoice, send=False)
    assert (note.refund_is_due, Refund.objects.count(), balance(invoice)) == (True, 0, 100)

    soon = timezone.now() + timedelta(seconds=31)
    assert [credit_notes.sweep(now=timezone.now()), credit_notes.sweep(now=soon), credit_notes.sweep(now=soon)] == [
        0,
        1,
        0,
    ]

    note.refresh_from_db()
    assert (note.refund.state, note.refund.amount, balance(invoice)) == ("succeeded", 100, 0)


def test_a_crash_after_the_refund_was_opened_opens_no_second():
    invoice = final(calls=100)
    payment = pay(invoice)
    note = credit(invoice, send=False)
    refunds.open_refund(payment=payment, amount=100, key=f"credit-note:{note.pk}", now=timezone.now(), allow_debt=True)

    credit_notes.sweep(now=timezone.now() + timedelta(seconds=31))

    note.refresh_from_db()
    assert (Refund.objects.count(), note.refund is not None, note.refund_is_due) == (1, True, False)


def test_a_payment_refunded_meanwhile_leaves_the_customer_the_credits():
    invoice = final(calls=100)
    payment = pay(invoice)
    note = credit(invoice, send=False)
    payments.refund(payment=payment, amount=None, key="other", now=timezone.now(), allow_debt=True)

    credit_notes.send_refund(note=note, now=timezone.now())

    note.refresh_from_db()
    assert (note.refund, note.refund_is_due, balance(invoice)) == (None, False, 0)


@pytest.mark.parametrize(
    "change",
    [
        "update billing_creditnote set total = total - 1, subtotal = subtotal - 1, due_reduced = due_reduced - 1",
        "delete from billing_creditnote",
        "update billing_creditnoteline set amount = 1",
        "delete from billing_creditnoteline",
        "update billing_invoice set credited = 0, credited_due = 0, credited_due_ucr = 0",
        "update billing_invoice set credited = total + 1",
        "insert into billing_creditnoteline select gen_random_uuid(), 1, line_id, note_id from billing_creditnoteline",
    ],
)
def test_the_database_refuses_to_change_what_was_issued(change):
    credit(final(calls=100))

    with pytest.raises(DatabaseError), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(change)


def test_a_payment_that_failed_does_not_stand_in_the_way():
    invoice = final(calls=100)
    assert pay(invoice, method="sim_declined").state == State.FAILED

    credit(invoice)

    assert invoice.state == "paid"


@pytest.mark.django_db(transaction=True)
def test_many_who_credit_at_once_never_take_more_than_the_invoice_and_leave_no_gap():
    invoice = final(calls=100)
    said = {"invoice_id": invoice.pk, "reason": "r", "now": timezone.now(), "amount": 40}

    outcomes = at_once([lambda n=n: credit_notes.issue(key=f"k{n}", **said)[0] for n in range(6)])

    numbers = sorted(note.number[-4:] for note in outcomes if isinstance(note, CreditNote))
    assert (numbers, kinds(outcomes)["CreditExceedsInvoice"]) == (["0001", "0002"], 4)
