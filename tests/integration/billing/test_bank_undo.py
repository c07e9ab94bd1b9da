"""A wrong match undone: what it takes back, who is first, what a crash leaves, and what the database permits."""

from __future__ import annotations

import pytest
from django.core import mail
from django.db import Error, connection, transaction
from django.urls import reverse

from billing import bank_matching, bank_returns, bank_undoing, credit_notes, ledger, payments
from billing.bank_undoing import NotUndoable
from billing.gateways import ChargeState, registry
from billing.models import BankLine, BankMatch, BankReturn, BankTransfer, BankUndo, DunningStep
from tests import factories, outgoing_cast
from tests import ledger_cast as cast
from tests.bank_cast import entry, make_line
from tests.integration.billing.test_bank_transfers import (  # noqa: F401 - fixtures
    account,
    bank_account,
    match,
    payment,
    state,
    take,
)
from tests.integration.billing.test_invoicing import final_of, post_paid
from tests.integration.billing.test_ledger_races import at_once, kinds
from tests.payment_cast import buy, effects, now

pytestmark = pytest.mark.django_db


def undo(made, reason="It was Bob's money"):
    return bank_undoing.undo(match_id=made.pk, reason=reason, actor="user:7", now=now())


def left(found):
    return BankLine.objects.get(pk=found.pk).left


def of(payment):  # noqa: F811
    return BankTransfer.objects.get(key=str(payment.pk))


def test_a_part_that_was_wrong_is_missing_again(account, payment):  # noqa: F811
    found = make_line(400)
    made, is_new = undo(match(found, payment))

    assert (is_new, made.payment, made.taken, left(found)) == (True, None, None, 400)
    assert (state(payment), of(payment).missing, made.actor) == ("processing", 1000, "user:7")


@pytest.mark.parametrize("spent", [0, 300, 1000])
def test_a_payment_that_succeeded_by_it_waits_again_and_its_credits_are_taken_back(account, payment, spent):  # noqa: F811
    found = make_line(1000)
    wrong = match(found, payment)
    if spent:
        cast.charge(account, spent)

    made, _ = undo(wrong)

    assert (state(payment), payment.captured, payment.grant, left(found)) == ("processing", 0, None, 1000)
    assert cast.available(account, now()) == -spent
    assert (made.taken.actor, "It was Bob's money" in made.taken.description) == ("user:7", True)
    assert effects(payment)[-1] == ("person", "processing", "applied")
    assert registry.of("bank").fetch(ref=payment.gateway_ref).state == ChargeState.PROCESSING
    if spent:
        with pytest.raises(ledger.InsufficientCredits):
            cast.charge(account, 1)


def test_the_right_money_then_pays_it_again(account, payment):  # noqa: F811
    for turn in range(1, 4):
        undo(match(make_line(1000), payment))
        assert (state(payment), payment.reopened) == ("processing", turn)

    right = match(make_line(1000), payment)

    assert (state(payment), cast.available(account, now())) == ("succeeded", 1000)
    undone = BankUndo.objects.order_by("turn").values_list("turn", flat=True)
    assert (list(undone), BankMatch.objects.filter(undo=None).get()) == ([1, 2, 3], right)


def test_of_several_parts_one_is_undone(account, payment):  # noqa: F811
    first, second = match(make_line(600), payment), match(make_line(400), payment)
    assert state(payment) == "succeeded"

    undo(first)

    assert (state(payment), of(payment).received, cast.available(account, now())) == ("processing", 400, 0)
    match(make_line(600), payment)
    assert (state(payment), cast.available(account, now())) == ("succeeded", 1000)
    assert not BankUndo.objects.filter(match=second).exists()


def test_the_line_waits_for_staff_and_does_not_match_by_itself_again(account, payment):  # noqa: F811
    take(entry("10.00", payment.gateway_ref, ref="B1"))
    undo(BankMatch.objects.get())

    assert bank_matching.sweep(now=now()) == 0
    assert (state(payment), BankLine.objects.get().left) == ("processing", 1000)
    other = buy(account, 1000, "bank_transfer")
    match(BankLine.objects.get(), other)
    assert state(other) == "succeeded"


def invoiced():
    customer = post_paid(credits=100)
    cast.use(customer, "mcp_call", 300)
    invoice = final_of(customer)
    return customer, invoice, payments.pay_invoice(invoice=invoice, method="bank_transfer", key="k", now=now())


def test_the_invoice_it_paid_is_open_again_and_its_debt_is_back(django_capture_on_commit_callbacks):
    customer, invoice, paying = invoiced()
    owed = cast.available(customer, now())
    outgoing_cast.make_endpoint(customer, events=["payment.reversed", "invoice.opened"])
    wrong = match(make_line(paying.amount), paying)
    invoice.refresh_from_db()
    assert (invoice.state, invoice.paid_with) == ("paid", paying)
    mail.outbox.clear()

    with django_capture_on_commit_callbacks(execute=True):
        undo(wrong)

    invoice.refresh_from_db()
    assert (invoice.state, invoice.paid_at, invoice.paid_with) == ("open", None, None)
    assert invoice.open_amount == paying.amount
    assert cast.available(customer, now()) == owed
    assert outgoing_cast.types(customer) == ["invoice.opened", "payment.reversed"]
    (told,) = mail.outbox
    assert f"Invoice {invoice.number} is open again." in told.body
    match(make_line(paying.amount), paying)
    invoice.refresh_from_db()
    assert (invoice.state, state(paying)) == ("paid", "succeeded")
    cast.assert_books_are_right()


def test_an_invoice_that_something_else_paid_stays_paid():
    customer, invoice, paying = invoiced()
    payments.cancel(payment=paying, now=now())
    other = payments.pay_invoice(invoice=invoice, method="sim_ok", key="l", now=now())
    wrong = match(make_line(paying.amount), paying)
    assert (state(paying), state(other)) == ("succeeded", "succeeded")

    undo(wrong)

    invoice.refresh_from_db()
    assert (invoice.state, invoice.paid_with, state(paying)) == ("paid", other, "cancelled")
    cast.assert_books_are_right()


def test_an_account_that_its_last_reminder_had_stopped_stops_again():
    customer, invoice, paying = invoiced()
    DunningStep.objects.create(invoice=invoice, days=14, created_at=now())
    undo(match(make_line(paying.amount), paying))

    customer.refresh_from_db()
    assert (customer.status, customer.suspended_for_debt) == ("suspended", True)


def test_what_went_back_already_is_not_undone(account, payment):  # noqa: F811
    wrong = match(make_line(1000), payment)
    payments.refund(payment=payment, amount=100, key="r", now=now())

    with pytest.raises(NotUndoable, match="went back"):
        undo(wrong)
    assert (BankUndo.objects.count(), state(payment)) == (0, "succeeded")


def test_another_payment_of_the_invoice_under_way_is_waited_for():
    _, invoice, paying = invoiced()
    payments.cancel(payment=paying, now=now())
    payments.pay_invoice(invoice=invoice, method="sim_action_required", key="l", now=now())
    wrong = match(make_line(paying.amount), paying)

    with pytest.raises(NotUndoable, match="under way"):
        undo(wrong)


def test_a_credit_note_s_money_is_not_given_twice():
    _, invoice, paying = invoiced()
    wrong = match(make_line(paying.amount), paying)
    note, _ = credit_notes.issue(invoice_id=invoice.pk, reason="r", key="n", now=now(), amount=50)
    credit_notes.send_refund(note=note, now=now())

    with pytest.raises(NotUndoable):
        undo(wrong)


def test_money_to_give_back_is_not_sent_unless_it_was():
    lines = [make_line(), make_line()]
    back = [bank_matching.give_back(line_id=each.pk, amount=None, actor="user:1", now=now()) for each in lines]
    bank_returns.mark_sent(return_id=back[0].pk, actor="user:1", now=now())

    with pytest.raises(NotUndoable, match="sent back"):
        undo(back[0].match)
    undo(back[1].match)

    assert [left(each) for each in lines] == [0, 1000]
    assert BankReturn.objects.get(pk=back[1].pk).state == "dropped"
    assert not bank_returns.mark_sent(return_id=back[1].pk, actor="user:1", now=now())


def test_what_was_set_aside_waits_again():
    found = make_line()
    undo(bank_matching.set_aside(line_id=found.pk, actor="user:1", now=now(), reason="a gift"))

    assert left(found) == 1000


@pytest.mark.django_db(transaction=True)
def test_undone_once_however_many_ask(account, payment):  # noqa: F811
    wrong = match(make_line(1000), payment)

    outcomes = at_once([lambda: undo(wrong) for _ in range(4)])

    assert kinds(outcomes) == {"tuple": 4}
    assert sorted(is_new for _, is_new in outcomes) == [False, False, False, True]
    assert (BankUndo.objects.count(), state(payment), cast.available(account, now())) == (1, "processing", 0)


@pytest.mark.django_db(transaction=True)
def test_undoing_and_sending_back_at_once_have_one_winner():
    back = bank_matching.give_back(line_id=make_line().pk, amount=None, actor="user:1", now=now())

    at_once(
        [
            lambda: undo(back.match),
            lambda: bank_returns.mark_sent(return_id=back.pk, actor="user:1", now=now()),
        ]
    )

    back.refresh_from_db()
    assert (back.state == "dropped") == BankUndo.objects.exists() == (left(back.match.line) == 1000)


@pytest.mark.parametrize("dies_at", ["billing.invoicing.reopen", "billing.owners.tell", "billing.ledger.take_back"])
def test_a_crash_in_the_middle_leaves_all_as_it_was(monkeypatch, dies_at):
    customer, invoice, paying = invoiced()
    wrong = match(make_line(paying.amount), paying)
    before = cast.available(customer, now())

    def die(*_, **__):
        raise ConnectionError

    with monkeypatch.context() as patched:
        patched.setattr(dies_at, die)
        with pytest.raises(ConnectionError):
            undo(wrong)
    invoice.refresh_from_db()
    assert (BankUndo.objects.count(), state(paying), invoice.state) == (0, "succeeded", "paid")
    assert (left(wrong.line), cast.available(customer, now())) == (0, before)

    undo(wrong)
    assert state(paying) == "processing"
    cast.assert_books_are_right()


def refused(sql, *given):
    with pytest.raises(Error), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(sql, given)


def test_the_database_permits_exactly_this_way_back():
    _, invoice, paying = invoiced()
    wrong = match(make_line(paying.amount), paying)
    back = "update billing_payment set state = 'processing', captured = 0, grant_id = null, settled_at = null"
    refused(f"{back} where id = %s", paying.pk)
    refused(f"{back}, reopened = 1 where id = %s", paying.pk)
    refused("update billing_payment set reopened = 1 where id = %s", paying.pk)
    refused("update billing_invoice set state = 'open', paid_at = null, paid_with_id = null where id = %s", invoice.pk)
    refused("update billing_invoice set paid_with_id = null where id = %s", invoice.pk)
    made, _ = undo(wrong)

    refused("delete from billing_bankundo where id = %s", made.pk)
    refused("update billing_bankundo set reason = '' where id = %s", made.pk)
    refused("update billing_invoice set state = 'paid', paid_at = now(), paid_with_id = null, total = 0")
    refused(
        "insert into billing_bankundo (id, match_id, actor, reason, created_at) values (gen_random_uuid(), %s, '', '', now())",
        wrong.pk,
    )
    stranger = buy(cast.make_account(0), 5, "bank_transfer")
    other = match(make_line(5), stranger)
    stranger.refresh_from_db()
    said = {"turn": 9, "grant": stranger.grant, "taken": stranger.grant.transaction, "created_at": now()}
    with pytest.raises(Error), transaction.atomic():
        BankUndo.objects.create(match=other, payment=paying, actor="", reason="", **said)


def test_staff_undoes_it_on_the_page_after_being_asked(client, account, payment):  # noqa: F811
    stella = factories.make_staff()
    said = {"line_id": make_line(1000).pk, "reference": payment.gateway_ref, "amount": None, "now": now()}
    wrong = bank_matching.match(actor=f"user:{stella.pk}", **said)
    client.force_login(stella)
    shown = client.get(reverse("billing:bank-line", args=[account, wrong.line_id])).content.decode()
    address = reverse("billing:bank-undo", args=[account, wrong.pk])
    assert address in shown
    assert "These credits are taken back" in client.get(address).content.decode()
    assert client.post(address, {"reason": ""}).status_code == 422
    assert not BankUndo.objects.exists()

    said = [client.post(address, {"reason": "Bob's"}, follow=True).content.decode() for _ in range(2)]

    assert "It is undone; the line waits again." in said[0]
    assert "Somebody has undone it already." in said[1]
    assert "<strong>undone</strong> by" in said[1]
    assert state(payment) == "processing"
    client.force_login(account.memberships.get().user)
    assert client.post(address, {"reason": "x"}).status_code == 403
