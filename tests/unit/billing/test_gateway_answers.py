import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.gateways import Charge, ChargeState, RepaymentState, answers

GOOD = {
    "id": "pay_1", "reference": "ours", "state": "succeeded", "amount": 5, "currency": "EUR", "captured": 5, "refunded": 0
}  # fmt: skip
NAMES = st.sampled_from([*GOOD, "action_url", "failure_code", "failure_message"])
VALUES = st.none() | st.booleans() | st.integers() | st.text(max_size=6) | st.lists(st.integers(), max_size=2)


def test_a_good_answer_is_believed():
    assert answers.charge(GOOD) == Charge("pay_1", "ours", ChargeState.SUCCEEDED, 5, "EUR", 5, 0)


@given(st.dictionaries(NAMES, VALUES, max_size=4))
def test_whatever_is_believed_adds_up(changes):
    try:
        found = answers.charge(GOOD | changes)
    except answers.Unbelievable:
        return

    assert 0 <= found.refunded <= found.captured <= found.amount
    assert (found.state == ChargeState.SUCCEEDED) == (found.captured == found.amount > 0)
    assert found.action_url in ("",) or found.action_url.startswith(("https://", "http://127.0.0.1"))


@pytest.mark.parametrize(
    "address", ["https://bank.example/x?y=1", "http://127.0.0.1:8000/", "http://localhost/", "", None]
)
def test_where_a_customer_may_be_sent(address):
    assert answers.charge(GOOD | {"action_url": address}).action_url == (address or "")


@pytest.mark.parametrize(
    "address",
    ["http://bank.example/", "javascript:alert(1)", "//bank.example", "https://", "https://ünicode/", "https://a\n", 7],
)
def test_where_a_customer_may_not_be_sent(address):
    with pytest.raises(answers.Unbelievable):
        answers.charge(GOOD | {"action_url": address})


def test_a_gateway_s_words_are_only_shown():
    found = answers.charge(GOOD | {"failure_message": "no\x00\n" + "x" * 400, "failure_code": 7})

    assert found.failure_message == "no" + "x" * 298
    assert found.failure_code == ""


def test_a_refund_is_read_alike():
    assert answers.repayment({"id": "r", "state": "processing", "amount": 5}).state == RepaymentState.PROCESSING
    for change in ({"state": "lost"}, {"amount": -5}, {"id": None}):
        with pytest.raises(answers.Unbelievable):
            answers.repayment({"id": "r", "state": "processing", "amount": 5} | change)


@pytest.mark.parametrize("body", [b"", b"[]", b"1", b"{", b"\xff", b"[" * 100_000])
def test_what_is_no_json_object_is_no_answer(body):
    with pytest.raises(answers.Unbelievable):
        answers.read(body)


def test_a_search_finds_one_or_none():
    assert answers.only(json.loads('{"payments": []}'), "payments") is None
    assert answers.only({"payments": [GOOD]}, "payments") == GOOD
    for said in ({}, {"payments": [GOOD, GOOD]}, {"payments": [1]}, {"payments": GOOD}):
        with pytest.raises(answers.Unbelievable):
            answers.only(said, "payments")
