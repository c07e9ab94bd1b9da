"""The HTTP promises about USDC that goes back: staff's alone; the customer sees where it went."""

from __future__ import annotations

import pytest

from billing import coins, tasks
from billing.chains import simulated
from billing.gateways import registry
from billing.models import CoinQuote
from tests import payment_cast

pytestmark = pytest.mark.django_db
NOBODY = "0198c0de-0000-7000-8000-000000000000"


@pytest.fixture
def payment(settings, alice):
    settings.SIMULATED_CHAIN, settings.USDC_RATE, settings.USDC_CONFIRMATIONS = True, "1", 1
    payment = payment_cast.buy(alice.account, 100, "usdc")
    quote = CoinQuote.objects.get(reference=str(payment.pk))
    simulated.send(recipient=quote.address, units=quote.units, now=payment_cast.now())
    coins.sweep(gateway=registry.usdc(), now=payment_cast.now())
    return payment


def test_staff_send_a_refund_and_the_chain_confirms_it(alice, stella, payment):
    made = alice.post(f"payments/{payment.pk}/refunds", {}).json()
    assert (made["state"], made["usdc"]["amount"], made["usdc"]["state"]) == ("processing", "1.00", "pending")
    assert alice.get("coin-refunds").status_code == 403
    (due,) = stella.get("coin-refunds", state="pending").json()["results"]
    assert (due["refund"], due["payment"], due["address"]) == (made["id"], str(payment.pk), made["usdc"]["address"])
    sent = simulated.send(recipient=due["address"].lower(), units=due["units"], now=payment_cast.now())

    said = stella.post(f"coin-refunds/{due['id']}/sent", {"transaction": sent.tx_hash})

    assert (said.status_code, said.json()["state"]) == (200, "sent")
    tasks.sweep_coins()
    assert stella.get(f"coin-refunds/{due['id']}").json()["state"] == "confirmed"
    (seen,) = alice.get(f"payments/{payment.pk}").json()["refunds"]
    assert (seen["state"], seen["usdc"]["transaction"]) == ("succeeded", sent.tx_hash)
    late = stella.post(f"coin-refunds/{due['id']}/fail", {"reason": "x"})
    assert (late.status_code, late.json()["state"]) == (409, "confirmed")


@pytest.mark.parametrize(
    ("act", "body", "field"),
    [
        ("sent", {}, "transaction"),
        ("sent", {"transaction": "0x1"}, "transaction"),
        ("sent", {"transaction": "0x" + "a" * 64, "address": "0x1"}, "address"),
        ("fail", {}, "reason"),
        ("fail", {"reason": "a\x00"}, "reason"),
    ],
)
def test_bad_words_of_it_are_named(alice, stella, payment, act, body, field):
    alice.post(f"payments/{payment.pk}/refunds", {})
    (due,) = stella.get("coin-refunds").json()["results"]

    answer = stella.post(f"coin-refunds/{due['id']}/{act}", body)

    assert (answer.status_code, list(answer.json()["errors"])) == (400, [field])
    assert stella.post(f"coin-refunds/{NOBODY}/{act}", {"reason": "x", "transaction": "0x"}).status_code in (400, 404)
