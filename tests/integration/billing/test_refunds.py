"""Refunds: what goes back, which credits are taken, and that neither happens twice or without the other."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import IntegrityError, transaction

from billing import janitor, ledger, payments, refunds
from billing.gateways import AnswerLost, Refused, registry
from billing.gateways.simulated import SimulatedGateway
from billing.models import Grant, LedgerAccount, Payment, Refund, SimulatedRefund
from tests import ledger_cast as cast
from tests.ledger_cast import UCR
from tests.payment_cast import buy, now

pytestmark = pytest.mark.django_db


@pytest.fixture
def account():
    account = cast.make_account(50)
    yield account
    cast.assert_books_are_right()


def refund(payment: Payment, amount: int | None = None, key: str = "refund", **how) -> Refund:
    return payments.refund(payment=payment, amount=amount, key=key, now=how.pop("at", None) or now(), **how)


def left(account) -> int | float:
    return cast.available(account, now())


class Moody(SimulatedGateway):
    """Refuses or loses the answer of refunds, as told; the books of its other side stay what they are."""

    mood = ""

    def refund(self, ref, *, amount, key):
        if self.mood == "refuses":
            raise Refused("no_funds", "The bank says no.")
        if self.mood == "drops":
            raise AnswerLost("Nothing came back.")
        done = super().refund(ref, amount=amount, key=key)
        if self.mood == "loses":
            raise AnswerLost("The answer was lost.")
        return done


@pytest.fixture
def moody(monkeypatch):
    monkeypatch.setattr(registry, "SimulatedGateway", Moody)
    yield Moody
    Moody.mood = ""


def test_a_refund_gives_all_money_back_and_takes_all_credits(account):
    payment = buy(account, 1000)

    made = refund(payment)

    payment.refresh_from_db()
    assert (made.state, made.amount, made.credits_ucr) == ("succeeded", 1000, 1000 * UCR)
    assert (payment.refunded, payment.refundable, left(account)) == (1000, 0, 50)


def test_part_of_a_payment_takes_part_of_its_credits_and_all_parts_take_exactly_all(account):
    payment = buy(account, 100)

    parts = [refund(payment, cents, key=f"part {cents}").credits_ucr for cents in (33, 34, 1, 32)]

    assert parts == [33 * UCR, 34 * UCR, 1 * UCR, 32 * UCR]
    assert left(account) == 50


def test_more_than_is_left_is_refused(account):
    payment = buy(account, 100)
    refund(payment, 60, key="first")

    for amount in (41, 0, 10**9):
        with pytest.raises(refunds.RefundExceedsPayment):
            refund(payment, amount, key=f"more {amount}")
    assert refund(payment, 40, key="rest").state == "succeeded"
    with pytest.raises(refunds.RefundExceedsPayment):
        refund(payment, None, key="nothing left")


@pytest.mark.parametrize("method", ["sim_declined", "sim_action_required", "sim_unknown", "sim_duplicate_webhook"])
def test_only_a_payment_that_succeeded_is_refunded(account, method):
    with pytest.raises(refunds.NotRefundable):
        refund(buy(account, 10, method))


def test_the_same_key_again_is_the_same_refund(account):
    payment = buy(account, 100)

    first, again = refund(payment, 60), refund(payment, 60)

    assert (first.pk, SimulatedRefund.objects.count(), left(account)) == (again.pk, 1, 90)
    with pytest.raises(ledger.KeyReused):
        refund(payment, 50)


def test_spent_credits_cannot_be_taken_back(account):
    payment = buy(account, 100)
    cast.charge(account, 120, now=now())  # the 50 it began with, and 70 that were bought

    with pytest.raises(ledger.CreditsSpent) as refused:
        refund(payment)

    assert refused.value.extras == {"state": "spent", "unspent": "30.000000"}
    assert refund(payment, 30, key="less").state == "succeeded"
    assert left(account) == 0


def test_credits_on_hold_are_not_taken_back(account):
    payment = buy(account, 100)
    cast.hold(account, 149, now=now(), expires_at=now() + timedelta(hours=1))

    with pytest.raises(ledger.CreditsSpent):
        refund(payment)


def test_staff_may_let_the_account_owe_what_was_spent(account):
    payment = buy(account, 100)
    cast.charge(account, 120, now=now())

    refund(payment, allow_debt=True)

    wallet = LedgerAccount.objects.get(account=account)
    assert (wallet.posted_ucr, wallet.debt_ucr, wallet.arrears_ucr) == (-70 * UCR, 70 * UCR, 70 * UCR)
    with pytest.raises(ledger.InsufficientCredits, match="Insufficient credits: need 1, have 0"):
        cast.charge(account, 1, now=now())


def test_what_is_owed_is_repaid_by_the_next_credits_and_leaves_no_overdraft_behind(account):
    payment = buy(account, 100)
    cast.charge(account, 120, now=now())
    refund(payment, allow_debt=True)

    buy(account, 100)

    wallet = LedgerAccount.objects.get(account=account)
    assert (wallet.posted_ucr, wallet.debt_ucr, wallet.arrears_ucr, wallet.floor_ucr) == (30 * UCR, 0, 0, 0)
    cast.charge(account, 30, now=now())
    with pytest.raises(ledger.InsufficientCredits):
        cast.charge(account, 1, now=now())


def test_owing_takes_other_credits_before_it_makes_a_debt_and_leaves_holds_covered(account):
    payment = buy(account, 100)
    cast.charge(account, 110, now=now())  # 40 are left of the bought ones
    cast.give(account, 30, now=now())
    held = cast.hold(account, 20, now=now(), expires_at=now() + timedelta(hours=1))

    refund(payment, allow_debt=True)

    wallet = LedgerAccount.objects.get(account=account)
    assert (wallet.posted_ucr, wallet.held_ucr, wallet.debt_ucr, wallet.arrears_ucr) == (
        -30 * UCR,
        20 * UCR,
        50 * UCR,
        50 * UCR,
    )
    ledger.capture(hold_key=held.key, amount_ucr=20 * UCR, key="c", source="t", now=now())
    assert LedgerAccount.objects.get(account=account).debt_ucr == 50 * UCR


def test_a_refused_refund_gives_the_credits_back(account, moody):
    payment = buy(account, 100)
    moody.mood = "refuses"

    made = refund(payment)

    payment.refresh_from_db()
    assert (made.state, made.failure_code, made.failure_message) == ("failed", "no_funds", "The bank says no.")
    assert (payment.refunded, payment.refunding, left(account)) == (0, 0, 150)
    moody.mood = ""
    assert refund(payment, key="again").state == "succeeded"  # the credits given back are this payment's too
    assert left(account) == 50


@pytest.mark.parametrize("mood", ["loses", "drops"])
def test_a_refund_whose_answer_is_lost_is_found_out_and_paid_once(account, moody, mood):
    payment = buy(account, 100)
    moody.mood = mood
    made = refund(payment)
    assert (made.state, left(account)) == ("unknown", 50)
    with pytest.raises(refunds.RefundExceedsPayment):
        refund(payment, 1, key="second")
    moody.mood = ""

    janitor.sweep(now=now() + timedelta(seconds=60))

    made.refresh_from_db()
    payment.refresh_from_db()
    assert (made.state, payment.refunded, payment.refunding) == ("succeeded", 100, 0)
    assert SimulatedRefund.objects.count() == 1


def test_a_crash_before_the_gateway_hears_of_a_refund_is_made_good(account):
    payment = buy(account, 100)
    made, _ = refunds.open_refund(payment=payment, amount=None, key="k", now=now())
    assert left(account) == 50

    janitor.sweep(now=now() + timedelta(seconds=60))

    made.refresh_from_db()
    assert (made.state, left(account), SimulatedRefund.objects.count()) == ("succeeded", 50, 1)


def test_the_database_keeps_what_was_refunded(account):
    payment = buy(account, 100)
    made = refund(payment, 60)

    for rows, change in (
        (Payment.objects.filter(pk=payment.pk), {"refunded": 0}),
        (Refund.objects.filter(pk=made.pk), {"state": "failed"}),
        (Refund.objects.filter(pk=made.pk), {"amount": 1}),
    ):
        with pytest.raises(IntegrityError), transaction.atomic():
            rows.update(**change)


def test_the_tax_goes_back_with_the_rest_and_the_credits_are_in_proportion():
    account = cast.make_account(0, tax_rate="0.19")
    payment = buy(account, 100)
    assert payment.amount == 119

    half = refund(payment, 60)

    assert half.credits_ucr == 50_420_168
    assert refund(payment, key="rest").credits_ucr == 100 * UCR - 50_420_168
    assert Grant.objects.get(payment=payment).remaining_ucr == 0
    cast.assert_books_are_right()
