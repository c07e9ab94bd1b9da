import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.gateways import ChargeState, Unreadable, events

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


def read(**said):
    return events.read(json.dumps({"id": "evt_1", "type": "payment.succeeded", "data": {}} | said).encode())


@pytest.mark.parametrize("state", ChargeState)
def test_the_type_says_the_state(state):
    assert read(type=f"payment.{state}").state == state


def test_an_update_says_it_in_the_payment():
    about = {"payment": {"id": "pay_1", "state": "failed"}}

    assert read(type="payment.updated", data=about).state == ChargeState.FAILED
    assert read(type="payment.succeeded", data=about).state == ChargeState.SUCCEEDED


@pytest.mark.parametrize(
    "type", ["payment.teleported", "customer.succeeded", "payment", "succeeded", "payment.succeeded.x"]
)
def test_an_unknown_type_says_nothing(type):
    assert read(type=type).state is None


def test_a_payment_is_named_by_its_id_or_tells_both_sides_ids():
    plain, whole = read(data={"payment": "p"}), read(data={"payment": {"id": "theirs", "reference": "ours"}})

    assert (plain.ref, plain.reference) == ("p", "p")
    assert (whole.ref, whole.reference) == ("theirs", "ours")


@pytest.mark.parametrize("amount", [-1, 1.5, True, "12.50", None, 10**16, {"amount": "1"}])
def test_an_amount_that_is_none_is_left_out(amount):
    assert read(data={"payment": {"id": "p", "amount": amount}}).amount is None


@pytest.mark.parametrize("moment", ["2026-03-18T12:00:00", "yesterday", 7, None, ""])
def test_a_time_without_a_zone_is_none(moment):
    assert read(created_at=moment).created_at is None
    assert read(created_at="2026-03-18T12:00:00+00:00").created_at is not None


@pytest.mark.parametrize("change", [{"id": None}, {"id": ""}, {"id": "x" * 201}, {"id": "a\nb"}, {"type": 1}])
def test_an_event_without_a_name_is_unreadable(change):
    with pytest.raises(Unreadable):
        read(**change)


@given(JSON)
def test_whatever_comes_is_read_or_refused(said):
    with contextlib.suppress(Unreadable):
        events.read(json.dumps(said).encode())


@given(JSON)
def test_whatever_an_event_is_about_is_read(about):
    found = read(data=about)

    assert isinstance(found.ref, str)
    assert isinstance(found.reference, str)
