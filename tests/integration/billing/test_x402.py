"""x402 when things go wrong in the middle: the chain says what became of it, and it is booked once."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from billing import janitor, settlement, x402_top_ups
from billing.chains import NoAnswer, simulated
from billing.gateways import AnswerLost, registry
from billing.gateways.x402 import proofs
from billing.gateways.x402.facilitators import Settled, SimulatedFacilitator
from billing.models import Grant, Payment, SimulatedTransfer, X402Authorization
from tests import ledger_cast as cast
from tests import x402_cast
from tests.integration.billing.test_ledger_races import at_once, kinds
from tests.ledger_cast import UCR
from tests.payment_cast import now

pytestmark = pytest.mark.django_db
DEPTH = 3
LATER = timedelta(minutes=1)


@pytest.fixture(autouse=True)
def _on(settings):
    settings.SIMULATED_CHAIN, settings.USDC_RATE, settings.USDC_CONFIRMATIONS = True, "1", DEPTH
    simulated.mine(now=now(), blocks=10)


@pytest.fixture
def account():
    account = cast.make_account(0)
    yield account
    cast.assert_books_are_right()


def signed(scheme: str = "exact", credits: int = 100, **changes: Any) -> str:
    offers = registry.x402().offers(amount=credits, currency="EUR")
    offer = next(each.as_json() for each in offers if each.scheme == scheme)
    return x402_top_ups.wire.encode(x402_cast.pay(offer, now=now(), **changes))


def buy(account, signature: str, key: str = "k", *, credits: int = 100, after: timedelta = timedelta(0)) -> Payment:
    said = {"account": account, "credits_ucr": credits * UCR, "signature": signature, "key": key}
    return x402_top_ups.top_up(**said, url="https://ntd.example/api/v1/topups", now=now() + after)


def state(payment) -> str:
    payment.refresh_from_db()
    return payment.state


def losing(monkeypatch, *, settles: bool) -> None:
    """The facilitator's answer is lost, after or before it has done its part."""
    does = SimulatedFacilitator.settle

    def settle(self, payload, wanted):
        if settles:
            does(self, payload, wanted)
        raise AnswerLost("late")

    monkeypatch.setattr(SimulatedFacilitator, "settle", settle)


@pytest.mark.parametrize("scheme", ["exact", "upto"])
def test_a_lost_answer_is_unknown_until_the_chain_has_it_deep_enough(account, monkeypatch, scheme):
    losing(monkeypatch, settles=True)
    payment = buy(account, signed(scheme))
    assert state(payment) == "unknown"

    janitor.sweep(now=now() + LATER)
    assert (state(payment), cast.available(account, now())) == ("unknown", 0)
    simulated.mine(now=now(), blocks=DEPTH)
    janitor.sweep(now=now() + LATER * 3)

    assert (state(payment), cast.available(account, now())) == ("succeeded", 100)
    janitor.sweep(now=now() + LATER * 9)
    assert (Grant.objects.count(), SimulatedTransfer.objects.count()) == (1, 1)


def test_one_that_never_reached_the_chain_fails_when_it_has_expired(account, monkeypatch):
    losing(monkeypatch, settles=False)
    payment = buy(account, signed())

    simulated.mine(now=now() + timedelta(minutes=4), blocks=DEPTH)
    janitor.sweep(now=now() + LATER)
    assert state(payment) == "unknown"
    simulated.mine(now=now() + timedelta(minutes=6), blocks=DEPTH)
    janitor.sweep(now=now() + LATER * 3)

    assert (state(payment), payment.failure_code, cast.available(account, now())) == ("failed", "expired", 0)


@pytest.mark.parametrize("changes", [{"units": 1}, {"sender": simulated.SHOP}, {"recipient": "0x" + "cc" * 20}])
def test_another_s_transfer_or_of_another_amount_settles_nothing(account, monkeypatch, changes):
    losing(monkeypatch, settles=False)
    payment = buy(account, signed())
    about = {"recipient": simulated.SHOP, "units": 1_000_000, "sender": x402_cast.PAYER} | changes
    simulated.send(**about, now=now())
    simulated.mine(now=now(), blocks=DEPTH)

    janitor.sweep(now=now() + LATER)

    assert state(payment) == "unknown"


def test_one_transaction_settles_one_payment(account, monkeypatch):
    first = buy(account, signed())
    losing(monkeypatch, settles=False)
    second = buy(account, signed(), key="second")
    simulated.mine(now=now(), blocks=DEPTH)

    janitor.sweep(now=now() + LATER)

    assert (state(first), state(second), cast.available(account, now())) == ("succeeded", "unknown", 100)


def test_a_facilitator_that_names_another_s_transaction_is_not_believed(account, monkeypatch):
    buy(account, signed())
    taken = X402Authorization.objects.get().tx_hash
    monkeypatch.setattr(SimulatedFacilitator, "settle", lambda *_: Settled(tx_hash=taken))

    assert state(buy(account, signed(), key="second")) == "unknown"
    assert cast.available(account, now()) == 100


def test_a_chain_that_is_silent_leaves_it_unknown(account, monkeypatch):
    losing(monkeypatch, settles=True)
    payment = buy(account, signed())

    def silent(*_):
        raise NoAnswer("down")

    monkeypatch.setattr(simulated.SimulatedChain, "head", silent)
    janitor.sweep(now=now() + LATER)

    assert state(payment) == "unknown"


def test_a_crash_before_it_was_sent_is_taken_up_by_the_same_request(account, monkeypatch):
    signature = signed()

    def dead(**_):
        raise RuntimeError("killed")

    with monkeypatch.context() as patched:
        patched.setattr(settlement, "submit", dead)
        with pytest.raises(RuntimeError):
            buy(account, signature)
    assert (Payment.objects.get().state, SimulatedTransfer.objects.count()) == ("created", 0)

    assert state(buy(account, signature, after=LATER)) == "succeeded"
    assert (SimulatedTransfer.objects.count(), cast.available(account, now())) == (1, 100)


def test_a_crash_before_the_payment_was_written_is_taken_up_by_the_same_request(account, monkeypatch):
    signature = signed()

    def dead(**_):
        raise RuntimeError("killed")

    with monkeypatch.context() as patched:
        patched.setattr(x402_top_ups.intents, "open_top_up", dead)
        with pytest.raises(RuntimeError):
            buy(account, signature)
    assert (Payment.objects.count(), X402Authorization.objects.get().state) == (0, "accepted")

    assert state(buy(account, signature)) == "succeeded"


def test_a_crash_after_it_was_settled_is_found_by_asking(account, monkeypatch):
    def dead(**_):
        raise RuntimeError("killed")

    with monkeypatch.context() as patched:
        patched.setattr(settlement, "settle", dead)
        with pytest.raises(RuntimeError):
            buy(account, signed())
    payment = Payment.objects.get()
    assert (payment.state, SimulatedTransfer.objects.count()) == ("created", 1)

    janitor.sweep(now=now() + LATER)

    assert (state(payment), cast.available(account, now())) == ("succeeded", 100)


@pytest.mark.django_db(transaction=True)
def test_one_signature_at_once_pays_once(account):
    signature = signed()

    outcomes = at_once([lambda n=n: buy(account, signature, key=f"k{n % 2}") for n in range(8)])

    assert set(kinds(outcomes)) <= {"Payment", "PaymentRequired", "KeyReused"}
    assert (Payment.objects.count(), SimulatedTransfer.objects.count()) == (1, 1)
    assert cast.available(account, now()) == 100


def test_what_expired_meanwhile_is_refused(account):
    old = signed(validBefore=str(int(now().timestamp()) + 1))

    with pytest.raises(x402_top_ups.PaymentRequired):
        buy(account, old)
    assert timedelta(seconds=1) < proofs.SETTLED_WITHIN
    assert not X402Authorization.objects.exists()
