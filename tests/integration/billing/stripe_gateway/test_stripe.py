"""Payments through Stripe, against the strict one on loopback: lost answers, odd ones, webhooks twice and in any order."""

from __future__ import annotations

import json
import logging
from datetime import timedelta

import pytest

from billing import janitor, methods, payments, tasks
from billing.gateways import AnswerLost, Order, Refused, registry
from billing.gateways.stripe import MOST_BYTES, StripeGateway
from billing.models import GatewayWebhook
from tests import fake_stripe
from tests import ledger_cast as cast
from tests.fake_gateway import answer
from tests.payment_cast import buy, now, opened, send_and_crash
from tests.stripe_cast import deliver, pay

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.allow_hosts(["127.0.0.1"])]


def order(**changes):
    made = {"reference": "ours", "amount": 1250, "currency": "EUR", "method": "pm_card_visa"}
    return Order(**{**made, "return_url": "https://ntd.example/p/", **changes})


def test_credits_are_bought_and_given_back(server, account):
    payment = pay(account)
    assert (payment.state, cast.available(account, now())) == ("succeeded", 100)

    refund = payments.refund(payment=payment, amount=40, key="r", now=now())

    assert (refund.state, server.intents["pi_1"]["latest_charge"]["amount_refunded"]) == ("succeeded", 40)
    assert cast.available(account, now()) == 60


def test_a_decline_is_told_in_stripe_s_words(server, account):
    payment = pay(account, "pm_card_visa_chargeDeclined")

    assert (payment.state, payment.failure_code) == ("failed", "card_declined")
    assert payment.failure_message == "Your card was declined."


def test_a_lost_answer_is_unknown_until_the_search_finds_it(server, account):
    server.is_indexed = False
    payment = pay(account, "pm_lost")
    assert janitor.ask(payment=payment, now=now()).state == "unknown"

    server.is_indexed = True

    assert janitor.ask(payment=payment, now=now()).state == "succeeded"
    assert (len(server.intents), cast.available(account, now())) == (1, 100)


def test_a_webhook_tells_of_a_payment_whose_answer_was_lost(server, account):
    payment = pay(account, "pm_lost")

    deliver(server)

    payment.refresh_from_db()
    assert (payment.state, payment.gateway_ref) == ("succeeded", "pi_1")


@pytest.mark.parametrize("arrange", [lambda sent: sent * 2, lambda sent: sent[::-1], lambda sent: [*sent[::-1], *sent]])
def test_webhooks_come_twice_and_in_any_order(server, account, arrange):
    payment = pay(account, "pm_later")
    assert payment.state == "processing"

    deliver(server, arrange)

    payment.refresh_from_db()
    assert (payment.state, cast.available(account, now())) == ("succeeded", 100)
    assert set(GatewayWebhook.objects.values_list("state", flat=True)) <= {"processed", "duplicate"}


def test_a_customer_confirms_at_the_bank_and_the_webhook_says_so(server, account):
    payment = pay(account, "pm_card_threeDSecure2Required")
    assert payment.action_url == "https://hooks.stripe.com/3d_secure/redirect"
    assert payments.confirm(payment=payment, now=now()).state == "requires_action"

    server.authenticate("pi_1")
    deliver(server)

    payment.refresh_from_db()
    assert payment.state == "succeeded"


def test_a_customer_who_fails_at_the_bank_has_a_failed_payment(server, account):
    payment = pay(account, "pm_card_threeDSecure2Required")
    server.authenticate("pi_1", succeeds=False)

    assert payments.confirm(payment=payment, now=now()).state == "failed"


def test_a_webhook_that_failed_is_read_again_as_stripe_s(server, account):
    payment = pay(account, "pm_lost")
    deliver(server)
    GatewayWebhook.objects.update(state="failed", processed_at=None, retry_at=now(), payment=None)

    tasks.sweep_payments()

    assert GatewayWebhook.objects.get().payment == payment


def test_a_refund_whose_answer_was_lost_is_found_by_its_key(server, account):
    payment = pay(account)
    gateway = registry.of("stripe")
    gateway.refund(payment.gateway_ref, amount=10, key="k")

    assert gateway.fetch_refund(key="k", ref=payment.gateway_ref).amount == 10


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (500, b'{"error": {"type": "api_error"}}'), (502, b"<html>"), (200, b"[]"), (200, b"{}"), (200, b"null"),
        (200, b'{"object": "payment_intent", "id": ["x"]}'), (302, b""), (404, b"<html>"), (429, b'{"error": {}}'),
        (409, b'{"error": {"type": "idempotency_error"}}'), (200, b"[" * 50_000), (200, b"x" * (MOST_BYTES + 1)),
        (402, b'{"error": {"payment_intent": {"object": "payment_intent"}}}'), (402, b'{"error": "x"}'),
    ],
)  # fmt: skip
def test_an_odd_answer_says_nothing(server, status, body):
    server.mischief = lambda handler: answer(handler, status, body)

    with pytest.raises(AnswerLost):
        registry.of("stripe").create(order())


def test_another_payment_is_not_believed(server):
    gateway = registry.of("stripe")
    gateway.create(order())
    body = json.dumps(server.intents["pi_1"]).encode()
    server.mischief = lambda handler: answer(handler, 200, body)

    for act in (lambda: gateway.create(order(reference="other")), lambda: gateway.fetch(ref="pi_2")):
        with pytest.raises(AnswerLost):
            act()


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"amount": 1}, "at least the minimum"),
        ({"amount": 10**9}, "no more than"),
        ({"currency": "KWD", "amount": 12_345}, "only to two places"),
        ({"method": "4242424242424242"}, "no payment method of Stripe's"),
    ],
)
def test_what_stripe_does_not_take_is_refused_with_a_sentence(server, changes, sentence):
    with pytest.raises(Refused, match=sentence):
        registry.of("stripe").create(order(**changes))


def test_a_repeat_after_a_day_is_not_sent_since_stripe_forgot_its_key(server, account):
    kept = str(methods.add(account=account, token="pm_card_visa", gateway="stripe", now=now()).pk)
    payment = opened(account, 100, kept, key="topup:late")
    send_and_crash(payment)
    server.by_key.clear()

    again = buy(account, 100, kept, key="late", at=now() + timedelta(hours=25))

    assert (again.pk, again.state, len(server.intents)) == (payment.pk, "created", 1)
    assert janitor.ask(payment=payment, now=now()).state == "succeeded"


def test_a_key_stripe_does_not_know_charges_nothing_and_is_told_nobody(server, caplog):
    caplog.set_level(logging.DEBUG)
    key = "sk_test_otherotherother"
    gateway = StripeGateway(key, secrets=[fake_stripe.SECRET], url=server.url)

    with pytest.raises(Refused, match="does not accept this service's key") as refused:
        gateway.create(order())
    with pytest.raises(AnswerLost):
        gateway.fetch(ref="pi_1")

    assert not any(secret in caplog.text + repr(refused.value) for secret in (key, fake_stripe.SECRET))


def test_nobody_there_is_refused_before_anything_is_charged(server):
    gateway = StripeGateway(fake_stripe.KEY, secrets=[], url="http://127.0.0.1:9")

    with pytest.raises(Refused, match="nothing was charged"):
        gateway.create(order())
    with pytest.raises(AnswerLost):
        gateway.fetch(ref="pi_1")


def test_a_method_is_a_token(server, account):
    for token in ("tok_visa", "4242 4242 4242 4242", "pm_1&amount=1"):
        with pytest.raises(methods.BadToken):
            methods.add(account=account, token=token, gateway="stripe", now=now())


def test_a_customer_s_method_is_charged_as_theirs(server):
    registry.of("stripe").create(order(method="cus_1:pm_card_visa"))

    assert len(server.intents) == 1
