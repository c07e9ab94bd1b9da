"""The HTTP promises of x402: 402 says how to pay, what is signed pays once, and what does not pay writes nothing."""

from __future__ import annotations

import base64
import json

import httpx
import pytest
from coincurve import PrivateKey
from django.utils import timezone

from billing.chains import simulated
from billing.gateways import AnswerLost
from billing.gateways.x402 import wire
from billing.gateways.x402.facilitators import HttpFacilitator, Settled, SimulatedFacilitator
from billing.models import IdempotencyRecord, Payment, SimulatedTransfer, X402Authorization
from tests import ledger_cast
from tests import x402_cast as cast

OTHER = "0x" + "cc" * 20


@pytest.fixture(autouse=True)
def _on(db, settings):
    settings.SIMULATED_CHAIN, settings.USDC_RATE, settings.USDC_CONFIRMATIONS = True, "1", 3
    simulated.mine(now=timezone.now(), blocks=10)
    yield
    ledger_cast.assert_books_are_right()


def ask(caller, said=None, *, credits="1000", key="k", raw=None):
    """POST topups by x402; `said` is the signed payload."""
    headers = {}
    if said is not None or raw is not None:
        headers["PAYMENT-SIGNATURE"] = raw or base64.b64encode(json.dumps(said).encode()).decode()
    return caller.post("topups", {"credits": credits, "payment_method": "x402"}, key=key, headers=headers)


def offer(caller, scheme="exact", credits="1000"):
    return cast.offers(ask(caller, credits=credits, key="offer").headers["PAYMENT-REQUIRED"])[scheme]


def signed(caller, scheme="exact", *, credits="1000", **changes):
    return cast.pay(offer(caller, scheme, credits), now=timezone.now(), **changes)


def available(caller):
    return caller.get("account/balance").json()["available"]


def told(answer):
    return json.loads(base64.b64decode(answer.headers["PAYMENT-RESPONSE"]))


def nothing_written():
    return (Payment.objects.count(), X402Authorization.objects.count(), SimulatedTransfer.objects.count()) == (0, 0, 0)


def test_without_a_payment_the_answer_says_how_to_pay(alice):
    answer = ask(alice)

    found = answer.json()
    assert (answer.status_code, found["code"], found["x402Version"]) == (402, "payment_required", 2)
    assert cast.offers(answer.headers["PAYMENT-REQUIRED"]) == {each["scheme"]: each for each in found["accepts"]}
    assert {each["amount"] for each in found["accepts"]} == {"10000000"}
    assert nothing_written()


def test_what_is_signed_is_settled_and_credited_once(alice):
    said = signed(alice)

    first = ask(alice, said)
    again = ask(alice, said)

    assert (first.status_code, first.json()["state"], again.json()["id"]) == (201, "succeeded", first.json()["id"])
    assert (available(alice), SimulatedTransfer.objects.count()) == ("2000.000000", 1)
    row = X402Authorization.objects.get()
    assert told(again) == told(first)
    assert told(first) == {
        "success": True,
        "transaction": row.tx_hash,
        "network": simulated.NETWORK,
        "payer": cast.PAYER,
        "amount": "10000000",
    }


def test_a_nonce_pays_once_whoever_sends_it_again(alice, charlie):
    said = signed(alice)
    ask(alice, said)

    for caller, key in ((alice, "other"), (charlie, "k")):
        answer = ask(caller, said, key=key)
        assert (answer.status_code, answer.json()["error"]) == (402, "invalid_exact_evm_payload_nonce_used")
    assert (Payment.objects.count(), SimulatedTransfer.objects.count()) == (1, 1)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"value": "1"}, "invalid_exact_evm_payload_authorization_value_mismatch"),
        ({"to": OTHER}, "invalid_exact_evm_payload_recipient_mismatch"),
        ({"validBefore": "1"}, "invalid_exact_evm_payload_authorization_valid_before"),
        ({"validAfter": "99999999999"}, "invalid_exact_evm_payload_authorization_valid_after"),
        ({"chain_id": 1}, "invalid_exact_evm_payload_signature"),
        ({"key": PrivateKey(b"\1" * 32)}, "invalid_exact_evm_payload_signature"),
    ],
)
def test_what_does_not_pay_is_402_and_nothing_is_written(alice, changes, reason):
    answer = ask(alice, signed(alice, **changes))

    assert (answer.status_code, answer.json()["error"]) == (402, reason)
    assert nothing_written()


def test_an_offer_for_fewer_credits_does_not_buy_more(alice):
    answer = ask(alice, signed(alice, credits="1"), credits="1000")

    assert (answer.status_code, answer.json()["error"]) == (402, "invalid_payment_requirements")
    assert nothing_written()


@pytest.mark.parametrize("raw", ["####", "e30=", "A" * 20_000])
def test_what_cannot_be_read_is_400(alice, raw):
    answer = ask(alice, raw=raw)

    assert (answer.status_code, list(answer.json()["errors"])) == (400, ["PAYMENT-SIGNATURE"])
    assert nothing_written()


def test_a_facilitator_that_says_no_is_402_and_one_that_is_silent_is_502(alice, monkeypatch):
    monkeypatch.setattr(SimulatedFacilitator, "verify", lambda *_: "insufficient_funds")
    answer = ask(alice, signed(alice))
    assert (answer.status_code, answer.json()["error"]) == (402, "insufficient_funds")

    def silent(*_):
        raise AnswerLost("late")

    monkeypatch.setattr(SimulatedFacilitator, "verify", silent)
    assert ask(alice, signed(alice)).status_code == 502
    assert nothing_written()


@pytest.mark.parametrize(
    ("reason", "state"),
    [
        ("insufficient_funds", "failed"),
        ("invalid_exact_evm_payload_signature", "failed"),
        ("invalid_transaction_state", "unknown"),
        ("unexpected_settle_error", "unknown"),
        ("permit2_invalid_nonce", "unknown"),
    ],
)
def test_a_settlement_that_is_refused_fails_only_when_that_is_certain(alice, monkeypatch, reason, state):
    monkeypatch.setattr(SimulatedFacilitator, "settle", lambda *_: Settled(reason=reason))

    answer = ask(alice, signed(alice))

    assert (answer.status_code, answer.json()["state"], available(alice)) == (201, state, "1000.000000")
    if state == "failed":
        assert (told(answer)["success"], told(answer)["errorReason"]) == (False, reason)
    else:
        assert "PAYMENT-RESPONSE" not in answer.headers


def test_another_signature_with_the_same_key_is_another_request(alice):
    first = ask(alice, signed(alice))
    assert first.status_code == 201

    # As if the answer kept for the key were gone.
    IdempotencyRecord.objects.all().delete()
    assert ask(alice, signed(alice)).status_code == 422
    assert X402Authorization.objects.count() == 1


def test_up_to_so_much_is_signed_and_only_what_was_used_is_settled(alice):
    said = signed(alice, "upto", credits="1250")

    answer = ask(alice, said, credits="1250")

    found = answer.json()
    assert (answer.status_code, found["state"], found["credits"]) == (201, "succeeded", "250.000000")
    assert (available(alice), told(answer)["amount"]) == ("1250.000000", "2500000")
    row = X402Authorization.objects.get()
    assert (row.most_units, row.units, SimulatedTransfer.objects.get().units) == (12_500_000, 2_500_000, 2_500_000)
    assert ask(alice, said, credits="1250", key="again").status_code == 402


def test_up_to_what_is_there_already_settles_nothing(alice):
    answer = ask(alice, signed(alice, "upto", credits="1000"))

    assert (answer.status_code, answer.json()["state"]) == (409, "full")
    assert nothing_written()


def test_it_is_404_where_it_is_off_and_no_method_to_keep(alice, settings):
    kept = alice.post("payment-methods", {"token": "x", "gateway": "x402"})
    assert (kept.status_code, list(kept.json()["errors"])) == (400, ["token"])
    settings.SIMULATED_CHAIN = False
    assert ask(alice).status_code == 404


WANTED = {"network": "eip155:8453", "transaction": "0x" + "AB" * 32, "success": True}


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        (httpx.Response(200, json=WANTED), Settled(tx_hash="0x" + "ab" * 32)),
        (
            httpx.Response(402, json={"success": False, "errorReason": "insufficient_funds"}),
            Settled(reason="insufficient_funds"),
        ),
        (httpx.Response(200, json={"success": False}), Settled(reason="unexpected_settle_error")),
        (httpx.Response(200, json={**WANTED, "network": "eip155:1"}), None),
        (httpx.Response(200, json={**WANTED, "transaction": "yes"}), None),
        (httpx.Response(200, json={**WANTED, "amount": "1"}), None),
        (httpx.Response(200, json={**WANTED, "success": "true"}), None),
        (httpx.Response(502, json=WANTED), None),
        (httpx.Response(302, json=None), None),
        (httpx.Response(200, content=b"<html>"), None),
        (httpx.ReadTimeout("late"), None),
    ],
)
def test_a_facilitator_s_answer_is_believed_only_whole(monkeypatch, answer, found):
    sent = []

    def post(url, *, json, **_):
        sent.append((url, json))
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(httpx, "post", post)
    wanted = wire.Requirements("exact", "eip155:8453", 5, OTHER, OTHER, "USDC")
    facilitator = HttpFacilitator("https://pay.example/")
    if found is None:
        with pytest.raises(AnswerLost):
            facilitator.settle({"x402Version": 2}, wanted)
    else:
        assert facilitator.settle({"x402Version": 2}, wanted) == found
    assert sent == [
        (
            "https://pay.example/settle",
            {"x402Version": 2, "paymentPayload": {"x402Version": 2}, "paymentRequirements": wanted.as_json()},
        )
    ]
