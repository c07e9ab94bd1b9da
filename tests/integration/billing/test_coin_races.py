"""Many at once on real connections: no transfer is counted twice, no address given out twice."""

from __future__ import annotations

import pytest

from billing import coins
from billing.chains import simulated
from billing.gateways import registry
from billing.models import CoinQuote, CoinTransfer, Grant
from tests import ledger_cast as cast
from tests.integration.billing.test_ledger_races import at_once, kinds
from tests.payment_cast import buy, now

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def account(settings):
    settings.SIMULATED_CHAIN, settings.USDC_RATE, settings.USDC_CONFIRMATIONS = True, "1", 3
    simulated.mine(now=now(), blocks=5)
    account = cast.make_account(0)
    yield account
    cast.assert_books_are_right()


def test_payments_at_once_get_addresses_of_their_own(account):
    outcomes = at_once([lambda n=n: buy(account, 10, "usdc", key=f"k{n}") for n in range(6)])

    assert kinds(outcomes) == {"Payment": 6}
    assert len(set(CoinQuote.objects.values_list("address", flat=True))) == 6


def test_sweeps_and_staff_at_once_credit_once(account):
    buy(account, 100, "usdc")
    quote = CoinQuote.objects.get()
    simulated.send(recipient=quote.address, units=quote.units * 2, now=now())
    simulated.mine(now=now(), blocks=3)

    at_once([lambda: coins.sweep(gateway=registry.usdc(), now=now()) for _ in range(6)])
    assert (CoinTransfer.objects.count(), Grant.objects.count(), cast.available(account, now())) == (1, 1, 100)

    (waiting,) = coins.queue()
    outcomes = at_once([lambda: coins.credit(transfer=waiting, actor="user:1", now=now()) for _ in range(6)])
    assert kinds(outcomes) == {"CoinTransfer": 1, "NotWaiting": 5}
    assert cast.available(account, now()) == 200
