"""What people see of payments in USDC, and what staff decide."""

from __future__ import annotations

import pytest

from billing import coins
from billing.chains import keccak, simulated
from billing.gateways import registry
from billing.models import CoinQuote, CoinTransfer, Payment
from tests import coin_cast, factories, page_cast
from tests import ledger_cast as cast
from tests.page_cast import act, address, page, text
from tests.payment_cast import buy, now

pytestmark = pytest.mark.django_db
DEPTH = 3


@pytest.fixture
def alice(client, settings):
    settings.SIMULATED_CHAIN, settings.USDC_RATE, settings.USDC_CONFIRMATIONS = True, "1", DEPTH
    simulated.mine(now=now(), blocks=10)
    yield page_cast.signed_in(client, cast.make_account(0))
    cast.assert_books_are_right()


def watch(blocks: int = DEPTH) -> None:
    simulated.mine(now=now(), blocks=blocks)
    coins.sweep(gateway=registry.usdc(), now=now())


def test_the_way_from_the_form_to_the_credits(alice):
    form = {"credits": "100", "method": "usdc", "key": "0198c0de-0000-7000-8000-000000000001"}
    shown = text(act(alice, "top-up", **form))
    payment, quote = Payment.objects.get(), CoinQuote.objects.get()
    assert "Send 1.00 USDC" in shown
    assert keccak.checksummed(quote.address) in shown
    assert "<svg" in shown.partition('class="qr"')[2]

    sent = text(act(alice, "payment-send", payment.pk))
    assert "The simulated wallet has sent it" in sent
    watch(0)
    seen = text(page(alice, "payment", payment.pk))
    assert "It was seen, and counts" in seen
    assert "Send " not in seen
    watch()
    shown = text(page(alice, "payment", payment.pk))
    assert "were added" in shown
    assert "Send it from" not in shown
    assert "The operator sends USDC back" in shown
    assert cast.available(alice.account, now()) == 100


def test_a_part_says_what_is_missing(alice):
    payment = buy(alice.account, 100, "usdc")
    simulated.send(recipient=CoinQuote.objects.get().address, units=250_000, now=now())
    watch()

    assert "0.75 USDC are missing" in text(page(alice, "payment", payment.pk))


def test_nothing_is_sent_where_no_chain_is_played_or_nothing_is_asked(alice, settings):
    payment, other = buy(alice.account, 100, "usdc"), buy(alice.account, 100, "sim_ok")
    assert alice.post(address(alice, "payment-send", other.pk)).status_code == 404
    settings.SIMULATED_CHAIN = False
    assert alice.post(address(alice, "payment-send", payment.pk)).status_code == 404


@pytest.mark.parametrize(("answer", "has"), [("credit", 5), ("dismiss", 0)])
def test_staff_decide_once_about_what_nobody_asked_for(alice, answer, has):
    waiting = coin_cast.transfer(alice.account)
    alice.force_login(factories.make_staff())
    assert "The payment was complete already" in text(page(alice, "transfers"))

    done = alice.post(address(alice, "transfer-resolve", waiting.pk), {"answer": answer})
    again = alice.post(address(alice, "transfer-resolve", waiting.pk), {"answer": "credit"})

    assert (done.status_code, again.status_code) == (302, 409)
    assert cast.available(alice.account, now()) == has
    assert CoinTransfer.objects.get().resolved_by.startswith("user:")
    assert "Nothing to decide" in text(page(alice, "transfers"))
