"""Disputed payments: what is taken, given back and owed, in whatever order a gateway tells of it."""

from __future__ import annotations

from typing import Any

import pytest
from django.core import mail

from billing import ledger, payments, refunds
from billing.models import Account, Dispute, GatewayWebhook, LedgerAccount, Payment
from tests import ledger_cast, outgoing_cast, payment_cast
from tests.ledger_cast import UCR

pytestmark = pytest.mark.django_db
NAME = "dp_1"


@pytest.fixture
def account() -> Account:
    return ledger_cast.make_account(0)


@pytest.fixture
def payment(account: Account) -> Payment:
    return payment_cast.buy(account, 1000)


@pytest.fixture(autouse=True)
def _the_books_stay_right(db: None) -> Any:
    yield
    ledger_cast.assert_books_are_right()


def say(payment: Payment, word: str, **changes: Any) -> Dispute | None:
    """The gateway's webhook about a dispute arrives."""
    about = {"id": NAME, "payment": payment.gateway_ref, "reason": "fraudulent"} | changes
    payment_cast.deliver(payment_cast.event(payment, f"dispute.{word}", data={"dispute": about}))
    return Dispute.objects.filter(gateway_ref=about["id"]).first()


def available(account: Account) -> float:
    return ledger_cast.available(account, payment_cast.now())


def spend(account: Account, credits: int) -> None:
    ledger_cast.charge(account, credits, now=payment_cast.now())


def arrears(account: Account) -> float:
    return LedgerAccount.objects.get(account=account).arrears_ucr / UCR


def test_an_open_dispute_takes_the_unspent_credits_and_bars_a_refund(account: Account, payment: Payment) -> None:
    dispute = say(payment, "opened")

    payment.refresh_from_db()
    assert dispute is not None
    assert (dispute.state, dispute.amount, dispute.taken_ucr) == ("opened", 1000, 1000 * UCR)
    assert (available(account), payment.disputed, payment.refundable) == (0, 1000, 0)
    with pytest.raises(refunds.RefundExceedsPayment):
        payments.refund(payment=payment, amount=1, key="r", now=payment_cast.now())


def test_one_that_is_won_gives_everything_back(account: Account, payment: Payment) -> None:
    say(payment, "opened")
    say(payment, "under_review")
    dispute = say(payment, "won")

    payment.refresh_from_db()
    assert dispute is not None
    assert (dispute.state, dispute.restored is not None) == ("won", True)
    assert (available(account), payment.disputed, payment.refundable) == (1000, 0, 1000)


@pytest.mark.parametrize(("spent", "taken", "owed"), [(0, 1000, 0), (400, 600, 400), (1000, 0, 1000)])
def test_what_was_spent_before_is_owed_only_when_it_is_lost(
    account: Account, payment: Payment, spent: int, taken: int, owed: int
) -> None:
    if spent:
        spend(account, spent)
    dispute = say(payment, "opened")
    assert dispute is not None
    assert (dispute.taken_ucr / UCR, arrears(account)) == (taken, 0)

    dispute = say(payment, "lost")

    payment.refresh_from_db()
    assert dispute is not None
    assert (dispute.state, arrears(account), payment.disputed) == ("lost", owed, 1000)
    assert available(account) == -owed
    if owed:
        with pytest.raises(ledger.InsufficientCredits):
            spend(account, 1)
        payment_cast.buy(account, owed + 5)
        assert (available(account), arrears(account)) == (5, 0)


def test_what_is_on_hold_is_not_taken_while_it_is_held(account: Account, payment: Payment) -> None:
    ledger_cast.hold(account, 300, now=payment_cast.now(), expires_at=payment_cast.now().replace(year=2099))

    dispute = say(payment, "opened")

    assert dispute is not None
    assert dispute.taken_ucr == 700 * UCR


def test_a_dispute_of_a_part_takes_its_part(account: Account, payment: Payment) -> None:
    say(payment, "opened", amount=250)

    payment.refresh_from_db()
    assert (available(account), payment.refundable) == (750, 750)
    payments.refund(payment=payment, amount=750, key="r", now=payment_cast.now())
    say(payment, "lost", amount=250)
    assert (available(account), arrears(account)) == (0, 0)


def test_only_what_was_not_refunded_can_be_disputed(account: Account, payment: Payment) -> None:
    payments.refund(payment=payment, amount=600, key="r", now=payment_cast.now())
    payment.refresh_from_db()

    dispute = say(payment, "opened", amount=1000)

    assert dispute is not None
    assert (dispute.amount, dispute.credits_ucr) == (400, 400 * UCR)


@pytest.mark.parametrize(
    ("words", "state", "left"),
    [
        (["won"], "won", 1000),
        (["lost"], "lost", 0),
        (["opened", "opened"], "opened", 0),
        (["under_review", "opened"], "under_review", 0),
        (["opened", "won", "lost"], "won", 1000),
        (["opened", "lost", "won", "opened"], "lost", 0),
    ],
)
def test_words_come_twice_late_and_in_any_order(
    account: Account, payment: Payment, words: list[str], state: str, left: int
) -> None:
    for word in words:
        say(payment, word)

    assert Dispute.objects.get().state == state
    assert available(account) == left


@pytest.mark.parametrize(
    "data",
    [
        {"dispute": {"id": NAME, "payment": "nobody"}},
        {"dispute": {"payment": "nobody"}},
        {"dispute": "dp_1"},
        {"dispute": {"id": ["dp_1"]}},
        {},
    ],
)
def test_a_word_about_nothing_is_kept_and_changes_nothing(payment: Payment, data: dict[str, Any]) -> None:
    payment_cast.deliver(payment_cast.event(payment, "dispute.opened", data=data))

    assert not Dispute.objects.exists()
    assert GatewayWebhook.objects.get().error == "It is about nothing that is known here."


def test_each_turn_is_told_once_by_mail_and_webhook(
    account: Account, payment: Payment, django_capture_on_commit_callbacks: Any
) -> None:
    kinds = [f"dispute.{word}" for word in ("opened", "under_review", "won")]
    outgoing_cast.make_endpoint(account, events=kinds)
    with django_capture_on_commit_callbacks(execute=True):
        for word in ("opened", "opened", "under_review", "won", "won"):
            say(payment, word)

    assert outgoing_cast.types(account) == kinds
    assert len(mail.outbox) == 3


def test_the_simulated_gateway_can_dispute_by_itself(account: Account) -> None:
    payment_cast.buy(account, 100, "sim_disputed")
    payment_cast.send_webhooks()

    dispute = Dispute.objects.get()
    assert (dispute.state, dispute.taken_ucr) == ("opened", 100 * UCR)
    for word in ("under_review", "won"):
        payments.play_dispute(dispute=dispute, word=word, now=payment_cast.now())
        dispute.refresh_from_db()
        assert dispute.state == word
    assert available(account) == 100


def test_staff_can_have_a_simulated_payment_disputed(payment: Payment) -> None:
    payments.raise_dispute(payment=payment, now=payment_cast.now())

    assert Dispute.objects.get().state == "opened"
