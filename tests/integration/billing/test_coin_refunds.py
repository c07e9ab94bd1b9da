"""USDC that goes back: what the operator has to send, what proves it, and never more than was paid."""

from __future__ import annotations

import secrets
from typing import Any

import pytest
from django.db import Error, connection, transaction
from django.urls import reverse

from billing import coin_refunds, coins, janitor, payments, refunds, tasks
from billing.chains import simulated
from billing.coin_refunds import BadTransfer, ChainSilent, NotDue
from billing.gateways import AnswerLost, Order, Refused, RepaymentState, registry
from billing.gateways.usdc import UsdcGateway
from billing.models import CoinQuote, CoinRefund, Payment
from billing.payment_states import SENT_BY
from tests import coin_cast, factories, x402_cast
from tests import ledger_cast as cast
from tests.integration.billing.test_ledger_races import at_once, kinds
from tests.payment_cast import buy, now

pytestmark = pytest.mark.django_db
DEPTH = 3
OTHER = "0x15d34aaf54267db7d7c367839aaf71a00a2c6a65"


@pytest.fixture(autouse=True)
def _on(settings: Any) -> None:
    settings.SIMULATED_CHAIN, settings.USDC_RATE, settings.USDC_CONFIRMATIONS = True, "1", DEPTH
    simulated.mine(now=now(), blocks=20)


@pytest.fixture
def account() -> Any:
    account = cast.make_account(0)
    yield account
    cast.assert_books_are_right()


@pytest.fixture
def payment(account: Any) -> Payment:
    return paid(account)


def paid(account: Any) -> Payment:
    """100 credits for 1.00 USDC, which came in two parts."""
    payment = buy(account, 100, "usdc")
    quote = CoinQuote.objects.get(reference=str(payment.pk))
    for units in (600_000, 400_000):
        simulated.send(recipient=quote.address, units=units, now=now())
    simulated.mine(now=now(), blocks=DEPTH)
    coins.sweep(gateway=registry.usdc(), now=now())
    payment.refresh_from_db()
    assert payment.state == "succeeded"
    return payment


def refund(payment: Payment, amount: int | None = None, key: str = "r") -> CoinRefund:
    made = payments.refund(payment=payment, amount=amount, key=key, now=now())
    return CoinRefund.objects.get(key=str(made.pk))


def send(back: CoinRefund, **changes: Any) -> str:
    """The operator's wallet sends it."""
    said = {"recipient": back.recipient, "units": back.units, "sender": simulated.SHOP}
    return simulated.send(now=now(), **said | changes).tx_hash


def mark(back: CoinRefund, tx_hash: str, **more: Any) -> CoinRefund:
    said = {"refund_id": back.pk, "chain": registry.chain(), "actor": "user:1", "now": now()}
    return coin_refunds.mark_sent(tx_hash=tx_hash, **said, **more)


def give_up(back: CoinRefund) -> CoinRefund:
    said = {"refund_id": back.pk, "chain": registry.chain(), "actor": "user:1", "now": now()}
    return coin_refunds.fail(reason="It is an exchange's address.", **said)


def watch(blocks: int = 0) -> None:
    if blocks:
        simulated.mine(now=now(), blocks=blocks)
    coin_refunds.sweep(chain=registry.chain(), now=now())


def stands(back: CoinRefund) -> tuple[str, str]:
    back.refresh_from_db()
    return back.state, refunds.Refund.objects.get(pk=back.key).state


def test_a_refund_takes_the_credits_and_says_what_to_send_where(account: Any, payment: Payment) -> None:
    back = refund(payment, 40)

    assert (back.state, back.units, back.recipient) == ("pending", 400_000, simulated.WALLET)
    payment.refresh_from_db()
    assert (payment.refunding, payment.refunded, cast.available(account, now())) == (40, 0, 60)


def test_it_is_confirmed_when_the_chain_has_it_deep_enough(account: Any, payment: Payment) -> None:
    back = refund(payment)
    mark(back, send(back))
    watch()
    assert stands(back) == ("sent", "processing")
    assert back.why == "On the chain, and not deep enough yet"

    watch(DEPTH - 1)

    assert stands(back) == ("confirmed", "succeeded")
    payment.refresh_from_db()
    assert (payment.refunding, payment.refunded, cast.available(account, now())) == (0, 100, 0)
    assert registry.usdc().fetch(ref=payment.gateway_ref).refunded == 100


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"units": 999_999}, "The transaction sends less than has to go back"),
        ({"recipient": OTHER}, "The chain does not show this transaction to this address"),
        ({"token": "0x" + "ab" * 20}, "The chain does not show this transaction to this address"),
    ],
)
def test_another_transfer_proves_nothing(payment: Payment, changes: dict[str, Any], why: str) -> None:
    back = refund(payment)
    mark(back, send(back, **changes))

    watch(DEPTH)

    assert stands(back) == ("sent", "processing")
    assert back.why == why


def test_an_older_transfer_proves_nothing(account: Any) -> None:
    payment = paid(account)
    old = simulated.send(recipient=simulated.WALLET, units=1_000_000, now=now()).tx_hash
    simulated.mine(now=now(), blocks=DEPTH)
    coins.sweep(gateway=registry.usdc(), now=now())
    back = refund(payment)

    mark(back, old)
    watch(DEPTH)

    assert stands(back)[0] == "sent"


def test_one_transaction_pays_one_refund(account: Any) -> None:
    one, two = refund(paid(account)), refund(paid(account))
    tx_hash = send(one)
    mark(one, tx_hash)

    with pytest.raises(BadTransfer, match="another refund"):
        mark(two, tx_hash)
    assert stands(two)[0] == "pending"


def test_several_logs_of_one_transaction_add_up_and_repeats_do_not(payment: Payment) -> None:
    back, tx_hash = refund(payment), "0x" + secrets.token_hex(32)
    send(back, tx_hash=tx_hash, units=500_000, copies=3)
    mark(back, tx_hash)
    watch(DEPTH)
    assert stands(back)[0] == "sent"

    send(back, tx_hash=tx_hash, log_index=1, units=500_000)
    watch(DEPTH)

    assert stands(back)[0] == "confirmed"


def test_a_transaction_that_was_taken_back_confirms_nothing_until_it_is_there_again(payment: Payment) -> None:
    back = refund(payment)
    tx_hash = send(back)
    mark(back, tx_hash)
    simulated.take_back(blocks=1, now=now())
    watch(DEPTH)
    assert stands(back)[0] == "sent"

    send(back, tx_hash=tx_hash)
    watch(DEPTH)

    assert stands(back)[0] == "confirmed"


def test_a_wrong_hash_is_corrected_while_it_is_nowhere_and_a_second_sending_is_noticed(payment: Payment) -> None:
    back = refund(payment)
    mark(back, "0x" + "ab" * 32)
    right = send(back)
    mark(back, right)
    assert mark(back, right).tx_hash == right

    with pytest.raises(NotDue, match="Do not send it twice"):
        mark(back, send(back))

    watch(DEPTH)
    assert (stands(back)[0], back.tx_hash) == ("confirmed", right)
    with pytest.raises(NotDue):
        mark(back, send(back))


def test_it_may_go_to_an_address_that_the_customer_named(payment: Payment) -> None:
    back = refund(payment)
    mark(back, send(back, recipient=OTHER), recipient=OTHER.upper().replace("0X", "0x"))

    watch(DEPTH)

    assert (stands(back)[0], back.recipient) == ("confirmed", OTHER)


@pytest.mark.parametrize(
    ("tx_hash", "recipient", "field"),
    [
        ("0x12", "", "transaction"),
        ("0x" + "g" * 64, "", "transaction"),
        ("0x" + "a" * 64, "0x12", "address"),
        ("0x" + "a" * 64, "0x15D34aaf54267db7d7c367839aaf71a00a2c6a65", "address"),
    ],
)
def test_what_cannot_be_one_is_refused(payment: Payment, tx_hash: str, recipient: str, field: str) -> None:
    back = refund(payment)

    with pytest.raises(BadTransfer) as wrong:
        mark(back, tx_hash, recipient=recipient)

    assert (wrong.value.field, stands(back)[0]) == (field, "pending")


def test_what_cannot_be_sent_gives_the_credits_back(account: Any, payment: Payment) -> None:
    back = refund(payment)
    mark(back, "0x" + "ab" * 32)

    give_up(back)

    assert stands(back) == ("failed", "failed")
    payment.refresh_from_db()
    assert (payment.refundable, cast.available(account, now())) == (100, 100)
    assert refund(payment, key="again").units == 1_000_000


def test_what_the_chain_shows_is_not_given_up(payment: Payment, monkeypatch: pytest.MonkeyPatch) -> None:
    back = refund(payment)
    mark(back, send(back))
    with pytest.raises(NotDue, match="was sent"):
        give_up(back)

    with monkeypatch.context() as patched:
        silent = simulated.NoAnswer("silent")
        patched.setattr(simulated.SimulatedChain, "head", lambda _: (_ for _ in ()).throw(silent))
        with pytest.raises(ChainSilent):
            give_up(back)
        watch()
    assert stands(back)[0] == "sent"


def test_pieces_are_exactly_what_was_paid_and_never_more(account: Any, settings: Any) -> None:
    settings.USDC_RATE = "1.0000033"
    payment = buy(account, 100, "usdc")
    quote = CoinQuote.objects.get(reference=str(payment.pk))
    simulated.send(recipient=quote.address, units=quote.units, now=now())
    simulated.mine(now=now(), blocks=DEPTH)
    coins.sweep(gateway=registry.usdc(), now=now())
    payment.refresh_from_db()

    pieces = [refund(payment, amount, key=f"r{amount}").units for amount in (33, 32, 35)]

    assert sum(pieces) == quote.units == 1_000_004
    with pytest.raises(Refused):
        registry.usdc().refund(str(quote.pk), amount=1, key="more")


def test_the_database_refuses_more_than_was_paid_and_a_way_back(payment: Payment) -> None:
    back = refund(payment)
    said = {"reference": back.reference, "network": back.network, "token": back.token, "recipient": OTHER}
    for reference in (back.reference, "nobody's"):
        made = said | {"reference": reference}
        with pytest.raises(Error), transaction.atomic():
            CoinRefund.objects.create(key=reference, units=1, amount=1, first_block=1, created_at=now(), **made)
    mark(back, send(back))
    watch(DEPTH)
    for change in ("state = 'sent', settled_at = null", "units = 1", "tx_hash = ''", "state = 'failed'"):
        with pytest.raises(Error), transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(f"update billing_coinrefund set {change} where id = %s", [back.pk])


def test_the_adapter_says_of_a_refund_what_staff_and_the_chain_said(payment: Payment) -> None:
    gateway = registry.usdc()
    first = [gateway.refund(payment.gateway_ref, amount=50, key="k") for _ in range(2)]

    assert (first[0], first[0].state) == (first[1], RepaymentState.PROCESSING)
    assert gateway.fetch_refund(key="k", ref=payment.gateway_ref) == first[0]
    with pytest.raises(Refused):
        gateway.refund(payment.gateway_ref, amount=51, key="k")
    with pytest.raises(Refused):
        gateway.refund(payment.gateway_ref, amount=51, key="l")
    waiting = buy(payment.account, 100, "usdc")
    with pytest.raises(Refused, match="Nothing was paid"):
        gateway.refund(waiting.gateway_ref, amount=1, key="m")


def test_a_payment_by_x402_goes_back_to_who_signed() -> None:
    gateway = registry.x402()
    row = x402_cast.accepted()
    order = Order(reference=str(row.account_id), amount=1250, currency="EUR", method=str(row.pk))
    charge = gateway.create(order)

    said = gateway.refund(charge.ref, amount=1250, key=str(row.pk))

    back = CoinRefund.objects.get()
    assert (said.state, back.recipient, back.units) == (RepaymentState.PROCESSING, x402_cast.PAYER, row.units)
    mark(back, send(back))
    watch(DEPTH)
    assert gateway.fetch_refund(key=str(row.pk), ref=charge.ref).state == RepaymentState.SUCCEEDED
    assert gateway.fetch(ref=charge.ref).refunded == 1250


def test_a_crash_before_the_transfer_is_written_down_is_made_up_for(
    account: Any, payment: Payment, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, _ = refunds.open_refund(payment=payment, amount=None, key="r", now=now() - SENT_BY)
    assert not CoinRefund.objects.exists()

    janitor.sweep(now=now() + SENT_BY)

    made.refresh_from_db()
    assert (made.state, CoinRefund.objects.get().key) == ("processing", str(made.pk))


def test_a_lost_answer_sends_nothing_twice(payment: Payment, monkeypatch: pytest.MonkeyPatch) -> None:
    real = UsdcGateway.refund

    def lost(*said: Any, **how: Any) -> Any:
        real(*said, **how)
        raise AnswerLost("The line is dead.")

    with monkeypatch.context() as patched:
        patched.setattr(UsdcGateway, "refund", lost)
        made = payments.refund(payment=payment, amount=None, key="r", now=now())
    assert made.state == "unknown"

    janitor.sweep(now=now() + SENT_BY)

    made.refresh_from_db()
    assert (made.state, CoinRefund.objects.count()) == ("processing", 1)


def test_a_crash_before_the_refund_hears_of_it_confirms_it_in_the_next_sweep(
    payment: Payment, monkeypatch: pytest.MonkeyPatch
) -> None:
    back = refund(payment)
    mark(back, send(back))
    simulated.mine(now=now(), blocks=DEPTH)

    def die(**_: Any) -> None:
        raise ConnectionError

    with monkeypatch.context() as patched:
        patched.setattr(refunds, "hear", die)
        with pytest.raises(ConnectionError):
            watch()
    assert stands(back) == ("sent", "processing")

    tasks.sweep_coins()

    assert stands(back) == ("confirmed", "succeeded")


@pytest.mark.django_db(transaction=True)
def test_two_of_staff_who_sent_it_both_are_told(account: Any) -> None:
    back = refund(paid(account))
    hashes = [send(back), send(back)]

    outcomes = at_once([lambda tx=tx: mark(back, tx) for tx in hashes])

    assert kinds(outcomes) == {"CoinRefund": 1, "NotDue": 1}


@pytest.mark.django_db(transaction=True)
def test_naming_and_giving_up_at_once_have_one_winner(account: Any) -> None:
    back = refund(paid(account))
    tx_hash = send(back)

    outcomes = at_once([lambda: mark(back, tx_hash), lambda: give_up(back)])

    assert kinds(outcomes) == {"CoinRefund": 1, "NotDue": 1}
    assert stands(back) in (("sent", "processing"), ("failed", "failed"))


def test_staff_do_it_on_the_page_and_the_customer_sees_it(client: Any, account: Any, payment: Payment) -> None:
    client.force_login(account.memberships.get().user)
    shown = client.get(reverse("billing:payment", args=[account, payment.pk])).content.decode()
    assert "The operator sends USDC back to the address it came from" in shown
    back = refund(payment)
    address = reverse("billing:coin-refund", args=[account, back.pk])
    assert client.get(address).status_code == 403
    client.force_login(factories.make_staff())
    assert address in client.get(reverse("billing:transfers", args=[account])).content.decode()
    assert "Send the USDC from your own wallet, once" in client.get(address).content.decode()
    bad = client.post(address, {"transaction": "0x12"})
    assert (bad.status_code, "A transaction is 0x and 64 digits" in bad.content.decode()) == (422, True)
    assert client.post(f"{address}fail/", {"up-reason": ""}).status_code == 422

    done = client.post(f"{address}send/", follow=True).content.decode()

    assert "It is noted as sent, and not proven yet." in done
    assert client.post(f"{address}send/").status_code == 404
    tasks.sweep_coins()
    simulated.mine(now=now(), blocks=DEPTH)
    tasks.sweep_coins()
    assert stands(back) == ("confirmed", "succeeded")
    client.force_login(account.memberships.get().user)
    shown = client.get(reverse("billing:payment", args=[account, payment.pk])).content.decode()
    assert back.tx_hash in shown


def test_one_of_the_cast_waits(account: Any) -> None:
    back = coin_cast.refund(account)

    assert list(coin_refunds.waiting()) == [back]
