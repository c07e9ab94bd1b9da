"""Many at once, on real connections: no key pays twice, no word is heard twice, no money goes back twice."""

from __future__ import annotations

import pytest

from billing import janitor, methods, payments, refunds, settlement
from billing.gateways import registry
from billing.models import Grant, Payment, PaymentMethod, Refund, SimulatedPayment
from tests import ledger_cast as cast
from tests.integration.billing.test_ledger_races import at_once, kinds
from tests.payment_cast import buy, deliver, event, now, opened, send_and_crash, webhooks

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def account():
    account = cast.make_account(0)
    yield account
    cast.assert_books_are_right()


def test_one_key_pays_once_however_many_send_it(account):
    outcomes = at_once([lambda: buy(account, 10, key="once") for _ in range(8)])

    assert kinds(outcomes) == {"Payment": 8}
    assert (Payment.objects.count(), SimulatedPayment.objects.count(), Grant.objects.count()) == (1, 1, 1)
    assert cast.available(account, now()) == 10


def test_one_event_is_acted_on_once_however_many_deliver_it(account):
    waiting = buy(account, 10, "sim_action_required")
    said = event(waiting)

    outcomes = at_once([lambda: deliver(said) for _ in range(8)])

    assert kinds(outcomes) == {"GatewayWebhook": 8}
    assert sorted(row.state for row in webhooks()) == ["duplicate"] * 7 + ["processed"]
    assert cast.available(account, now()) == 10


def test_an_answer_a_webhook_a_question_and_a_repeat_at_once_grant_once(account):
    payment = opened(account, 10)
    send_and_crash(payment)
    later = payment.created_at + (payment.ask_at - payment.created_at) * 2
    charge = registry.simulated().fetch(reference=str(payment.pk))

    def answered():
        return settlement.settle(payment_id=payment.pk, charge=charge, source="answer", now=now())

    acts = [
        answered,
        lambda: deliver(event(payment)),
        lambda: janitor.sweep(now=later),
        lambda: janitor.ask(payment=payment, now=now()),
    ]
    at_once(acts * 2)

    payment.refresh_from_db()
    assert (payment.state, Grant.objects.count(), cast.available(account, now())) == ("succeeded", 1, 10)


def test_refunds_at_once_never_give_back_more_than_was_paid(account):
    payment = buy(account, 100)

    def give_back(number):
        return payments.refund(payment=payment, amount=30, key=f"r{number}", now=now())

    outcomes = at_once([lambda n=n: give_back(n) for n in range(8)])

    assert kinds(outcomes) == {"Refund": 3, "RefundExceedsPayment": 5}
    payment.refresh_from_db()
    assert (payment.refunded, cast.available(account, now())) == (90, 10)


def test_a_refund_and_spending_at_once_use_no_credit_twice(account):
    payment = buy(account, 100)

    acts = [lambda: payments.refund(payment=payment, amount=None, key="r", now=now())]
    acts += [lambda n=n: cast.charge(account, 40, key=f"c{n}", now=now()) for n in range(3)]
    outcomes = at_once(acts)

    assert kinds(outcomes)["Refund"] + kinds(outcomes)["CreditsSpent"] == 1
    assert cast.available(account, now()) >= 0


def test_one_refund_key_gives_back_once(account):
    payment = buy(account, 100)

    at_once([lambda: payments.refund(payment=payment, amount=30, key="once", now=now()) for _ in range(6)])

    payment.refresh_from_db()
    assert (payment.refunded, Refund.objects.count()) == (30, 1)


def test_janitors_at_once_send_a_lost_refund_once(account):
    payment = buy(account, 100)
    made, _ = refunds.open_refund(payment=payment, amount=None, key="k", now=now())
    later = made.created_at + (made.ask_at - made.created_at) * 2

    at_once([lambda: janitor.sweep(now=later) for _ in range(4)])

    payment.refresh_from_db()
    assert (payment.refunded, payment.refunding) == (100, 0)


def test_methods_kept_at_once_have_one_default(account):
    tokens = ["sim_ok", "sim_declined", "sim_unknown", "sim_ok"]

    at_once([lambda t=t: methods.add(account=account, token=t, now=now(), is_default=True) for t in tokens])

    assert PaymentMethod.objects.filter(account=account).count() == 3
    assert PaymentMethod.objects.filter(account=account, is_default=True).count() == 1
