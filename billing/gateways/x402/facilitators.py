"""Who puts signed payments on the chain: x402's facilitator over HTTP (`POST /verify`, `/settle`), or a played one."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

import httpx
from django.db import IntegrityError, transaction
from django.utils import timezone

from billing.chains import simulated
from billing.chains.keccak import keccak256
from billing.gateways import DEADLINE_SECONDS, AnswerLost
from billing.gateways.x402 import wire
from billing.gateways.x402.wire import Requirements

MOST_BYTES = 64 * 1024


@dataclass(frozen=True)
class Settled:
    """What a facilitator says: the transaction, or why there is none."""

    tx_hash: str = ""
    reason: str = ""


class Facilitator(Protocol):
    def verify(self, payload: dict[str, Any], wanted: Requirements) -> str:
        """Why it would not settle, or an empty text. Raises AnswerLost; nothing happened either way."""
        ...

    def settle(self, payload: dict[str, Any], wanted: Requirements) -> Settled:
        """Put it on the chain. Raises AnswerLost: it may be there or not."""
        ...


class HttpFacilitator:
    def __init__(self, url: str, *, deadline_seconds: float = DEADLINE_SECONDS) -> None:
        self._url = url.rstrip("/")
        self._deadline = deadline_seconds

    def verify(self, payload: dict[str, Any], wanted: Requirements) -> str:
        said = self._ask("/verify", payload, wanted)
        if not isinstance(said.get("isValid"), bool):
            raise AnswerLost("The facilitator's answer says nothing.")
        return "" if said["isValid"] else _reason(said.get("invalidReason"))

    def settle(self, payload: dict[str, Any], wanted: Requirements) -> Settled:
        said = self._ask("/settle", payload, wanted)
        if said.get("success") is False:
            return Settled(reason=_reason(said.get("errorReason")))
        tx_hash = said.get("transaction")
        is_hash = isinstance(tx_hash, str) and len(tx_hash) == 66 and tx_hash.startswith("0x")
        if said.get("success") is not True or not is_hash or said.get("network") != wanted.network:
            raise AnswerLost("The facilitator's answer is not one that can be believed.")
        if said.get("amount", str(wanted.units)) != str(wanted.units):
            raise AnswerLost("The facilitator speaks of another amount.")
        return Settled(tx_hash=str(tx_hash).lower())

    def _ask(self, path: str, payload: dict[str, Any], wanted: Requirements) -> dict[str, Any]:
        body = {"x402Version": wire.VERSION, "paymentPayload": payload, "paymentRequirements": wanted.as_json()}
        try:
            answer = httpx.post(self._url + path, json=body, timeout=self._deadline, follow_redirects=False)
            said = answer.json() if len(answer.content) <= MOST_BYTES else None
        except (httpx.HTTPError, ValueError, RecursionError) as wrong:
            raise AnswerLost(f"The facilitator did not answer: {type(wrong).__name__}.") from wrong
        # Some say what is wrong with a status of 4xx, and in the same words.
        if answer.status_code >= 500 or not isinstance(said, dict):
            raise AnswerLost(f"The facilitator answered with status {answer.status_code}.")
        return said


def _reason(value: Any) -> str:
    text = value if isinstance(value, str) and value.isprintable() else ""
    return text[:60] or "unexpected_settle_error"


class SimulatedFacilitator:
    """Settles on the chain that is played here; every wallet there has enough."""

    def verify(self, payload: dict[str, Any], wanted: Requirements) -> str:
        return ""

    def settle(self, payload: dict[str, Any], wanted: Requirements) -> Settled:
        payer, nonce = _who(payload["payload"], wanted.scheme)
        tx_hash = "0x" + keccak256(f"{wanted.scheme} {payer} {nonce}".encode()).hex()
        now: datetime = timezone.now()
        try:
            with transaction.atomic():
                simulated.send(
                    recipient=wanted.pay_to,
                    units=wanted.units,
                    now=now,
                    sender=payer,
                    token=wanted.asset,
                    tx_hash=tx_hash,
                )
        except IntegrityError:
            return Settled(reason="invalid_transaction_state")
        return Settled(tx_hash=tx_hash)


def _who(payload: dict[str, Any], scheme: str) -> tuple[str, str]:
    given = payload["authorization" if scheme == wire.EXACT else "permit2Authorization"]
    return given["from"].lower(), given["nonce"].lower()
