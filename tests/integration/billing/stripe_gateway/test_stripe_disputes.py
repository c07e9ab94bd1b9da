"""Stripe's disputes, against the strict one on loopback: as anybody's, in any order, before we know of the payment."""

from __future__ import annotations

from datetime import timedelta

import pytest

from billing import gateway_webhooks, janitor, payments, tasks
from billing.models import Dispute, GatewayWebhook
from billing.payment_states import SENT_BY
from tests import fake_stripe
from tests import ledger_cast as cast
from tests.payment_cast import now
from tests.stripe_cast import deliver, pay

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.allow_hosts(["127.0.0.1"])]


def stands(payment):
    dispute = Dispute.objects.get()
    payment.refresh_from_db()
    return dispute.state, payment.disputed, cast.available(payment.account, now())


def test_a_disputed_charge_takes_its_credits_and_says_until_when_to_answer(server, account):
    payment = pay(account, "pm_card_createDispute")

    deliver(server)

    dispute = Dispute.objects.get()
    assert stands(payment) == ("opened", 100, 0)
    assert (dispute.gateway_ref, dispute.reason, dispute.amount) == ("dp_1", "product not received", 100)
    assert dispute.evidence_due_at > now() + timedelta(days=6)


@pytest.mark.parametrize(
    "arrange",
    [lambda sent: sent * 2, lambda sent: sent[::-1], lambda sent: [*sent[::2], *sent[1::2], *sent[::-1]]],
)
@pytest.mark.parametrize(("decision", "kept"), [("won", 100), ("lost", 0)])
def test_what_stripe_tells_comes_twice_and_in_any_order(server, account, decision, kept, arrange):
    payment = pay(account, "pm_card_createDispute")
    server.give_evidence("dp_1", {"evidence[uncategorized_text]": "x", "submit": "true"})
    server.decide("dp_1", decision)

    deliver(server, arrange)

    assert stands(payment) == (decision, 0 if decision == "won" else 100, kept)
    assert set(GatewayWebhook.objects.values_list("state", flat=True)) <= {"processed", "duplicate"}
    cast.assert_books_are_right()


@pytest.mark.parametrize(
    ("status", "state"), [("warning_under_review", "under_review"), ("warning_closed", "won"), ("prevented", "lost")]
)
def test_an_inquiry_is_a_dispute_as_well(server, account, status, state):
    payment = pay(account)
    server.dispute("pi_1", "warning_needs_response")
    deliver(server)
    assert stands(payment)[0] == "opened"

    server.decide("dp_1", status)
    deliver(server)

    assert stands(payment)[0] == state


def test_a_dispute_that_comes_before_its_payment_is_known_waits_for_it(server, account):
    """The answer and the webhook of the payment are lost, and only its dispute arrives."""
    server.is_indexed = False
    payment = pay(account, "pm_lost")
    server.webhooks()
    server.events.clear()
    server.dispute("pi_1")
    deliver(server)
    assert not Dispute.objects.exists()
    assert set(GatewayWebhook.objects.values_list("state", flat=True)) == {"failed"}

    server.is_indexed = True
    janitor.sweep(now=now() + SENT_BY)
    gateway_webhooks.sweep(now=now() + timedelta(minutes=2))

    assert stands(payment) == ("opened", 100, 0)
    assert set(GatewayWebhook.objects.values_list("state", flat=True)) == {"processed"}


def test_a_dispute_of_a_payment_that_still_processes_here_waits_until_it_is_paid(server, account):
    payment = pay(account, "pm_later")
    server.enter(server.intents["pi_1"], "succeeded")
    server.events.clear()
    server.dispute("pi_1")
    deliver(server)
    assert (payment.state, Dispute.objects.count()) == ("processing", 0)

    janitor.sweep(now=now() + SENT_BY)
    gateway_webhooks.sweep(now=now() + timedelta(minutes=2))

    assert stands(payment) == ("opened", 100, 0)


def test_a_dispute_of_somebody_else_s_charge_is_kept_and_changes_nothing(server, account):
    pay(account)
    server.dispute("pi_1")
    server.disputes["dp_1"]["payment_intent"] = "pi_of_another_shop"
    server.events.clear()
    server.tell_dispute("dp_1", "updated")

    deliver(server)

    assert not Dispute.objects.exists()
    assert GatewayWebhook.objects.get().error == "It is about nothing that is known here."


def test_evidence_goes_to_stripe_once_and_the_decision_comes_back(server, account):
    payment = pay(account, "pm_card_createDispute")
    deliver(server)
    dispute, texts = Dispute.objects.get(), {"access_activity_log": "It ran.", "uncategorized_text": "ä € 山"}

    made = [payments.give_evidence(dispute=dispute, texts=texts, key="k", now=now()) for _ in range(2)]

    assert {each.state for each in made} == {"accepted"}
    assert server.disputes["dp_1"]["evidence"] == {f"evidence[{name}]": text for name, text in texts.items()}
    assert stands(payment)[0] == "under_review"
    server.decide("dp_1", "won")
    deliver(server)
    assert stands(payment) == ("won", 0, 100)
    late = payments.give_evidence(dispute=dispute, texts=texts, key="k", now=now())
    assert late.pk == made[0].pk


def test_a_late_refusal_is_told(server, account):
    pay(account, "pm_card_createDispute")
    deliver(server)
    server.disputes["dp_1"]["status"] = "lost"

    made = payments.give_evidence(dispute=Dispute.objects.get(), texts={"uncategorized_text": "x"}, key="k", now=now())

    assert (made.state, made.detail) == ("refused", "This dispute is lost; no evidence is taken any more.")
    tasks.sweep_payments()


def test_a_dispute_in_another_currency_is_about_all_of_it(server, account):
    payment = pay(account)
    server.dispute("pi_1")
    server.events.clear()
    server.disputes["dp_1"] |= {"currency": "usd", "amount": 1}
    server.tell_dispute("dp_1", "created")

    deliver(server)

    assert stands(payment) == ("opened", 100, 0)


def test_a_forged_dispute_is_refused(server, account):
    pay(account, "pm_card_createDispute")
    body = next(body for body, _ in server.webhooks() if b"dispute" in body)

    for headers in ({}, {"Stripe-Signature": fake_stripe.signature(body, secret="whsec_other")}):
        with pytest.raises(gateway_webhooks.BadSignature):
            gateway_webhooks.receive(gateway="stripe", body=body, headers=headers, now=now())
    assert not Dispute.objects.exists()
