"""Pure. Whether a signed payload pays what is required, to whom, where and when: all that can be told without a chain.

`exact` is EIP-3009 (`transferWithAuthorization` of the token), `upto` Permit2 with a witness that names the receiver
and who settles. Only signatures of ordinary wallets are read: those of contracts (EIP-1271, EIP-6492) need the chain.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from billing.gateways.x402 import typed_data, wire
from billing.gateways.x402.wire import Requirements

PERMIT2 = "0x000000000022d473030f116ddee9f6b43ac78ba3"
UPTO_PROXY = "0x4020a4f3b7b90cca423b9fabcc0ce57c6c240002"
# A facilitator needs some seconds to get a transaction into a block.
SETTLED_WITHIN = timedelta(seconds=6)
LONGEST = timedelta(hours=1)
ADDRESS = re.compile(r"0x[0-9a-fA-F]{40}")
NONCE = re.compile(r"0x[0-9a-fA-F]{64}")
NUMBER = re.compile(r"0|[1-9][0-9]{0,77}")
SIGNATURE = re.compile(r"0x[0-9a-fA-F]{130}")
EXACT_TYPES: typed_data.Types = {
    "TransferWithAuthorization": (
        ("from", "address"),
        ("to", "address"),
        ("value", "uint256"),
        ("validAfter", "uint256"),
        ("validBefore", "uint256"),
        ("nonce", "bytes32"),
    )
}
UPTO_TYPES: typed_data.Types = {
    "PermitWitnessTransferFrom": (
        ("permitted", "TokenPermissions"),
        ("spender", "address"),
        ("nonce", "uint256"),
        ("deadline", "uint256"),
        ("witness", "Witness"),
    ),
    "TokenPermissions": (("token", "address"), ("amount", "uint256")),
    "Witness": (("to", "address"), ("facilitator", "address"), ("validAfter", "uint256")),
}


class Refusal(Exception):
    """It does not pay. `reason` is x402's word for why."""

    def __init__(self, reason: str, sentence: str) -> None:
        self.reason = reason
        super().__init__(sentence)


@dataclass(frozen=True)
class Proof:
    """Who pays up to how much, and until when. `nonce` is 32 bytes in hex: a payer uses it once per scheme."""

    scheme: str
    payer: str
    nonce: str
    units: int
    valid_before: datetime


def check(said: dict[str, Any], *, accepts: list[Requirements], now: datetime) -> tuple[Proof, Requirements]:
    """The proof, and which of the offers it pays. Raises Refusal."""
    if said.get("x402Version") != wire.VERSION:
        raise Refusal("invalid_x402_version", f"Only version {wire.VERSION} of x402 is spoken here.")
    wanted = _offer(said["accepted"], accepts)
    payload = said["payload"]
    proof = (_exact if wanted.scheme == wire.EXACT else _upto)(payload, wanted, now)
    return proof, wanted


def _offer(accepted: dict[str, Any], accepts: list[Requirements]) -> Requirements:
    """The offer the client took; what is required is ours to say, so only what tells offers apart is read of it."""
    found = next((each for each in accepts if each.scheme == accepted.get("scheme")), None)
    if found is None:
        raise Refusal("unsupported_scheme", f"Pay with the scheme {' or '.join(each.scheme for each in accepts)}.")
    if accepted.get("network") != found.network:
        raise Refusal("invalid_network", f"Pay on {found.network}.")
    same = {"amount": str(found.units), "asset": found.asset, "payTo": found.pay_to}
    for name, value in same.items():
        if str(accepted.get(name, "")).lower() != value:
            raise Refusal("invalid_payment_requirements", f"`accepted.{name}` must be {value}.")
    return found


def _exact(payload: dict[str, Any], wanted: Requirements, now: datetime) -> Proof:
    given = _object(payload, "authorization")
    message: dict[str, Any] = {
        "from": _text(given, "from", ADDRESS),
        "to": _text(given, "to", ADDRESS),
        "value": _number(given, "value"),
        "validAfter": _number(given, "validAfter"),
        "validBefore": _number(given, "validBefore"),
        "nonce": _text(given, "nonce", NONCE),
    }
    _same("recipient_mismatch", message["to"], wanted.pay_to)
    if message["value"] != wanted.units:
        raise Refusal("invalid_exact_evm_payload_authorization_value_mismatch", f"`value` must be {wanted.units}.")
    ends = _window(message["validAfter"], message["validBefore"], now)
    domain = {
        "name": wanted.token_name,
        "version": wanted.token_version,
        "chainId": _chain_id(wanted),
        "verifyingContract": wanted.asset,
    }
    signed = typed_data.digest(domain=domain, types=EXACT_TYPES, primary="TransferWithAuthorization", message=message)
    _signed_by(message["from"], signed, payload)
    return Proof(wanted.scheme, message["from"], message["nonce"], wanted.units, ends)


def _upto(payload: dict[str, Any], wanted: Requirements, now: datetime) -> Proof:
    given = _object(payload, "permit2Authorization")
    permitted, witness = _object(given, "permitted"), _object(given, "witness")
    payer = _text(given, "from", ADDRESS)
    message: dict[str, Any] = {
        "permitted": {"token": _text(permitted, "token", ADDRESS), "amount": _number(permitted, "amount")},
        "spender": _text(given, "spender", ADDRESS),
        "nonce": _either(given, "nonce"),
        "deadline": _number(given, "deadline"),
        "witness": {
            "to": _text(witness, "to", ADDRESS),
            "facilitator": _text(witness, "facilitator", ADDRESS),
            "validAfter": _number(witness, "validAfter"),
        },
    }
    _same("token_mismatch", message["permitted"]["token"], wanted.asset)
    _same("spender", message["spender"], UPTO_PROXY)
    _same("recipient_mismatch", message["witness"]["to"], wanted.pay_to)
    _same("facilitator_mismatch", message["witness"]["facilitator"], wanted.facilitator)
    if message["permitted"]["amount"] != wanted.units:
        raise Refusal("permit2_amount_mismatch", f"`permitted.amount` must be {wanted.units}.")
    ends = _window(message["witness"]["validAfter"], message["deadline"], now)
    domain = {"name": "Permit2", "chainId": _chain_id(wanted), "verifyingContract": PERMIT2}
    signed = typed_data.digest(domain=domain, types=UPTO_TYPES, primary="PermitWitnessTransferFrom", message=message)
    _signed_by(payer, signed, payload)
    return Proof(wanted.scheme, payer, f"0x{message['nonce']:064x}", wanted.units, ends)


def _chain_id(wanted: Requirements) -> int:
    return int(wanted.network.removeprefix("eip155:"))


def _window(after: int, before: int, now: datetime) -> datetime:
    """When it ends; it must have begun, and last long enough to be settled, but not so long that it is forgotten."""
    seconds = int(now.timestamp())
    if after > seconds:
        raise Refusal("invalid_exact_evm_payload_authorization_valid_after", "It is not valid yet.")
    if before < seconds + SETTLED_WITHIN.total_seconds():
        raise Refusal("invalid_exact_evm_payload_authorization_valid_before", "It has expired, or is about to.")
    if before > seconds + LONGEST.total_seconds():
        raise Refusal("invalid_exact_evm_payload_authorization_valid_before", "It is valid for more than an hour.")
    return datetime.fromtimestamp(before, UTC)


def _signed_by(payer: str, signed: bytes, payload: dict[str, Any]) -> None:
    signature = bytes.fromhex(_text(payload, "signature", SIGNATURE)[2:])
    try:
        found = typed_data.signer(signed, signature)
    except typed_data.BadSignature as wrong:
        raise Refusal("invalid_exact_evm_payload_signature", str(wrong)) from wrong
    if found != payer:
        raise Refusal("invalid_exact_evm_payload_signature", "It is not the payer's signature of this.")


def _same(what: str, given: str, wanted: str) -> None:
    if given != wanted:
        raise Refusal(f"invalid_exact_evm_payload_{what}", f"It names {given} where {wanted} is required.")


def _object(said: dict[str, Any], name: str) -> dict[str, Any]:
    value = said.get(name)
    if not isinstance(value, dict):
        raise Refusal("invalid_payload", f"`{name}` must be an object.")
    return value


def _text(said: dict[str, Any], name: str, pattern: re.Pattern[str]) -> str:
    value = said.get(name)
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise Refusal("invalid_payload", f"`{name}` is not as x402 writes it.")
    return value.lower()


def _number(said: dict[str, Any], name: str) -> int:
    number = int(_text(said, name, NUMBER))
    if number >= typed_data.MOST:
        raise Refusal("invalid_payload", f"`{name}` is too large.")
    return number


def _either(said: dict[str, Any], name: str) -> int:
    """Permit2's nonce is a number, which some clients write as hex."""
    value = said.get(name)
    is_hex = isinstance(value, str) and NONCE.fullmatch(value)
    return int(value, 16) if isinstance(value, str) and is_hex else _number(said, name)
