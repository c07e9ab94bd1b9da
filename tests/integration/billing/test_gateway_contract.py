"""What every gateway promises, asked of each: the simulated one, and the others against strict ones on loopback."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta

import pytest
from django.utils import timezone

from billing.gateways import (
    AnswerLost,
    BadSignature,
    ChargeState,
    DisputeWord,
    Gateway,
    NotFound,
    Order,
    Refused,
    RepaymentState,
    registry,
)
from billing.gateways.http import HttpGateway
from billing.gateways.simulated import SimulatedGateway
from billing.gateways.stripe import StripeGateway
from tests import fake_gateway, fake_stripe, x402_cast
from tests.payment_cast import SECRET

pytestmark = [pytest.mark.django_db, pytest.mark.allow_hosts(["127.0.0.1"])]
S = ChargeState
_number = itertools.count(1)


@dataclass(frozen=True)
class Side:
    """A gateway, how its payment methods are called, and what it sends."""

    gateway: Gateway
    methods: Mapping[str, str]
    webhooks: Callable[[], Iterable[tuple[bytes, Mapping[str, str]]]]
    # None for one that sends nothing.
    forged: Callable[[Mapping[str, str]], list[Mapping[str, str]]] = lambda headers: []
    # What the customer does at the bank, where that is not said by us.
    customer_acts: Callable[[str], None] = lambda ref: None

    def order(self, story: str, **changes: object) -> Order:
        made = {"reference": f"ours-{next(_number)}", "amount": 1250, "currency": "EUR", "method": self.methods[story]}
        return Order(**{"return_url": "https://ntd.example/p/", **made, **changes})


def forged(headers: Mapping[str, str]) -> list[Mapping[str, str]]:
    """The headers of the Standard Webhooks, each wrong in another way."""
    return [
        {**headers, "webhook-id": "other"},
        {**headers, "webhook-signature": "v1,AAAA"},
        {**headers, "webhook-signature": headers["webhook-signature"].replace("v1,", "v2,")},
        {**headers, "webhook-timestamp": "soon"},
        {**headers, "webhook-timestamp": "9" * 30},
        {name: value for name, value in headers.items() if name != "webhook-signature"},
    ]


def forged_as_stripe(headers: Mapping[str, str]) -> list[Mapping[str, str]]:
    good = headers["Stripe-Signature"]
    moment, signature, _ = good.split(",")
    wrong = ["", moment, signature, good.replace("v1=", "v0="), good.replace("v1=", "v1=0"), f"t=soon,{signature}"]
    wrong += [
        f"t={'9' * 30},{signature}",
        f"{moment[:-1]}{(int(moment[-1]) + 1) % 10},{signature}",
        f"{moment},v1={'é' * 64}",
    ]
    return [{}, *({"Stripe-Signature": each} for each in wrong)]


@pytest.fixture
def simulated() -> Side:
    gateway = SimulatedGateway(secrets=[SECRET], clock=timezone.now)

    def webhooks() -> list[tuple[bytes, Mapping[str, str]]]:
        sent: list[tuple[bytes, Mapping[str, str]]] = []
        gateway.send_webhooks(lambda body, headers: sent.append((body, headers)))
        return sent

    named = {"ok": "sim_ok", "declined": "sim_declined", "action": "sim_action_required", "lost": "sim_unknown"}
    return Side(
        gateway,
        {**named, "later": "sim_duplicate_webhook", "none": "sim_none", "disputed": "sim_disputed"},
        webhooks,
        forged,
    )


@pytest.fixture
def http() -> Iterator[Side]:
    with fake_gateway.serving(SECRET) as server:
        gateway = HttpGateway(server.url, secrets=[SECRET], clock=timezone.now)
        named = {"ok": "pay_ok", "declined": "pay_declined", "action": "pay_action", "lost": "pay_lost"}
        named["disputed"] = "pay_disputed"
        yield Side(gateway, {**named, "later": "pay_later", "none": "pay_none"}, server.webhooks, forged)


@pytest.fixture
def stripe() -> Iterator[Side]:
    with fake_stripe.serving() as server:
        gateway = StripeGateway(fake_stripe.KEY, secrets=[fake_stripe.SECRET], url=server.url)
        named = {"ok": "pm_card_visa", "declined": "pm_card_visa_chargeDeclined", "lost": "pm_lost"}
        named |= {"action": "pm_card_threeDSecure2Required", "later": "pm_later", "none": "pm_none"}
        named["disputed"] = "pm_card_createDispute"
        yield Side(gateway, named, server.webhooks, forged_as_stripe, server.authenticate)


@pytest.fixture
def checkout(stripe: Side) -> Side:
    """The same gateway, by the method that sends the customer to Stripe's own page."""
    return replace(stripe, methods={"ok": "stripe_checkout", "none": "pm_none"})


@pytest.fixture
def bank() -> Side:
    return Side(registry.of("bank"), {"ok": "bank_transfer", "none": "pay_none"}, list)


@pytest.fixture
def usdc(settings) -> Side:
    settings.SIMULATED_CHAIN, settings.USDC_RATE = True, "1"
    return Side(registry.usdc(), {"ok": "usdc", "none": "pay_none"}, list)


@pytest.fixture
def x402(settings) -> Side:
    settings.SIMULATED_CHAIN, settings.USDC_RATE = True, "1"
    return Side(registry.x402(), {"ok": str(x402_cast.accepted().pk), "none": "pay_none"}, list)


# Whose payers cannot take a payment back.
@pytest.fixture(params=["bank", "usdc", "x402"])
def undisputed_side(request) -> Side:
    return request.getfixturevalue(request.param)


# What is promised whether money is taken at once or is waited for.
@pytest.fixture(params=[*registry.ALL, "checkout"])
def any_side(request) -> Side:
    return request.getfixturevalue(request.param)


@pytest.fixture(params=["simulated", "http", "stripe"])
def side(request) -> Side:
    return request.getfixturevalue(request.param)


def test_money_is_taken(side):
    order = side.order("ok")

    charge = side.gateway.create(order)

    assert (charge.state, charge.amount, charge.currency, charge.captured) == (S.SUCCEEDED, 1250, "EUR", 1250)
    assert (charge.reference, charge.refunded, bool(charge.ref)) == (order.reference, 0, True)


@pytest.mark.parametrize(("currency", "amount"), [("JPY", 50), ("KWD", 12_340), ("EUR", 99_999_999)])
def test_amounts_are_minor_units_of_any_currency(side, currency, amount):
    charge = side.gateway.create(side.order("ok", currency=currency, amount=amount))

    assert (charge.amount, charge.captured, charge.currency) == (amount, amount, currency)


def test_a_decline_is_an_answer_with_its_reason(side):
    charge = side.gateway.create(side.order("declined"))

    assert (charge.state, charge.captured, charge.failure_code) == (S.FAILED, 0, "card_declined")
    assert charge.failure_message.endswith("card was declined.")


def test_the_same_reference_again_is_the_same_charge(any_side):
    order = any_side.order("ok")

    assert any_side.gateway.create(order) == any_side.gateway.create(order)


def test_a_reference_stands_for_one_amount(any_side):
    order = any_side.order("ok")
    any_side.gateway.create(order)

    with pytest.raises(Refused):
        any_side.gateway.create(any_side.order("ok", reference=order.reference, amount=1))


def test_an_unknown_method_is_refused_and_nothing_is_charged(any_side):
    order = any_side.order("none")

    with pytest.raises(Refused):
        any_side.gateway.create(order)
    with pytest.raises(NotFound):
        any_side.gateway.fetch(reference=order.reference)


def test_an_action_is_asked_for_and_confirmed_once(side):
    waiting = side.gateway.create(side.order("action"))
    assert (waiting.state, waiting.captured) == (S.REQUIRES_ACTION, 0)
    assert waiting.action_url.startswith("https://")
    side.customer_acts(waiting.ref)

    done = [side.gateway.confirm(waiting.ref, key="confirm") for _ in range(2)]

    assert [(each.state, each.captured) for each in done] == [(S.SUCCEEDED, 1250)] * 2


def test_what_is_only_authorized_is_captured_once_and_whole(side):
    held = side.gateway.create(side.order("ok", capture=False))
    assert (held.state, held.captured) == (S.AUTHORIZED, 0)

    with pytest.raises(Refused):
        side.gateway.capture(held.ref, amount=1251, key="too much")
    taken = [side.gateway.capture(held.ref, amount=1250, key="capture") for _ in range(2)]

    assert [(each.state, each.captured) for each in taken] == [(S.SUCCEEDED, 1250)] * 2


@pytest.mark.parametrize(("story", "capture"), [("action", True), ("ok", False), ("later", True)])
def test_what_took_no_money_is_cancelled(side, story, capture):
    charge = side.gateway.create(side.order(story, capture=capture))

    assert side.gateway.cancel(charge.ref, key="cancel").state == S.CANCELLED
    assert side.gateway.fetch(ref=charge.ref).state == S.CANCELLED


def test_what_took_money_is_not_cancelled_and_the_answer_says_so(side):
    charge = side.gateway.create(side.order("ok"))

    assert side.gateway.cancel(charge.ref, key="cancel").state == S.SUCCEEDED


def test_money_is_given_back_in_parts_and_never_more_than_was_taken(side):
    charge = side.gateway.create(side.order("ok"))

    first = side.gateway.refund(charge.ref, amount=1000, key="first")
    assert (first.state, first.amount) == (RepaymentState.SUCCEEDED, 1000)
    with pytest.raises(Refused):
        side.gateway.refund(charge.ref, amount=251, key="too much")
    side.gateway.refund(charge.ref, amount=250, key="rest")

    assert side.gateway.fetch(ref=charge.ref).refunded == 1250


def test_the_same_refund_again_gives_nothing_more(side):
    charge = side.gateway.create(side.order("ok"))

    refunds = [side.gateway.refund(charge.ref, amount=700, key="once") for _ in range(2)]

    assert refunds[0] == refunds[1] == side.gateway.fetch_refund(key="once", ref=charge.ref)
    assert side.gateway.fetch(ref=charge.ref).refunded == 700
    with pytest.raises(Refused):
        side.gateway.refund(charge.ref, amount=1, key="once")


def test_nothing_is_given_back_of_what_was_not_taken(side):
    charge = side.gateway.create(side.order("declined"))

    with pytest.raises(Refused):
        side.gateway.refund(charge.ref, amount=1, key="r")


def test_a_charge_is_found_by_either_side_s_id_and_nothing_else_is(any_side):
    order = any_side.order("ok")
    charge = any_side.gateway.create(order)

    assert any_side.gateway.fetch(ref=charge.ref) == any_side.gateway.fetch(reference=order.reference) == charge
    for wanted in ({"ref": "no-such"}, {"reference": "no-such"}):
        with pytest.raises(NotFound):
            any_side.gateway.fetch(**wanted)
    with pytest.raises(NotFound):
        any_side.gateway.fetch_refund(key="no-such", ref=charge.ref)
    for act in (any_side.gateway.confirm, any_side.gateway.cancel):
        with pytest.raises(NotFound):
            act("no-such", key=f"{act.__name__} of none")


def test_a_lost_answer_is_said_to_be_lost_and_asking_tells_that_the_money_was_taken(side):
    order = side.order("lost")

    with pytest.raises(AnswerLost):
        side.gateway.create(order)

    assert side.gateway.fetch(reference=order.reference).captured == 1250


def test_what_pays_later_is_told_by_a_signed_webhook(side):
    order = side.order("later")
    charge = side.gateway.create(order)
    assert (charge.state, charge.captured) == (S.PROCESSING, 0)

    events = [
        side.gateway.read_webhook(body=body, headers=headers, now=timezone.now()) for body, headers in side.webhooks()
    ]

    assert (events[-1].state, events[-1].ref, events[-1].reference) == (S.SUCCEEDED, charge.ref, order.reference)
    assert (events[-1].amount, events[-1].currency) == (1250, "EUR")
    assert side.gateway.fetch(ref=charge.ref).state == S.SUCCEEDED


def test_a_webhook_that_is_not_signed_so_or_not_now_is_refused(side):
    side.gateway.create(side.order("ok"))
    ((body, headers), *_) = side.webhooks()
    now = timezone.now()

    wrong = [
        (body + b" ", headers, now),
        *((body, each, now) for each in side.forged(headers)),
        (body, headers, now + timedelta(minutes=6)),
        (body, headers, now - timedelta(minutes=6)),
    ]
    for each in wrong:
        with pytest.raises(BadSignature):
            side.gateway.read_webhook(body=each[0], headers=each[1], now=each[2])
    assert side.gateway.read_webhook(body=body, headers=headers, now=now).state == S.SUCCEEDED


def disputed(side: Side) -> tuple[str, DisputeWord]:
    """A payment whose payer wants it back, and what the signed webhooks said of that."""
    charge = side.gateway.create(side.order("disputed"))
    return charge.ref, words(side)[-1][1]


def words(side: Side) -> list[tuple[str, DisputeWord]]:
    now = timezone.now()
    events = [side.gateway.read_webhook(body=body, headers=headers, now=now) for body, headers in list(side.webhooks())]
    return [(event.ref, event.dispute) for event in events if event.dispute is not None]


def test_a_disputed_payment_is_told_of_with_its_amount_and_until_when_to_answer(side):
    charge = side.gateway.create(side.order("disputed"))

    said = words(side)

    assert {ref for ref, _ in said} == {charge.ref}
    word = said[-1][1]
    assert (word.state, word.amount, word.has_evidence, bool(word.reason)) == ("opened", 1250, False, True)
    assert timedelta(days=6) < word.evidence_due_at - timezone.now() < timedelta(days=8)
    assert side.gateway.fetch_dispute(word.ref) == replace(word, reason=side.gateway.fetch_dispute(word.ref).reason)


def test_evidence_is_handed_in_once_and_said_to_be_there(side):
    _, word = disputed(side)
    texts = {"uncategorized_text": "It was used.\nOn two days: ä €", "access_activity_log": "2026-11-26 a run"}

    said = [side.gateway.give_evidence(word.ref, evidence=texts, key="evidence") for _ in range(2)]

    assert said[0].state == "under_review"
    assert [(each.ref, each.has_evidence) for each in said] == [(word.ref, True)] * 2
    assert words(side)[0][1].state == "under_review"
    assert side.gateway.fetch_dispute(word.ref).has_evidence
    for key in ("evidence", "another"):
        with pytest.raises(Refused):
            side.gateway.give_evidence(word.ref, evidence={"uncategorized_text": "More."}, key=key)


def test_there_is_no_evidence_for_a_dispute_nobody_heard_of(side):
    with pytest.raises(NotFound):
        side.gateway.fetch_dispute("dp_none")
    with pytest.raises(NotFound):
        side.gateway.give_evidence("dp_none", evidence={"uncategorized_text": "It was used."}, key="none")


def test_who_cannot_be_disputed_says_so(undisputed_side):
    for ask in (
        lambda: undisputed_side.gateway.fetch_dispute("dp_1"),
        lambda: undisputed_side.gateway.give_evidence("dp_1", evidence={"uncategorized_text": "Used."}, key="k"),
    ):
        with pytest.raises(Refused, match="cannot be disputed"):
            ask()
