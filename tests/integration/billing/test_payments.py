"""Payments with the simulated gateway: what each method does to the payment, and what it grants."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import IntegrityError, transaction
from django.utils import timezone

from billing import intents, janitor, ledger, methods, payments
from billing.models import Grant, Payment, SimulatedPayment
from tests import ledger_cast as cast
from tests import payment_cast
from tests.ledger_cast import UCR
from tests.payment_cast import buy, effects, now

pytestmark = pytest.mark.django_db


@pytest.fixture
def account():
    account = cast.make_account(0)
    yield account
    cast.assert_books_are_right()


def test_p10_a_payment_of_1000_credits_succeeds_and_has_a_reference(account):
    payment = buy(account, 1000)

    assert (payment.state, payment.money(payment.amount), payment.currency) == ("succeeded", "10.00", "EUR")
    assert payment.gateway_ref
    assert cast.available(account, now()) == 1000


def test_what_was_bought_is_a_paid_grant_of_the_payment(account):
    payment = buy(account, 12)

    grant = Grant.objects.get(account=account)
    assert (payment.grant, grant.category, grant.amount_ucr) == (grant, "paid", 12 * UCR)
    assert (grant.transaction.source, grant.transaction.key) == ("payments", str(payment.pk))


def test_a_decline_is_a_payment_that_failed_and_grants_nothing(account):
    payment = buy(account, 1000, "sim_declined")

    assert (payment.state, payment.failure_code) == ("failed", "card_declined")
    assert cast.available(account, now()) == 0


def test_a_lost_answer_is_not_known_until_somebody_asks(account):
    payment = buy(account, 1000, "sim_unknown")

    assert (payment.state, cast.available(account, now())) == ("unknown", 0)
    janitor.sweep(now=now() + timedelta(seconds=4))
    payment.refresh_from_db()
    assert payment.state == "unknown"
    janitor.sweep(now=now() + timedelta(seconds=6))
    payment.refresh_from_db()
    assert (payment.state, cast.available(account, now())) == ("succeeded", 1000)


def test_a_payment_that_needs_an_action_waits_for_it(account):
    payment = buy(account, 1000, "sim_action_required")

    assert (payment.state, cast.available(account, now())) == ("requires_action", 0)
    assert payment.action_url.endswith(f"/payments/{payment.pk}/bank/")
    confirmed = payments.confirm(payment=payment, now=now())
    assert (confirmed.state, confirmed.action_url, cast.available(account, now())) == ("succeeded", "", 1000)
    with pytest.raises(payments.NotConfirmable):
        payments.confirm(payment=confirmed, now=now())


def test_who_declines_at_the_bank_pays_nothing(account):
    payment = payments.decline(payment=buy(account, 1000, "sim_action_required"), now=now())

    assert (payment.state, cast.available(account, now())) == ("failed", 0)


def test_a_webhook_that_comes_twice_grants_once(account):
    payment = buy(account, 1000, "sim_duplicate_webhook")
    assert payment.state == "processing"

    payment_cast.send_webhooks()

    payment.refresh_from_db()
    assert (payment.state, cast.available(account, now())) == ("succeeded", 1000)
    assert [row.state for row in payment_cast.webhooks()] == ["processed", "duplicate"]


def test_a_late_word_of_a_lower_rank_is_recorded_and_ignored(account):
    payment = buy(account, 1000, "sim_reordered_webhook")

    payment_cast.send_webhooks()

    payment.refresh_from_db()
    assert (payment.state, cast.available(account, now())) == ("succeeded", 1000)
    assert effects(payment)[-2:] == [("webhook", "succeeded", "applied"), ("webhook", "processing", "ignored")]


def test_the_same_key_again_is_the_same_payment(account):
    first = buy(account, 10, key="once")
    again = buy(account, 10, key="once")

    assert (first.pk, cast.available(account, now())) == (again.pk, 10)
    with pytest.raises(ledger.KeyReused):
        buy(account, 11, key="once")


def test_a_payment_of_a_dead_sender_is_sent_again_by_a_repeat_and_charged_once(account):
    payment = payment_cast.opened(account, 10, key="topup:once")

    soon = buy(account, 10, key="once")
    assert soon.state == "created"
    later = buy(account, 10, key="once", at=payment.created_at + timedelta(seconds=31))

    assert (later.pk, later.state) == (payment.pk, "succeeded")
    assert SimulatedPayment.objects.count() == 1


def test_a_crash_before_sending_charges_nothing_and_ends_as_failed(account):
    payment = payment_cast.opened(account, 10)

    janitor.sweep(now=payment.created_at + timedelta(minutes=1))
    payment.refresh_from_db()
    assert payment.state == "created"
    janitor.sweep(now=payment.created_at + timedelta(minutes=11))

    payment.refresh_from_db()
    assert (payment.state, payment.failure_code) == ("failed", "not_received")


def test_a_crash_after_the_gateway_took_the_money_is_made_good_by_asking(account):
    payment = payment_cast.opened(account, 10)
    payment_cast.send_and_crash(payment)

    janitor.sweep(now=payment.created_at + timedelta(seconds=31))

    payment.refresh_from_db()
    assert (payment.state, cast.available(account, now())) == ("succeeded", 10)


def test_money_that_was_taken_after_all_is_honoured_though_the_payment_had_failed(account):
    payment = payment_cast.opened(account, 10)
    janitor.sweep(now=payment.created_at + timedelta(minutes=11))
    payment_cast.send_and_crash(payment)

    payment_cast.send_webhooks()

    payment.refresh_from_db()
    assert (payment.state, payment.failure_code, cast.available(account, now())) == ("succeeded", "", 10)


def test_nobody_confirms_for_a_day_and_the_payment_is_given_up(account):
    payment = buy(account, 10, "sim_action_required")

    janitor.sweep(now=payment.created_at + timedelta(hours=25))

    payment.refresh_from_db()
    assert payment.state == "cancelled"
    with pytest.raises(payments.NotCancellable):
        payments.cancel(payment=payment, now=now())


def test_a_payment_is_cancelled_before_it_takes_money_and_not_after(account):
    open_one, paid = buy(account, 10, "sim_action_required"), buy(account, 10)

    assert payments.cancel(payment=open_one, now=now()).state == "cancelled"
    with pytest.raises(payments.NotCancellable):
        payments.cancel(payment=paid, now=now())


def test_the_janitor_waits_longer_each_time_it_asks_in_vain(account, settings):
    payment = buy(account, 10, "sim_action_required")
    waits = []
    for _ in range(5):
        due = Payment.objects.get(pk=payment.pk).ask_at
        janitor.sweep(now=due)
        waits.append((Payment.objects.get(pk=payment.pk).ask_at - due).total_seconds())

    assert waits == [10, 20, 40, 80, 160]


def test_credits_cost_the_account_s_tax_too_and_are_rounded_up_to_the_cent():
    account = cast.make_account(0, tax_rate="0.19")

    assert vars(intents.price(account=account, credits_ucr=1000 * UCR)) == {
        "subtotal": 1000,
        "tax": 190,
        "currency": "EUR",
    }
    assert intents.price(account=account, credits_ucr=1_400_000).subtotal == 2


def test_credits_that_cost_nothing_cannot_be_bought(account, settings):
    settings.CREDIT_PRICE = "0"

    with pytest.raises(intents.TooLittle):
        buy(account, 10)


def test_a_closed_account_takes_no_payments_and_a_suspended_one_may_pay(account):
    account.status = "suspended"
    account.save(update_fields=["status"])
    assert buy(account, 10).state == "succeeded"

    account.status = "closed"
    account.save(update_fields=["status"])
    with pytest.raises(intents.ClosedAccount):
        buy(account, 10)


def test_a_payment_is_made_with_the_default_method_unless_told(account):
    with pytest.raises(methods.UnknownMethod):
        buy(account, 10, None)
    kept = methods.add(account=account, token="sim_ok", now=now())

    payment = buy(account, 10, None)

    assert (payment.method, payment.state) == (kept, "succeeded")


def test_without_the_simulated_gateway_its_methods_pay_nothing(account, settings):
    settings.SIMULATED_GATEWAY = False

    with pytest.raises(methods.UnknownMethod):
        buy(account, 10, "sim_ok")


@pytest.mark.parametrize(
    "change",
    [
        {"amount": 1},
        {"credits_ucr": 1},
        {"state": "processing"},
        {"captured": 0},
        {"refunded": 2000},
        {"refunding": 1001},
        {"gateway_ref": "other"},
        {"grant": None},
    ],
)
def test_the_database_keeps_what_was_asked_for_and_what_was_said(account, change):
    payment = buy(account, 1000)

    with pytest.raises(IntegrityError), transaction.atomic():
        Payment.objects.filter(pk=payment.pk).update(**change)


def test_what_was_said_of_a_payment_stays_said(account):
    payment = buy(account, 10)

    with pytest.raises(IntegrityError), transaction.atomic():
        payment.events.update(effect="ignored")


def test_nobody_speaks_to_a_gateway_inside_a_transaction(transactional_db):
    account = cast.make_account(0)

    with pytest.raises(RuntimeError, match="durable"), transaction.atomic():
        buy(account, 10)

    assert not Payment.objects.exists()
    assert timezone.now()
