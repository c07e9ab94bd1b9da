"""A wallet that signs what x402 asks for, as any client does."""

from __future__ import annotations

import base64
import json
import secrets
from datetime import datetime
from typing import Any

from coincurve import PrivateKey
from django.utils import timezone

from billing.chains import keccak
from billing.gateways import registry
from billing.gateways.x402 import proofs, typed_data, wire
from billing.models import X402Authorization
from tests import ledger_cast

KEY = PrivateKey(bytes.fromhex("59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d"))
PAYER = keccak.of_public_key(KEY.public_key.format(compressed=False))


def offers(header: str) -> dict[str, dict[str, Any]]:
    """What a PAYMENT-REQUIRED header accepts, by scheme."""
    return {each["scheme"]: each for each in json.loads(base64.b64decode(header))["accepts"]}


def authorization(offer: dict[str, Any], *, now: datetime, **changes: Any) -> dict[str, Any]:
    seconds = int(now.timestamp())
    made = {
        "from": PAYER,
        "to": offer["payTo"],
        "value": offer["amount"],
        "validAfter": str(seconds - 60),
        "validBefore": str(seconds + offer["maxTimeoutSeconds"]),
        "nonce": f"0x{secrets.token_hex(32)}",
    }
    return made | changes


def permit(offer: dict[str, Any], *, now: datetime, **changes: Any) -> dict[str, Any]:
    seconds = int(now.timestamp())
    witness = {"to": offer["payTo"], "facilitator": offer["extra"]["facilitatorAddress"]}
    made = {
        "permitted": {"token": offer["asset"], "amount": offer["amount"]},
        "from": PAYER,
        "spender": proofs.UPTO_PROXY,
        "nonce": str(secrets.randbits(256)),
        "deadline": str(seconds + offer["maxTimeoutSeconds"]),
        "witness": {**witness, "validAfter": str(seconds - 60)},
    }
    return made | changes


def pay(
    offer: dict[str, Any], *, now: datetime, key: PrivateKey = KEY, chain_id: int = 0, **changes: Any
) -> dict[str, Any]:
    """The whole payload, signed. `changes` are of what is signed; so they are changed before it is."""
    chain_id = chain_id or int(offer["network"].partition(":")[2])
    if offer["scheme"] == wire.EXACT:
        given = authorization(offer, now=now, **changes)
        domain = {"name": offer["extra"]["name"], "version": "2", "chainId": chain_id}
        domain["verifyingContract"] = offer["asset"]
        signed = _digest(domain, proofs.EXACT_TYPES, "TransferWithAuthorization", given)
        payload = {"signature": _sign(key, signed), "authorization": given}
    else:
        given = permit(offer, now=now, **changes)
        domain = {"name": "Permit2", "chainId": chain_id, "verifyingContract": proofs.PERMIT2}
        signed = _digest(domain, proofs.UPTO_TYPES, "PermitWitnessTransferFrom", given)
        payload = {"signature": _sign(key, signed), "permit2Authorization": given}
    return {"x402Version": 2, "accepted": offer, "payload": payload}


def accepted() -> X402Authorization:
    """What was signed for 12.50 and waits to be sent to the facilitator."""
    now = timezone.now()
    offer = next(each for each in registry.x402().offers(amount=1250, currency="EUR") if each.scheme == wire.EXACT)
    said = pay(offer.as_json(), now=now)
    proof, wanted = proofs.check(said, accepts=[offer], now=now)
    return X402Authorization.objects.create(
        account=ledger_cast.make_account(0),
        key="k",
        credits_ucr=1,
        scheme=proof.scheme,
        network=wanted.network,
        asset=wanted.asset,
        pay_to=wanted.pay_to,
        payer=proof.payer,
        nonce=proof.nonce,
        most_units=proof.units,
        units=proof.units,
        valid_before=proof.valid_before,
        first_block=0,
        payload=said,
        created_at=now,
    )


def _digest(domain: dict[str, Any], types: typed_data.Types, primary: str, given: dict[str, Any]) -> bytes:
    return typed_data.digest(domain=domain, types=types, primary=primary, message=_numbers(given))


def _numbers(given: dict[str, Any]) -> dict[str, Any]:
    def read(value: Any) -> Any:
        if isinstance(value, dict):
            return _numbers(value)
        return value if value.startswith("0x") else int(value)

    return {name: read(value) for name, value in given.items()}


def _sign(key: PrivateKey, signed: bytes) -> str:
    made = key.sign_recoverable(signed, hasher=None)
    return "0x" + (made[:64] + bytes([made[64] + 27])).hex()
