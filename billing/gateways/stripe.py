"""Stripe, by its own library: PaymentIntents that are confirmed as they are made, with a token for the method.

No card number comes here, only what Stripe gave for one: `pm_...`, or `cus_...:pm_...` for one that pays again.
Our reference and a refund's key are in Stripe's metadata, by which they are found when an answer was lost. Its search
sees a new payment only after some seconds, so not to be found is no proof (docs.stripe.com/search); a webhook tells it.
Stripe forgets an idempotency key after a day.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar

import httpx
import stripe

from billing.gateways import (
    DEADLINE_SECONDS,
    AnswerLost,
    Charge,
    DisputeWord,
    Event,
    NotFound,
    Order,
    Refused,
    Repayment,
    answers,
    stripe_answers,
    wire,
)

NAME = "stripe"
API = stripe.DEFAULT_API_BASE
# An intent with its charge; a page of a hundred refunds is the longest.
MOST_BYTES = 1024 * 1024
WITH_CHARGE = {"expand": ["latest_charge"]}
# Stripe understood and did nothing. Any other failure says nothing about the money.
REFUSALS = frozenset({400, 401, 402, 403, 404})
Found = TypeVar("Found")


class StripeGateway:
    name = NAME

    def __init__(
        self, key: str, *, secrets: Sequence[str], url: str = API, deadline_seconds: float = DEADLINE_SECONDS
    ) -> None:
        # What is not answered is asked about by the janitor; the library sends nothing twice.
        self._stripe = stripe.StripeClient(
            key, base_addresses={"api": url}, max_network_retries=0, http_client=_Wire(deadline_seconds)
        ).v1
        self._secrets = list(secrets)

    def create(self, order: Order) -> Charge:
        try:
            params = _params(order)
        except stripe_answers.Uncountable as wrong:
            raise Refused("bad_amount", str(wrong)) from wrong
        options = {"idempotency_key": order.reference}
        said = _said(lambda: self._stripe.payment_intents.create(params, options))  # type: ignore[arg-type]
        found = _believed(stripe_answers.charge, said)
        if (found.reference, found.amount, found.currency) != (order.reference, order.amount, order.currency):
            raise AnswerLost("Stripe answered about another payment.")
        return found

    def confirm(self, ref: str, *, key: str) -> Charge:
        """What the customer did at the bank is told to Stripe by the bank; seldom is our word needed as well."""
        intent = _asked(lambda: self._stripe.payment_intents.retrieve(ref, WITH_CHARGE))
        if intent.get("status") != "requires_confirmation":
            return _same(ref, intent)
        said = _said(lambda: self._stripe.payment_intents.confirm(ref, WITH_CHARGE, {"idempotency_key": key}))
        return _same(ref, said)

    def capture(self, ref: str, *, amount: int, key: str) -> Charge:
        held = self.fetch(ref=ref)
        if amount != held.amount:
            raise Refused("not_capturable", f"A payment of {held.amount} is captured whole, not with {amount}.")
        return _same(
            ref, _said(lambda: self._stripe.payment_intents.capture(ref, WITH_CHARGE, {"idempotency_key": key}))
        )

    def cancel(self, ref: str, *, key: str) -> Charge:
        """Raises Refused, NotFound, AnswerLost."""
        try:
            return _same(
                ref, _said(lambda: self._stripe.payment_intents.cancel(ref, WITH_CHARGE, {"idempotency_key": key}))
            )
        except Refused as no:
            if no.reason != "payment_intent_unexpected_state":
                raise
            # What has ended stays as it ended.
            return self.fetch(ref=ref)

    def refund(self, ref: str, *, amount: int, key: str) -> Repayment:
        held = self.fetch(ref=ref)
        try:
            counted = stripe_answers.to_stripe(amount, held.currency)
        except stripe_answers.Uncountable as wrong:
            raise Refused("bad_amount", str(wrong)) from wrong
        params: Any = {"payment_intent": ref, "amount": counted, "metadata": {"key": key}}
        said = _said(lambda: self._stripe.refunds.create(params, {"idempotency_key": f"refund:{key}"}))
        found = _believed(stripe_answers.repayment, said)
        if found.amount != amount:
            raise AnswerLost("Stripe answered about another refund.")
        return found

    def fetch(self, *, ref: str = "", reference: str = "") -> Charge:
        if ref:
            return _same(ref, _asked(lambda: self._stripe.payment_intents.retrieve(ref, WITH_CHARGE)))
        quoted = reference.replace("\\", "\\\\").replace("'", "\\'")
        params: Any = {"query": f"metadata['reference']:'{quoted}'", "limit": 2, "expand": ["data.latest_charge"]}
        found = _rows(_asked(lambda: self._stripe.payment_intents.search(params)))
        if not found:
            raise NotFound(reference)
        charge = _believed(stripe_answers.charge, found[0])
        if len(found) > 1 or charge.reference != reference:
            raise AnswerLost("Stripe answered about another payment.")
        return charge

    def fetch_refund(self, *, key: str, ref: str) -> Repayment:
        params: Any = {"payment_intent": ref, "limit": 100}
        said = _asked(lambda: self._stripe.refunds.list(params))
        mine = [each for each in _rows(said) if _key_of(each) == key]
        if mine:
            return _believed(stripe_answers.repayment, mine[0])
        if said.get("has_more"):
            raise AnswerLost("Stripe has more refunds of this payment than it can be asked about.")
        raise NotFound(key)

    def fetch_dispute(self, ref: str) -> DisputeWord:
        return _same_dispute(ref, _asked(lambda: self._stripe.disputes.retrieve(ref)))

    def give_evidence(self, ref: str, *, evidence: Mapping[str, str], key: str) -> DisputeWord:
        """Handed in at once: Stripe takes it to the bank, and takes no more."""
        stands = self.fetch_dispute(ref)
        if stands.state not in ("opened", "under_review"):
            raise Refused("dispute_decided", f"This dispute is {stands.state}; no evidence is taken any more.")
        params: Any = {"evidence": dict(evidence), "submit": True}
        said = _said(lambda: self._stripe.disputes.update(ref, params, {"idempotency_key": f"evidence:{key}"}))
        return _same_dispute(ref, said)

    def read_webhook(self, *, body: bytes, headers: Mapping[str, str], now: datetime) -> Event:
        stripe_answers.check_signature(body, headers, secrets=self._secrets, now=now)
        return stripe_answers.event(body)


def _same(ref: str, said: dict[str, Any]) -> Charge:
    found = _believed(stripe_answers.charge, said)
    if found.ref != ref:
        raise AnswerLost("Stripe answered about another payment.")
    return found


def _same_dispute(ref: str, said: dict[str, Any]) -> DisputeWord:
    found = _believed(stripe_answers.dispute, said)
    if found.ref != ref:
        raise AnswerLost("Stripe answered about another dispute.")
    return found


def _params(order: Order) -> dict[str, Any]:
    """Raises Refused, stripe_answers.Uncountable."""
    token = stripe_answers.TOKEN.fullmatch(order.method)
    if token is None:
        raise Refused("unknown_method", "This is no payment method of Stripe's.")
    methods = {"enabled": True} if order.return_url else {"enabled": True, "allow_redirects": "never"}
    return {
        "amount": stripe_answers.to_stripe(order.amount, order.currency),
        "currency": order.currency.lower(),
        "payment_method": token["method"],
        **({"customer": token["customer"]} if token["customer"] else {}),
        **({"return_url": order.return_url} if order.return_url else {}),
        "automatic_payment_methods": methods,
        "confirm": True,
        "capture_method": "automatic" if order.capture else "manual",
        "description": order.description[:1000],
        "metadata": {"reference": order.reference},
        **WITH_CHARGE,
    }


class _Wire(stripe.HTTPClient):
    """The library's way out, with our deadline and our bounds."""

    name = "ntd"

    def __init__(self, deadline_seconds: float) -> None:
        super().__init__()
        self._deadline = deadline_seconds

    def request(
        self, method: str, url: str, headers: Mapping[str, str] | None, post_data: Any = None, **_: Any
    ) -> tuple[str, int, Mapping[str, str]]:
        body = post_data.encode() if isinstance(post_data, str) else post_data or b""
        try:
            limits = {"deadline_seconds": self._deadline, "most_bytes": MOST_BYTES}
            answer = wire.ask(method.upper(), url, body, headers or {}, **limits)  # type: ignore[arg-type]
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.UnsupportedProtocol) as away:
            if method.lower() == "get":
                raise AnswerLost("Stripe could not be reached.") from away
            raise Refused("gateway_unreachable", "Stripe could not be reached; nothing was charged.") from away
        except httpx.HTTPError as wrong:
            raise AnswerLost(f"Stripe does not answer: {type(wrong).__name__}.") from wrong
        return answer.body.decode(errors="replace"), answer.status, answer.headers


def _said(ask: Callable[[], Any]) -> dict[str, Any]:
    """Stripe's JSON; a decline is an answer like any other. Raises Refused, NotFound, AnswerLost."""
    try:
        answer = ask()
        said = answer if isinstance(answer, dict) else answer.last_response.data
    except stripe.StripeError as no:
        return _no(no)
    except (AttributeError, TypeError, ValueError, KeyError) as wrong:
        # What the library cannot make an object of.
        raise AnswerLost("Stripe's answer is not one Stripe gives.") from wrong
    if not isinstance(said, dict):
        raise AnswerLost("Stripe's answer is not one Stripe gives.")
    return said


def _asked(ask: Callable[[], Any]) -> dict[str, Any]:
    """As _said, of a question: a refusal to answer says nothing about the money. Raises NotFound, AnswerLost."""
    try:
        return _said(ask)
    except Refused as no:
        raise AnswerLost(str(no)) from no


def _no(no: stripe.StripeError) -> dict[str, Any]:
    status = no.http_status or 0
    body = no.json_body if isinstance(no.json_body, dict) else {}
    error = body.get("error")
    if status not in REFUSALS or not isinstance(error, dict):
        raise AnswerLost(f"Stripe answered with status {status}.") from no
    if status == 402 and isinstance(error.get("payment_intent"), dict):
        # Its charge comes as an id, not expanded; nothing of a declined payment was refunded.
        declined: dict[str, Any] = error["payment_intent"]
        return declined
    if status == 404:
        if error.get("code") == "resource_missing":
            raise NotFound("payment") from no
        raise AnswerLost("Stripe answered with status 404, and not in Stripe's words.") from no
    if status in (401, 403):
        raise Refused("gateway_refused", "Stripe does not accept this service's key; nothing was charged.") from no
    reason = answers.words(error.get("code"), 60) or answers.words(error.get("type"), 60) or "gateway_refused"
    raise Refused(reason, f"Stripe refused. {answers.words(error.get('message'), 200)}".strip()) from no


def _rows(said: dict[str, Any]) -> list[dict[str, Any]]:
    found = said.get("data")
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise AnswerLost("Stripe's answer is no list.")
    return found


def _key_of(refund: dict[str, Any]) -> Any:
    metadata = refund.get("metadata")
    return metadata.get("key") if isinstance(metadata, dict) else None


def _believed(read: Callable[[Any], Found], said: Any) -> Found:
    try:
        return read(said)
    except answers.Unbelievable as wrong:
        raise AnswerLost(str(wrong)) from wrong
