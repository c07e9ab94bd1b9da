"""Whether a signed payload pays: each thing that may be wrong with it, in both schemes."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from coincurve import PrivateKey

from billing.gateways.x402 import proofs, wire
from tests import x402_cast as cast

NOW = datetime(2026, 3, 18, 12, tzinfo=UTC)
SECONDS = int(NOW.timestamp())
ASSET, SHOP, OTHER, SETTLER = ("0x" + each * 20 for each in ("aa", "bb", "cc", "dd"))
EXACT = wire.Requirements("exact", "eip155:8453", 1_000_000, ASSET, SHOP, "USD Coin")
UPTO = wire.Requirements("upto", "eip155:8453", 1_000_000, ASSET, SHOP, "USD Coin", facilitator=SETTLER)


def check(said: dict[str, Any]) -> proofs.Proof:
    return proofs.check(said, accepts=[EXACT, UPTO], now=NOW)[0]


def paid(wanted: wire.Requirements, **changes: Any) -> dict[str, Any]:
    return cast.pay(wanted.as_json(), now=NOW, **changes)


@pytest.mark.parametrize("wanted", [EXACT, UPTO])
def test_what_is_signed_as_required_pays(wanted):
    proof = check(paid(wanted))

    assert (proof.scheme, proof.payer, proof.units) == (wanted.scheme, cast.PAYER, 1_000_000)
    assert (proof.valid_before - NOW).total_seconds() == wire.MAX_TIMEOUT_SECONDS


def test_what_the_official_client_signed_pays():
    """Made with the `x402` package 2.25.0 and eth-account 0.14.0."""
    kept = json.loads((Path(__file__).parent / "x402_signed_elsewhere.json").read_text())
    for said in kept["payloads"]:
        offer = said["accepted"]
        given = (offer["scheme"], offer["network"], int(offer["amount"]), offer["asset"], offer["payTo"], "USDC")
        wanted = wire.Requirements(*given, facilitator=offer["extra"].get("facilitatorAddress", ""))

        proof, _ = proofs.check(said, accepts=[wanted], now=datetime.fromtimestamp(kept["now"], UTC))

        assert (proof.payer, proof.scheme) == ("0x70997970c51812dc3a010c7d01b50e0d17dc79c8", offer["scheme"])


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"value": "999999"}, "authorization_value_mismatch"),
        ({"value": "1000001"}, "authorization_value_mismatch"),
        ({"to": OTHER}, "recipient_mismatch"),
        ({"validAfter": str(SECONDS + 1)}, "authorization_valid_after"),
        ({"validBefore": str(SECONDS - 1)}, "authorization_valid_before"),
        ({"validBefore": str(SECONDS + 5)}, "authorization_valid_before"),
        ({"validBefore": str(SECONDS + 3601)}, "authorization_valid_before"),
        ({"from": OTHER}, "signature"),
        ({"chain_id": 1}, "signature"),
        ({"key": PrivateKey(b"\1" * 32)}, "signature"),
    ],
)
def test_an_exact_one_that_does_not_pay_is_refused(changes, reason):
    with pytest.raises(proofs.Refusal) as refused:
        check(paid(EXACT, **changes))
    assert refused.value.reason == f"invalid_exact_evm_payload_{reason}"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"permitted": {"token": ASSET, "amount": "999999"}}, "permit2_amount_mismatch"),
        ({"permitted": {"token": OTHER, "amount": "1000000"}}, "token_mismatch"),
        ({"witness": {"to": OTHER, "facilitator": SETTLER, "validAfter": "0"}}, "recipient_mismatch"),
        ({"witness": {"to": SHOP, "facilitator": OTHER, "validAfter": "0"}}, "facilitator_mismatch"),
        ({"witness": {"to": SHOP, "facilitator": SETTLER, "validAfter": str(SECONDS + 9)}}, "valid_after"),
        ({"spender": OTHER}, "spender"),
        ({"deadline": str(SECONDS)}, "valid_before"),
        ({"from": OTHER}, "signature"),
        ({"chain_id": 1}, "signature"),
    ],
)
def test_an_upto_that_does_not_pay_is_refused(changes, reason):
    with pytest.raises(proofs.Refusal) as refused:
        check(paid(UPTO, **changes))
    assert refused.value.reason.endswith(reason)


@pytest.mark.parametrize("wanted", [EXACT, UPTO])
@pytest.mark.parametrize("tampered", ["signature", "nonce"])
def test_what_was_changed_after_it_was_signed_is_refused(wanted, tampered):
    said = paid(wanted)
    payload = said["payload"]
    if tampered == "nonce":
        given = payload["authorization" if wanted is EXACT else "permit2Authorization"]
        given["nonce"] = "0x" + "12" * 32
    else:
        payload["signature"] = payload["signature"][:10] + "00" + payload["signature"][12:]
    with pytest.raises(proofs.Refusal, match="signature|curve") as refused:
        check(said)
    assert refused.value.reason == "invalid_exact_evm_payload_signature"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"x402Version": 1}, "invalid_x402_version"),
        ({"accepted": {"scheme": "batch"}}, "unsupported_scheme"),
        ({"accepted": {**EXACT.as_json(), "network": "eip155:1"}}, "invalid_network"),
        ({"accepted": {**EXACT.as_json(), "amount": "1"}}, "invalid_payment_requirements"),
        ({"accepted": {**EXACT.as_json(), "asset": OTHER}}, "invalid_payment_requirements"),
        ({"accepted": {**EXACT.as_json(), "payTo": OTHER}}, "invalid_payment_requirements"),
        ({"payload": {}}, "invalid_payload"),
        ({"payload": {"authorization": {"from": 1}}}, "invalid_payload"),
        ({"payload": {"authorization": []}}, "invalid_payload"),
    ],
)
def test_what_is_not_as_x402_has_it_is_refused(change, reason):
    with pytest.raises(proofs.Refusal) as refused:
        check({**paid(EXACT), **change})
    assert refused.value.reason == reason


@pytest.mark.parametrize("nonce", ["-1", "01", str(2**256), "0x12", 7, None])
def test_a_permit_s_nonce_is_a_number(nonce):
    said = paid(UPTO)
    said["payload"]["permit2Authorization"]["nonce"] = nonce
    with pytest.raises(proofs.Refusal) as refused:
        check(said)
    assert refused.value.reason == "invalid_payload"
