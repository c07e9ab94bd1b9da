"""Pure. What x402 (version 2) sends: requirements, payloads, answers, as base64 of JSON in headers.

PAYMENT-REQUIRED   with 402: what would be accepted
PAYMENT-SIGNATURE  the client's: one of these, and a signed authorisation
PAYMENT-RESPONSE   how it was settled
https://github.com/coinbase/x402, specs/x402-specification-v2.md and specs/transports-v2/http.md
"""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass
from typing import Any

VERSION = 2
REQUIRED, SIGNATURE, RESPONSE = "PAYMENT-REQUIRED", "PAYMENT-SIGNATURE", "PAYMENT-RESPONSE"
MOST_CHARACTERS = 16 * 1024
MAX_TIMEOUT_SECONDS = 300
EXACT, UPTO = "exact", "upto"


class Unreadable(Exception):
    """Raised for a header that says nothing that can be read."""

    code = "validation_error"

    @property
    def extras(self) -> dict[str, object]:
        return {"errors": {SIGNATURE: [str(self)]}}


@dataclass(frozen=True)
class Requirements:
    """One way to pay. `units` are atomic units of the asset: for `upto` the most, until it is settled."""

    scheme: str
    network: str
    units: int
    asset: str
    pay_to: str
    token_name: str
    token_version: str = "2"
    # Whoever alone may settle an `upto`.
    facilitator: str = ""

    def as_json(self) -> dict[str, Any]:
        extra = {"name": self.token_name, "version": self.token_version}
        extra |= {"facilitatorAddress": self.facilitator} if self.scheme == UPTO else {}
        extra |= {"assetTransferMethod": "permit2" if self.scheme == UPTO else "eip3009"}
        return {
            "scheme": self.scheme,
            "network": self.network,
            "amount": str(self.units),
            "asset": self.asset,
            "payTo": self.pay_to,
            "maxTimeoutSeconds": MAX_TIMEOUT_SECONDS,
            "extra": extra,
        }


def required(*, accepts: list[Requirements], url: str, error: str) -> dict[str, Any]:
    resource = {"url": url, "description": "Credits", "mimeType": "application/json"}
    offers = [each.as_json() for each in accepts]
    return {"x402Version": VERSION, "error": error, "resource": resource, "accepts": offers, "extensions": {}}


def encode(said: dict[str, Any]) -> str:
    return base64.b64encode(json.dumps(said, separators=(",", ":")).encode()).decode()


def read(header: str) -> dict[str, Any]:
    """A client's payload: `accepted` and `payload` are objects. Raises Unreadable."""
    if len(header) > MOST_CHARACTERS:
        raise Unreadable(f"It is longer than {MOST_CHARACTERS} characters.")
    try:
        said = json.loads(binascii.a2b_base64(header, strict_mode=True))
    except (ValueError, RecursionError) as wrong:
        raise Unreadable("It must be base64 of a JSON object.") from wrong
    if not isinstance(said, dict) or not all(isinstance(said.get(name), dict) for name in ("accepted", "payload")):
        raise Unreadable("It must be base64 of a JSON object with `accepted` and `payload`.")
    return said
