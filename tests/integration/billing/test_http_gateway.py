"""The HTTP gateway is not trusted: whatever comes back that no gateway says, is no answer."""

from __future__ import annotations

import gzip
import json
import socket
import time
from contextlib import suppress

import pytest
from django.utils import timezone

from billing.gateways import AnswerLost, NotFound, Order, Refused
from billing.gateways.http import MOST_BYTES, HttpGateway
from tests import fake_gateway
from tests.payment_cast import SECRET

pytestmark = pytest.mark.allow_hosts(["127.0.0.1"])
ORDER = Order(reference="ours-1", amount=1250, currency="EUR", method="pay_ok", return_url="https://ntd.example/")
GOOD = {
    "id": "pay_1", "reference": "ours-1", "state": "succeeded", "amount": 1250, "currency": "EUR", "captured": 1250,
    "refunded": 0,
}  # fmt: skip


@pytest.fixture
def server():
    with fake_gateway.serving(SECRET) as server:
        yield server


def gateway(url: str, deadline: float = 5.0, secret: str = SECRET) -> HttpGateway:
    return HttpGateway(url, secrets=[secret], clock=timezone.now, deadline_seconds=deadline)


def answers(server, status: int, said: object, **headers: str) -> None:
    body = said if isinstance(said, bytes) else json.dumps(said).encode()
    server.mischief = lambda handler: fake_gateway.answer(handler, status, body, **headers)


def test_every_request_is_signed_and_carries_its_key(server):
    found = gateway(server.url + "/")

    charge = found.create(ORDER)
    found.fetch(ref=charge.ref)
    found.fetch(reference="ours-1")
    found.refund(charge.ref, amount=1, key="k")
    found.fetch_refund(key="k", ref=charge.ref)

    assert server.requests == [
        "POST /payments",
        "GET /payments/pay_1",
        "GET /payments?idempotency_key=ours-1",
        "POST /payments/pay_1/refunds",
        "GET /refunds?idempotency_key=k",
    ]


def test_with_another_secret_the_gateway_refuses(server):
    with pytest.raises(Refused, match="status 401"):
        gateway(server.url, secret="whsec_" + "QUJD" * 12).create(ORDER)
    assert server.books.payments == {}


@pytest.mark.parametrize(
    "change",
    [
        {"state": "teleported"}, {"state": None}, {"amount": "1250"}, {"amount": 12.5}, {"amount": True}, {"amount": -1},
        {"amount": 1249, "captured": 1249}, {"amount": 10**30}, {"currency": "USD"}, {"captured": 1249},
        {"captured": 1251}, {"refunded": 1251}, {"reference": "ours-2"}, {"reference": None}, {"id": ""}, {"id": 7},
        {"id": "x" * 201}, {"id": "a\nb"}, {"state": "processing"}, {"state": "failed"},
        {"state": "requires_action", "captured": 0, "action_url": "javascript:alert(1)"},
        {"state": "requires_action", "captured": 0, "action_url": "http://bank.example/"},
        {"state": "requires_action", "captured": 0, "action_url": "https://[bank/"},
        {"state": "requires_action", "captured": 0, "action_url": ["https://bank.example/"]},
    ],
    ids=str,
)  # fmt: skip
def test_an_answer_of_which_a_part_cannot_be_is_not_believed(server, change):
    answers(server, 200, GOOD | change)

    with pytest.raises(AnswerLost):
        gateway(server.url).create(ORDER)


def test_the_same_answer_unchanged_is(server):
    answers(server, 200, GOOD)

    assert gateway(server.url).create(ORDER).captured == 1250


@pytest.mark.parametrize("status", [302, 307, 408, 409, 425, 429, 500, 502, 503, 504])
def test_a_status_that_says_nothing_about_the_money_is_no_answer(server, status):
    answers(server, status, GOOD, Location="http://127.0.0.1:1/")

    with pytest.raises(AnswerLost):
        gateway(server.url).create(ORDER)


@pytest.mark.parametrize("status", [400, 401, 403, 422])
def test_a_refusal_is_one_and_its_words_are_only_shown(server, status):
    answers(server, status, {"message": "<b>no</b>", "state": "succeeded"})

    with pytest.raises(Refused, match="<b>no</b>"):
        gateway(server.url).create(ORDER)


@pytest.mark.parametrize("body", [b"", b"[]", b"null", b"<html>", b"\xff", b"[" * 100_000, b'{"id": NaN}'])
def test_what_is_no_json_object_is_no_answer(server, body):
    for status in (200, 402):
        answers(server, status, body)
        with pytest.raises((AnswerLost, Refused)) as raised:
            gateway(server.url).create(ORDER)
        assert status == 402 or raised.type is AnswerLost


def test_an_answer_without_end_is_cut_off(server):
    answers(server, 200, b"x" * (MOST_BYTES + 1))

    with pytest.raises(AnswerLost, match="longer than"):
        gateway(server.url).create(ORDER)


def test_an_answer_that_unpacks_is_not_unpacked(server):
    answers(server, 200, gzip.compress(json.dumps(GOOD).encode()), Content_Encoding="gzip")

    with pytest.raises(AnswerLost, match="packed"):
        gateway(server.url).create(ORDER)


@pytest.mark.parametrize("start", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"], ids=["headers", "body"])
def test_an_answer_that_drips_in_holds_nobody(server, start):
    def drip(handler) -> None:
        with suppress(OSError):
            handler.wfile.write(start or b"HTTP/1.1 200 OK\r\n")
            while True:
                handler.wfile.write(b"x")
                handler.wfile.flush()
                time.sleep(0.01)

    server.mischief = drip
    began = time.monotonic()

    with pytest.raises(AnswerLost, match="did not answer within"):
        gateway(server.url, deadline=0.3).create(ORDER)

    assert time.monotonic() - began < 4


def test_a_gateway_that_is_not_there_charged_nothing_and_tells_nothing():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        found = gateway(f"http://127.0.0.1:{taken.getsockname()[1]}")

        with pytest.raises(Refused, match="could not be reached"):
            found.create(ORDER)
        with pytest.raises(AnswerLost):
            found.fetch(reference="ours-1")


def test_only_a_gateway_s_own_words_say_that_it_knows_nothing(server):
    answers(server, 404, b"<html>nginx</html>")
    with pytest.raises(AnswerLost):
        gateway(server.url).fetch(ref="pay_1")
    answers(server, 404, {"code": "no_route"})
    with pytest.raises(AnswerLost):
        gateway(server.url).fetch(ref="pay_1")
    with pytest.raises(AnswerLost):
        gateway(server.url).refund("pay_1", amount=1, key="k")
    answers(server, 404, {"code": "not_found"})
    with pytest.raises(NotFound):
        gateway(server.url).fetch(ref="pay_1")


@pytest.mark.parametrize("said", [{}, {"payments": {}}, {"payments": [GOOD, GOOD]}, {"payments": [1]}])
def test_a_search_that_finds_what_cannot_be_finds_nothing(server, said):
    answers(server, 200, said)

    with pytest.raises(AnswerLost):
        gateway(server.url).fetch(reference="ours-1")


def test_an_answer_about_another_payment_is_no_answer(server):
    answers(server, 200, GOOD)
    with pytest.raises(AnswerLost, match="another payment"):
        gateway(server.url).fetch(ref="pay_2")
    answers(server, 200, {"payments": [GOOD]})
    with pytest.raises(AnswerLost, match="another payment"):
        gateway(server.url).fetch(reference="ours-2")
    answers(server, 200, {"id": "r", "state": "succeeded", "amount": 2})
    with pytest.raises(AnswerLost, match="another refund"):
        gateway(server.url).refund("pay_1", amount=1, key="k")


def test_ids_of_a_gateway_cannot_leave_their_place_in_an_address(server):
    with pytest.raises((NotFound, AnswerLost)):
        gateway(server.url).fetch(ref="../payments?x=y#z")

    assert server.requests == ["GET /payments/..%2Fpayments%3Fx%3Dy%23z"]
