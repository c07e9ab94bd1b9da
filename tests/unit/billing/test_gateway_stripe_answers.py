import json
from datetime import UTC, datetime, timedelta

import pytest
import stripe
from hypothesis import given
from hypothesis import strategies as st

from billing.gateways import BadSignature, ChargeState, RepaymentState, Unreadable, answers, stripe_answers

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)
SECRET = "whsec_one0123456789abcdef"
GOOD = {
    "object": "payment_intent", "id": "pi_1", "status": "succeeded", "amount": 1250, "amount_received": 1250,
    "currency": "eur", "metadata": {"reference": "ours"}, "latest_charge": {"id": "ch_1", "amount_refunded": 0},
}  # fmt: skip
NAMES = st.sampled_from([*GOOD, "next_action", "last_payment_error"])
VALUES = st.none() | st.booleans() | st.integers() | st.text(max_size=6) | st.dictionaries(NAMES, st.integers())


@pytest.mark.parametrize(
    ("currency", "minor", "counted"),
    [
        ("EUR", 1250, 1250), ("JPY", 500, 500), ("KWD", 12_340, 12_340), ("ISK", 7, 700), ("UGX", 7, 700),
        ("MGA", 700, 7),
    ],
)  # fmt: skip
def test_stripe_counts_some_currencies_otherwise(currency, minor, counted):
    assert stripe_answers.to_stripe(minor, currency) == counted
    assert stripe_answers.from_stripe(counted, currency) == minor


@pytest.mark.parametrize(("currency", "minor"), [("KWD", 12_345), ("MGA", 701)])
def test_what_stripe_cannot_count_is_refused(currency, minor):
    with pytest.raises(stripe_answers.Uncountable):
        stripe_answers.to_stripe(minor, currency)


@pytest.mark.parametrize(
    ("changes", "state"),
    [
        ({}, ChargeState.SUCCEEDED),
        ({"status": "requires_payment_method", "amount_received": 0}, ChargeState.FAILED),
        ({"status": "requires_confirmation", "amount_received": 0}, ChargeState.REQUIRES_ACTION),
        ({"status": "requires_capture", "amount_received": 0, "latest_charge": "ch_1"}, ChargeState.AUTHORIZED),
        ({"status": "canceled", "amount_received": 0, "latest_charge": None}, ChargeState.CANCELLED),
    ],
)
def test_an_intent_is_read(changes, state):
    found = stripe_answers.charge(GOOD | changes)

    assert (found.state, found.amount, found.currency, found.reference) == (state, 1250, "EUR", "ours")


@given(st.dictionaries(NAMES, VALUES, max_size=4))
def test_whatever_is_believed_adds_up(changes):
    try:
        found = stripe_answers.charge(GOOD | changes)
    except answers.Unbelievable:
        return

    assert 0 <= found.refunded <= found.captured <= found.amount
    assert (found.state == ChargeState.SUCCEEDED) == (found.captured == found.amount > 0)


@pytest.mark.parametrize(
    ("status", "state"),
    [("pending", RepaymentState.PROCESSING), ("canceled", RepaymentState.FAILED), ("failed", RepaymentState.FAILED)],
)
def test_a_refund_is_read(status, state):
    said = {"object": "refund", "id": "re_1", "status": status, "amount": 5, "currency": "eur"}

    assert stripe_answers.repayment(said).state == state
    for change in ({"status": "lost"}, {"amount": -1}, {"object": "charge"}):
        with pytest.raises(answers.Unbelievable):
            stripe_answers.repayment(said | change)


@pytest.mark.parametrize(
    "token", ["pm_1Abc", "cus_9:pm_1Abc", "card_1"],
)  # fmt: skip
def test_tokens(token):
    assert stripe_answers.TOKEN.fullmatch(token)


@pytest.mark.parametrize("token", ["4242424242424242", "tok_1", "pm_", "pm_1&amount=1", "cus_1", "pm_1:cus_1"])
def test_what_is_no_token(token):
    assert not stripe_answers.TOKEN.fullmatch(token)


@pytest.mark.parametrize(
    "said",
    [
        {}, [], {"type": "x"}, {"type": "payment_intent.succeeded", "id": 7},
        {"type": "payment_intent.succeeded", "id": "e", "data": {"object": GOOD | {"amount": -1}}},
        {"type": "payment_intent.succeeded", "id": "e", "data": {"object": GOOD | {"currency": None}}},
    ],
)  # fmt: skip
def test_what_says_nothing_is_unreadable(said):
    with pytest.raises(Unreadable):
        stripe_answers.event(json.dumps(said).encode())


def test_other_events_say_nothing_of_a_state():
    about = {"object": "charge", "payment_intent": "pi_1"}
    found = stripe_answers.event(json.dumps({"id": "e", "type": "charge.refunded", "data": {"object": about}}).encode())

    assert (found.ref, found.state) == ("pi_1", None)


def test_what_stripe_s_own_library_signs_is_good_for_five_minutes():
    header = stripe.WebhookSignature.generate_signature_header("{}", SECRET, int(NOW.timestamp()))
    for away in (timedelta(0), timedelta(minutes=5), timedelta(minutes=-5)):
        stripe_answers.check_signature(
            b"{}", {"STRIPE-SIGNATURE": header}, secrets=["whsec_new", SECRET], now=NOW + away
        )

    for away in (timedelta(minutes=5, seconds=1), timedelta(minutes=-5, seconds=-1)):
        with pytest.raises(BadSignature):
            stripe_answers.check_signature(b"{}", {"Stripe-Signature": header}, secrets=[SECRET], now=NOW + away)
    with pytest.raises(BadSignature):
        stripe_answers.check_signature(b"{}", {"Stripe-Signature": header}, secrets=["whsec_other"], now=NOW)


DISPUTE = {
    "object": "dispute", "id": "dp_1", "status": "needs_response", "amount": 7, "currency": "isk",
    "payment_intent": "pi_1", "reason": "product_not_received",
    "evidence_details": {"due_by": 1_795_000_000, "has_evidence": True, "submission_count": 0},
}  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "is_heard"),
    [("created", True), ("funds_withdrawn", True), ("funds_reinstated", True), ("closed", True), ("imagined", False)],
)
def test_a_dispute_s_event_says_how_it_stands(kind, is_heard):
    about = DISPUTE | {"amount": 700, "status": "under_review"}
    said = {"id": "e", "type": f"charge.dispute.{kind}", "created": 1_794_000_000, "data": {"object": about}}

    found = stripe_answers.event(json.dumps(said).encode())

    assert (found.ref, found.state, found.dispute is not None) == ("pi_1", None, is_heard)
    if found.dispute is not None:
        word = found.dispute
        assert (word.ref, word.state, word.amount, word.currency) == ("dp_1", "under_review", 7, "ISK")
        assert (word.has_evidence, word.evidence_due_at.year, word.reason) == (False, 2026, "product not received")


@pytest.mark.parametrize(
    "change", [{"id": ""}, {"id": None}, {"status": "imagined"}, {"amount": -1}, {"amount": 7}, {"currency": 7}]
)
def test_a_dispute_that_cannot_be_so_is_unreadable(change):
    said = {"id": "e", "type": "charge.dispute.created", "data": {"object": DISPUTE | {"amount": 700} | change}}

    with pytest.raises(Unreadable):
        stripe_answers.event(json.dumps(said).encode())


@pytest.mark.parametrize(
    "details", [None, [], {}, {"due_by": "soon"}, {"due_by": -1}, {"due_by": True, "submission_count": "1"}]
)
def test_odd_details_of_a_dispute_s_evidence_say_nothing(details):
    found = stripe_answers.dispute(DISPUTE | {"amount": 700, "evidence_details": details})

    assert (found.evidence_due_at, found.has_evidence) == (None, False)
