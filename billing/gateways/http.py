"""The gateway at PAYMENT_GATEWAY_URL: JSON over HTTPS, every request signed as the Standard Webhooks say.

POST /payments                          {reference, amount, currency, payment_method, return_url, description, capture}
POST /payments/{id}/capture             {amount}
POST /payments/{id}/confirm, /cancel    {}
POST /payments/{id}/refunds             {amount}
POST /disputes/{id}/evidence            {evidence: {name: text}}
GET  /payments/{id}, /payments?idempotency_key=, /refunds?idempotency_key=, /disputes/{id}
     a payment   {id, reference, state, amount, currency, captured, refunded, action_url?,
                  failure_code?, failure_message?}
     a refund    {id, state, amount, failure_code?, failure_message?}
     a dispute   {id, state, payment, amount?, reason?, evidence_due_at?, has_evidence?}

Amounts are minor units. Each POST carries `Idempotency-Key`, also in its body (`idempotency_key`), where the signature
covers it. An answer is believed as answers.py says; a redirect, a 5xx, a late or an odd answer is none (AnswerLost).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar
from urllib.parse import quote

import httpx
from uuid_utils.compat import uuid7

from billing.gateways import (
    DEADLINE_SECONDS,
    AnswerLost,
    BadSignature,
    Charge,
    DisputeWord,
    Event,
    NotFound,
    Order,
    Refused,
    Repayment,
    answers,
    events,
    signatures,
    wire,
)
from billing.gateways.wire import MOST_BYTES

NAME = "http"
Found = TypeVar("Found")
# The gateway understood and did nothing. Any other failure says nothing about the money.
REFUSALS = frozenset({400, 401, 402, 403, 404, 405, 410, 413, 415, 422})


class HttpGateway:
    name = NAME

    def __init__(
        self,
        url: str,
        *,
        secrets: Sequence[str],
        clock: Callable[[], datetime],
        deadline_seconds: float = DEADLINE_SECONDS,
    ) -> None:
        self._url = url.rstrip("/")
        self._secrets = list(secrets)
        self._clock = clock
        self._deadline = deadline_seconds

    def create(self, order: Order) -> Charge:
        body = {
            "reference": order.reference,
            "amount": order.amount,
            "currency": order.currency,
            "payment_method": order.method,
            "return_url": order.return_url,
            "description": order.description,
            "capture": order.capture,
        }
        found = self._charge(self._post("/payments", body, key=order.reference))
        if (found.reference, found.amount, found.currency) != (order.reference, order.amount, order.currency):
            raise AnswerLost("The gateway answered about another payment.")
        return found

    def confirm(self, ref: str, *, key: str) -> Charge:
        return self._same(ref, self._post(f"/payments/{quote(ref, safe='')}/confirm", {}, key=key))

    def capture(self, ref: str, *, amount: int, key: str) -> Charge:
        return self._same(ref, self._post(f"/payments/{quote(ref, safe='')}/capture", {"amount": amount}, key=key))

    def cancel(self, ref: str, *, key: str) -> Charge:
        return self._same(ref, self._post(f"/payments/{quote(ref, safe='')}/cancel", {}, key=key))

    def refund(self, ref: str, *, amount: int, key: str) -> Repayment:
        said = self._post(f"/payments/{quote(ref, safe='')}/refunds", {"amount": amount}, key=key)
        found = _believed(answers.repayment, said)
        if found.amount != amount:
            raise AnswerLost("The gateway answered about another refund.")
        return found

    def fetch(self, *, ref: str = "", reference: str = "") -> Charge:
        if ref:
            return self._same(ref, self._get(f"/payments/{quote(ref, safe='')}"))
        charge = self._charge(self._found("payments", reference))
        if charge.reference != reference:
            raise AnswerLost("The gateway answered about another payment.")
        return charge

    def fetch_refund(self, *, key: str, ref: str) -> Repayment:
        return _believed(answers.repayment, self._found("refunds", key))

    def fetch_dispute(self, ref: str) -> DisputeWord:
        return _same_dispute(ref, self._get(f"/disputes/{quote(ref, safe='')}"))

    def give_evidence(self, ref: str, *, evidence: Mapping[str, str], key: str) -> DisputeWord:
        said = self._post(f"/disputes/{quote(ref, safe='')}/evidence", {"evidence": dict(evidence)}, key=key)
        return _same_dispute(ref, said)

    def read_webhook(self, *, body: bytes, headers: Mapping[str, str], now: datetime) -> Event:
        try:
            signatures.check(body, headers, secrets=self._secrets, now=now)
        except signatures.Wrong as wrong:
            raise BadSignature(str(wrong)) from wrong
        return events.read(body)

    # --- the wire

    def _charge(self, said: dict[str, Any]) -> Charge:
        return _believed(answers.charge, said)

    def _same(self, ref: str, said: dict[str, Any]) -> Charge:
        found = self._charge(said)
        if found.ref != ref:
            raise AnswerLost("The gateway answered about another payment.")
        return found

    def _found(self, things: str, key: str) -> dict[str, Any]:
        said = self._get(f"/{things}?idempotency_key={quote(key, safe='')}")
        found = _believed(lambda each: answers.only(each, things), said)
        if found is None:
            raise NotFound(key)
        return found

    def _get(self, path: str) -> dict[str, Any]:
        try:
            status, body = self._send("GET", path, b"", {})
        except httpx.HTTPError as wrong:
            raise AnswerLost(f"The gateway does not answer: {type(wrong).__name__}.") from wrong
        if status == 404 and answers.is_not_found(_believed(answers.read, body)):
            raise NotFound(path)
        if status != 200:
            raise AnswerLost(f"The gateway answered with status {status}.")
        return _believed(answers.read, body)

    def _post(self, path: str, said: dict[str, Any], *, key: str) -> dict[str, Any]:
        body = json.dumps({**said, "idempotency_key": key}).encode()
        try:
            status, answer = self._send("POST", path, body, {"Idempotency-Key": key})
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.UnsupportedProtocol) as away:
            raise Refused(
                "gateway_unreachable", "The payment gateway could not be reached; nothing was charged."
            ) from away
        except httpx.HTTPError as wrong:
            raise AnswerLost(f"The gateway does not answer: {type(wrong).__name__}.") from wrong
        if status in (200, 201):
            return _believed(answers.read, answer)
        return self._no(status, answer)

    def _no(self, status: int, body: bytes) -> dict[str, Any]:
        """A refusal raises; a decline is an answer like any other, whatever its status."""
        if status not in REFUSALS:
            raise AnswerLost(f"The gateway answered with status {status}.")
        try:
            said = answers.read(body)
        except answers.Unbelievable:
            said = {}
        if status == 402 and "state" in said:
            return said
        if status == 404:
            if answers.is_not_found(said):
                raise NotFound("payment")
            raise AnswerLost("The gateway answered with status 404, and not in a gateway's words.")
        sentence = said.get("message") if isinstance(said.get("message"), str) else ""
        raise Refused("gateway_refused", f"The gateway refused with status {status}. {str(sentence)[:200]}".strip())

    def _send(self, method: str, path: str, body: bytes, headers: dict[str, str]) -> tuple[int, bytes]:
        signed = signatures.sign(body, secret=self._secrets[0], id=f"msg_{uuid7().hex}", now=self._clock())
        fixed = {"Content-Type": "application/json", "Accept": "application/json"}
        all_headers = {**headers, **signed, **fixed, "User-Agent": "ntd"}
        limits = {"deadline_seconds": self._deadline, "most_bytes": MOST_BYTES}
        answer = wire.ask(method, self._url + path, body, all_headers, **limits)
        return answer.status, answer.body


def _same_dispute(ref: str, said: dict[str, Any]) -> DisputeWord:
    found = _believed(answers.dispute, said)
    if found.ref != ref:
        raise AnswerLost("The gateway answered about another dispute.")
    return found


def _believed(read: Callable[[Any], Found], said: Any) -> Found:
    """Raises AnswerLost for what answers.py does not believe."""
    try:
        return read(said)
    except answers.Unbelievable as wrong:
        raise AnswerLost(str(wrong)) from wrong
