"""Signatures of the Standard Webhooks, against the specification's own library."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook

from billing.gateways import signatures

SECRET = "whsec_bnRkLXRlc3Qtc2VjcmV0LW9mLXRoaXJ0eS1ieXRlcw=="
OTHER = "whsec_" + "QUJD" * 12
NOON = datetime(2026, 3, 18, 12, tzinfo=UTC)
BODY = '{"id": "evt_1", "text": "straße"}'.encode()


def sign(**changes):
    return signatures.sign(**{"body": BODY, "secret": SECRET, "id": "msg_1", "now": NOON} | changes)


def check(headers, body=BODY, secrets=(SECRET,), now=NOON):
    return signatures.check(body, headers, secrets=secrets, now=now)


def test_what_is_signed_is_good_and_says_its_id():
    assert check(sign()) == "msg_1"


def test_the_library_finds_ours_good():
    now = datetime.now(UTC)

    Webhook(SECRET).verify(BODY, sign(now=now), json_parse=False)


def test_the_example_of_the_specification():
    """From the specification's page: the library's own test vector."""
    secret, body = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", b'{"test": 2432232314}'
    moment = datetime.fromtimestamp(1614265330, UTC)

    headers = signatures.sign(body, secret=secret, id="msg_p5jXN8AQM9LWM0D4loKWxJek", now=moment)

    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_names_of_headers_may_be_written_in_any_case():
    assert check({name.title(): value for name, value in sign().items()})


def test_while_a_secret_is_replaced_either_is_good():
    assert check(sign(secret=OTHER), secrets=(SECRET, OTHER))
    joined = {**sign(), "webhook-signature": f"{sign(secret=OTHER)['webhook-signature']} {sign()['webhook-signature']}"}
    assert check(joined)


@pytest.mark.parametrize("minutes", [-5, 5])
def test_five_minutes_are_near_enough(minutes):
    assert check(sign(), now=NOON + timedelta(minutes=minutes))


@pytest.mark.parametrize(
    ("headers", "body", "now"),
    [
        (sign(secret=OTHER), BODY, NOON),
        (sign(), BODY + b" ", NOON),
        (sign(), b"\xff", NOON),
        (sign(), BODY, NOON + timedelta(minutes=5, seconds=1)),
        (sign(), BODY, NOON - timedelta(minutes=5, seconds=1)),
        (sign() | {"webhook-id": "msg_2"}, BODY, NOON),
        (sign() | {"webhook-timestamp": "1e9"}, BODY, NOON),
        (sign() | {"webhook-timestamp": "-1"}, BODY, NOON),
        (sign() | {"webhook-timestamp": "nan"}, BODY, NOON),
        (sign() | {"webhook-signature": ""}, BODY, NOON),
        (sign() | {"webhook-signature": "v1"}, BODY, NOON),
        (sign() | {"webhook-signature": "v1,é,é"}, BODY, NOON),
        ({}, BODY, NOON),
    ],
)
def test_everything_else_is_wrong(headers, body, now):
    with pytest.raises(signatures.Wrong):
        check(headers, body, now=now)


@given(st.dictionaries(st.sampled_from(sorted(sign())), st.text(max_size=40)))
def test_nonsense_is_wrong_and_nothing_worse(headers):
    with pytest.raises(signatures.Wrong):
        check(sign(id="other") | headers | {"webhook-id": "another"})


@pytest.mark.parametrize("text", ["", "whsec_", "short", "whsec_c2hvcnQ=", "whsec_****"])
def test_what_is_too_short_is_no_secret(text):
    assert not signatures.is_secret(text)


@pytest.mark.parametrize("text", [SECRET, SECRET.removeprefix("whsec_"), OTHER])
def test_24_bytes_in_base64_are_one(text):
    assert signatures.is_secret(text)
