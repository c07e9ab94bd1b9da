"""Payments on Stripe's own page, against the strict fake: paid, declined, left, lost on the way, disputed, given back."""

from __future__ import annotations

from datetime import timedelta

import httpx
import pytest
from django.urls import reverse

from billing import gateway_webhooks, janitor, payments
from billing.gateways import AnswerLost, registry
from billing.gateways import stripe_calls as calls
from billing.models import Dispute, GatewayWebhook, Payment, StripeSession
from billing.payment_states import ACTION_LAPSES, NEVER_ARRIVED, SENT_BY
from tests import ledger_cast as cast
from tests.fake_gateway import answer
from tests.payment_cast import buy, now, opened
from tests.stripe_cast import deliver

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.allow_hosts(["127.0.0.1"])]
PAGE = "cs_test_1"


def go(account, credits=100) -> Payment:
    return buy(account, credits, "stripe_checkout")


def stands(payment) -> tuple[str, float]:
    payment.refresh_from_db()
    return payment.state, cast.available(payment.account, now())


def ask(payment):
    return janitor.ask(payment=Payment.objects.get(pk=payment.pk), now=now())


def test_the_customer_is_sent_to_stripe_s_page_and_pays_there(server, account):
    payment = go(account)
    assert (payment.state, payment.gateway_ref, payment.action_url) == (
        "requires_action",
        PAGE,
        f"{server.url}/pay/{PAGE}",
    )

    server.pay_page(PAGE)
    deliver(server)

    assert stands(payment) == ("succeeded", 100)
    assert StripeSession.objects.get().payment_intent == "pi_1"
    cast.assert_books_are_right()


@pytest.mark.parametrize("arrange", [lambda sent: sent * 2, lambda sent: sent[::-1], lambda sent: sent[-1:]])
def test_what_is_told_comes_twice_in_any_order_or_in_part(server, account, arrange):
    payment = go(account)
    server.pay_page(PAGE, "requires_payment_method")
    server.pay_page(PAGE, "processing")
    server.webhooks()
    deliver(server, arrange)

    ask(payment)
    assert stands(payment) == ("succeeded", 100)
    assert set(GatewayWebhook.objects.values_list("state", flat=True)) <= {"processed", "duplicate"}


def test_who_comes_back_without_a_webhook_is_believed_by_asking(server, account, client):
    payment = go(account)
    server.pay_page(PAGE)
    client.force_login(account.memberships.get().user)
    address = reverse("billing:payment-returned", args=[account, payment.pk])
    assert server.sessions[PAGE]["success_url"].endswith(address)

    shown = client.get(address, follow=True).content.decode()

    assert "were added" in shown
    assert stands(payment) == ("succeeded", 100)
    client.get(address)
    assert cast.available(account, now()) == 100


def test_a_decline_on_the_page_is_not_the_end(server, account):
    payment = go(account)
    server.pay_page(PAGE, "requires_payment_method")
    deliver(server)
    ask(payment)
    assert stands(payment) == ("requires_action", 0)

    server.pay_page(PAGE)
    deliver(server)

    assert stands(payment) == ("succeeded", 100)


def test_who_never_comes_back_has_paid_nothing(server, account):
    payment = go(account)

    janitor.sweep(now=now() + ACTION_LAPSES)

    assert stands(payment) == ("cancelled", 0)
    assert server.sessions[PAGE]["status"] == "expired"
    server.pay_page(PAGE)
    assert server.intents == {}


def test_a_page_that_expired_by_itself_is_told_of(server, account):
    payment = go(account)
    server.close_page(PAGE)

    deliver(server)

    assert stands(payment) == ("cancelled", 0)


def test_a_payment_is_given_up_until_it_is_paid(server, account):
    first, second = go(account), go(account)
    payments.cancel(payment=first, now=now())
    assert stands(first)[0] == "cancelled"

    server.pay_page("cs_test_2")

    with pytest.raises(payments.NotCancellable):
        payments.cancel(payment=second, now=now())
    assert stands(second) == ("succeeded", 100)


def test_a_lost_answer_is_found_by_asking_the_same_again(server, account, monkeypatch):
    real, losses = calls.said, iter([True])

    def said(ask):
        found = real(ask)
        if next(losses, False):
            raise AnswerLost("The line is dead.")
        return found

    monkeypatch.setattr(calls, "said", said)
    payment = go(account)
    assert (payment.state, len(server.sessions)) == ("unknown", 1)

    ask(payment)

    payment.refresh_from_db()
    assert (payment.state, len(server.sessions)) == ("requires_action", 1)
    assert payment.action_url.endswith(PAGE)


def test_a_sender_that_died_before_it_spoke_failed_or_is_sent_on(server, account):
    payment = opened(account, 100, "stripe_checkout")
    janitor.sweep(now=now() + SENT_BY)
    assert stands(payment)[0] == "created"

    janitor.sweep(now=now() + NEVER_ARRIVED)

    assert stands(payment)[0] == "failed"
    assert server.sessions == {}


@pytest.mark.parametrize(
    "change",
    [
        {"amount_total": 1},
        {"currency": "usd"},
        {"metadata": {}},
        {"status": "imagined"},
        {"id": "cs_test_other"},
        {"url": "javascript:alert(1)"},
    ],
)
def test_an_answer_about_something_else_is_none(server, account, change):
    payment = go(account)
    server.sessions[PAGE] |= change

    with pytest.raises(AnswerLost):
        ask(payment)

    assert stands(payment) == ("requires_action", 0)


def test_an_intent_of_another_amount_pays_nothing(server, account):
    payment = go(account)
    server.pay_page(PAGE)
    server.intents["pi_1"] |= {"amount": 1, "amount_received": 1}

    with pytest.raises(AnswerLost):
        ask(payment)
    assert stands(payment) == ("requires_action", 0)


def test_one_intent_pays_one_payment(server, account):
    first, second = go(account), go(account)
    server.pay_page(PAGE)
    ask(first)
    server.sessions["cs_test_2"] |= {"status": "complete", "payment_status": "paid", "payment_intent": "pi_1"}

    with pytest.raises(AnswerLost):
        ask(second)
    assert (stands(first), stands(second)[0]) == (("succeeded", 100), "requires_action")


def test_money_goes_back_and_is_found_again(server, account):
    payment = go(account)
    server.pay_page(PAGE)
    ask(payment)
    payment.refresh_from_db()

    refund = payments.refund(payment=payment, amount=40, key="r", now=now())

    assert (refund.state, stands(payment)) == ("succeeded", ("succeeded", 60))
    gateway = registry.of("stripe")
    assert gateway.fetch_refund(key=str(refund.pk), ref=PAGE).amount == 40
    assert gateway.fetch(ref=PAGE).refunded == 40


@pytest.mark.parametrize("told", [True, False])
def test_its_dispute_finds_it_also_when_nothing_else_was_told(server, account, told):
    payment = go(account)
    server.pay_page(PAGE)
    if told:
        # Only that the page was completed.
        server.events = [each for each in server.events if each["type"] == "checkout.session.completed"]
        deliver(server)
    server.events.clear()
    server.dispute("pi_1")
    deliver(server)
    assert Dispute.objects.exists() == told

    janitor.sweep(now=now() + SENT_BY)
    gateway_webhooks.sweep(now=now() + timedelta(minutes=2))

    assert Dispute.objects.get().payment == payment
    assert stands(payment) == ("succeeded", 0)


def test_too_small_a_payment_is_refused_in_stripe_s_words(server, account):
    payment = go(account, 10)

    assert (payment.state, payment.failure_code) == ("failed", "amount_too_small")


def test_an_odd_answer_says_nothing(server, account):
    payment = go(account)
    for status, body in [(500, b"{}"), (200, b"[]"), (200, b'{"object": "checkout.session"}'), (302, b"")]:
        server.mischief = lambda handler, status=status, body=body: answer(handler, status, body)
        with pytest.raises(AnswerLost):
            ask(payment)


def test_the_page_sends_the_customer_to_stripe_and_takes_no_card_itself(server, account, client):
    client.force_login(account.memberships.get().user)
    form = {"credits": "100", "method": "stripe_checkout", "key": "0198c0de-0000-7000-8000-000000000001"}
    top_up = client.get(reverse("billing:top-up", args=[account])).content.decode()
    assert "Card, on Stripe" in top_up

    shown = client.post(reverse("billing:top-up", args=[account]), form, follow=True).content.decode()

    payment = Payment.objects.get()
    assert f'href="{payment.action_url}"' in shown
    assert "no card number is entered here" in shown
    page = httpx.get(payment.action_url)
    assert (page.status_code, "Be declined" in page.text) == (200, True)
    back = httpx.post(payment.action_url, data={"how": "succeeded"})
    assert back.headers["location"].endswith(reverse("billing:payment-returned", args=[account, payment.pk]))
