import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.gateways import answers
from billing.gateways import stripe_card_answers as words

METHOD = {
    "object": "payment_method", "id": "pm_1", "type": "card", "customer": "cus_1",
    "card": {"brand": "visa", "last4": "4242", "exp_month": 12, "exp_year": 2034},
}  # fmt: skip
INTENT = {"object": "setup_intent", "status": "succeeded", "payment_method": METHOD}
DONE = {
    "object": "checkout.session", "mode": "setup", "id": "cs_1", "status": "complete", "customer": "cus_1",
    "metadata": {"reference": "ours"}, "setup_intent": INTENT, "url": None,
}  # fmt: skip
OPEN = {**DONE, "status": "open", "setup_intent": None, "url": "https://checkout.stripe.com/c/pay/cs_1"}


def test_a_card_that_was_given_is_read():
    found = words.page(DONE)

    assert (found.ref, found.reference, found.customer, found.state) == ("cs_1", "ours", "cus_1", "done")
    assert found.card == words.Card("cus_1:pm_1", "Visa", "4242", 12, 2034)
    assert found.card.label == "Visa …4242"


@pytest.mark.parametrize(
    ("said", "state"),
    [
        (OPEN, "open"),
        ({**OPEN, "status": "expired", "url": None}, "closed"),
        ({**DONE, "setup_intent": {**INTENT, "status": "processing"}}, "on_its_way"),
        ({**DONE, "setup_intent": {**INTENT, "status": "requires_action"}}, "on_its_way"),
        ({**DONE, "setup_intent": {**INTENT, "status": "canceled"}}, "closed"),
        ({**DONE, "setup_intent": {**INTENT, "status": "requires_payment_method"}}, "closed"),
    ],
)
def test_how_a_page_stands(said, state):
    found = words.page(said)

    assert (found.state, found.card) == (state, None)
    assert bool(found.address) == (state == "open")


@pytest.mark.parametrize(
    "change",
    [
        {"object": "setup_intent"},
        {"mode": "payment"},
        {"status": "imagined"},
        {"id": None},
        {"metadata": {}},
        {"metadata": None},
        {"customer": None},
        {"customer": "cus_2"},
        {"setup_intent": None},
        {"setup_intent": "seti_1"},
        {"setup_intent": {**INTENT, "payment_method": "pm_1"}},
        {"setup_intent": {**INTENT, "payment_method": {**METHOD, "type": "sepa_debit"}}},
        {"setup_intent": {**INTENT, "payment_method": {**METHOD, "customer": None}}},
        {"setup_intent": {**INTENT, "payment_method": {**METHOD, "id": "pm_1 or 1=1"}}},
        *(
            {"setup_intent": {**INTENT, "payment_method": {**METHOD, "card": {**METHOD["card"], **wrong}}}}
            for wrong in ({"last4": "42"}, {"last4": "42x2"}, {"exp_month": 13}, {"exp_month": True}, {"exp_year": 34})
        ),
        {"status": "open", "url": "javascript:alert(1)"},
        {"status": "open", "url": "http://stripe.example/"},
    ],
)
def test_what_is_odd_is_not_believed(change):
    with pytest.raises(answers.Unbelievable):
        words.page({**DONE, **change})


@given(st.none() | st.text() | st.lists(st.integers()) | st.dictionaries(st.sampled_from([*DONE]), st.text()))
def test_whatever_comes_is_believed_or_not(said):
    for read in (words.page, words.customer, words.is_detached):
        with pytest.raises(answers.Unbelievable):
            read(said)


@pytest.mark.parametrize(
    ("said", "written"),
    [("visa", "Visa"), ("amex", "American Express"), ("cartes_bancaires", "Cartes bancaires"), (None, "Card"), ("", "Card")],
)  # fmt: skip
def test_brands_are_written_as_people_write_them(said, written):
    assert words.brand(said) == written


def test_a_customer_and_whether_a_card_is_anybody_s():
    assert words.customer({"object": "customer", "id": "cus_1"}) == "cus_1"
    assert words.is_detached({**METHOD, "customer": None})
    assert not words.is_detached(METHOD)
