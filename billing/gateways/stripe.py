"""Stripe, by its own library: PaymentIntents that are confirmed as they are made, with a token for the method.

No card number comes here, only what Stripe gave for one: `pm_...`, or `cus_...:pm_...` for one that pays again.
Our reference and a refund's key are in Stripe's metadata, by which they are found when an answer was lost. Its search
sees a new payment only after some seconds, so not to be found is no proof (docs.stripe.com/search); a webhook tells it.
Stripe forgets an idempotency key after a day.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

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
    stripe_answers,
    stripe_calls,
    stripe_sessions,
)
from billing.gateways.stripe_cards import Cards
from billing.gateways.stripe_checkout import Checkout

NAME = "stripe"
API = stripe.DEFAULT_API_BASE
MOST_BYTES = stripe_calls.MOST_BYTES
WITH_CHARGE = {"expand": ["latest_charge"]}


class StripeGateway:
    name = NAME

    def __init__(
        self, key: str, *, secrets: Sequence[str], url: str = API, deadline_seconds: float = DEADLINE_SECONDS
    ) -> None:
        self._stripe = stripe_calls.client(key, url=url, deadline_seconds=deadline_seconds)
        self._checkout = Checkout(self._stripe)
        self.cards = Cards(self._stripe)
        self._secrets = list(secrets)

    def create(self, order: Order) -> Charge:
        if order.method == stripe_answers.CHECKOUT:
            return self._checkout.create(order)
        try:
            params = _params(order)
        except stripe_answers.Uncountable as wrong:
            raise Refused("bad_amount", str(wrong)) from wrong
        options = {"idempotency_key": order.reference}
        said = stripe_calls.said(lambda: self._stripe.payment_intents.create(params, options))
        found = stripe_calls.believed(stripe_answers.charge, said)
        if (found.reference, found.amount, found.currency) != (order.reference, order.amount, order.currency):
            raise AnswerLost("Stripe answered about another payment.")
        return found

    def confirm(self, ref: str, *, key: str) -> Charge:
        """What the customer did at the bank is told to Stripe by the bank; seldom is our word needed as well."""
        if stripe_sessions.is_named(ref):
            return self._checkout.fetch(ref=ref)
        intent = stripe_calls.asked(lambda: self._stripe.payment_intents.retrieve(ref, WITH_CHARGE))
        if intent.get("status") != "requires_confirmation":
            return _same(ref, intent)
        return self._act("confirm", ref, key)

    def _act(self, act: str, ref: str, key: str) -> Charge:
        intents, options = self._stripe.payment_intents, {"idempotency_key": key}
        return _same(ref, stripe_calls.said(lambda: getattr(intents, act)(ref, WITH_CHARGE, options)))

    def capture(self, ref: str, *, amount: int, key: str) -> Charge:
        held = self.fetch(ref=ref)
        if amount != held.amount:
            raise Refused("not_capturable", f"A payment of {held.amount} is captured whole, not with {amount}.")
        return self._act("capture", ref, key)

    def cancel(self, ref: str, *, key: str) -> Charge:
        """Raises Refused, NotFound, AnswerLost."""
        if stripe_sessions.is_named(ref):
            return self._checkout.cancel(ref)
        try:
            return self._act("cancel", ref, key)
        except Refused as no:
            if no.reason != "payment_intent_unexpected_state":
                raise
            # What has ended stays as it ended.
            return self.fetch(ref=ref)

    def refund(self, ref: str, *, amount: int, key: str) -> Repayment:
        held, intent = self.fetch(ref=ref), self._intent(ref)
        try:
            counted = stripe_answers.to_stripe(amount, held.currency)
        except stripe_answers.Uncountable as wrong:
            raise Refused("bad_amount", str(wrong)) from wrong
        params: Any = {"payment_intent": intent, "amount": counted, "metadata": {"key": key}}
        options = {"idempotency_key": f"refund:{key}"}
        said = stripe_calls.said(lambda: self._stripe.refunds.create(params, options))
        found = stripe_calls.believed(stripe_answers.repayment, said)
        if found.amount != amount:
            raise AnswerLost("Stripe answered about another refund.")
        return found

    def _intent(self, ref: str) -> str:
        return self._checkout.intent_of(ref) if stripe_sessions.is_named(ref) else ref

    def fetch(self, *, ref: str = "", reference: str = "") -> Charge:
        if stripe_sessions.is_named(ref) or (not ref and stripe_sessions.has(reference)):
            return self._checkout.fetch(ref=ref, reference=reference)
        if ref:
            return _same(ref, stripe_calls.asked(lambda: self._stripe.payment_intents.retrieve(ref, WITH_CHARGE)))
        quoted = reference.replace("\\", "\\\\").replace("'", "\\'")
        params: Any = {"query": f"metadata['reference']:'{quoted}'", "limit": 2, "expand": ["data.latest_charge"]}
        found = stripe_calls.rows(stripe_calls.asked(lambda: self._stripe.payment_intents.search(params)))
        if not found:
            raise NotFound(reference)
        charge = stripe_calls.believed(stripe_answers.charge, found[0])
        if len(found) > 1 or charge.reference != reference:
            raise AnswerLost("Stripe answered about another payment.")
        return charge

    def fetch_refund(self, *, key: str, ref: str) -> Repayment:
        params: Any = {"payment_intent": self._intent(ref), "limit": 100}
        said = stripe_calls.asked(lambda: self._stripe.refunds.list(params))
        mine = [each for each in stripe_calls.rows(said) if _key_of(each) == key]
        if mine:
            return stripe_calls.believed(stripe_answers.repayment, mine[0])
        if said.get("has_more"):
            raise AnswerLost("Stripe has more refunds of this payment than it can be asked about.")
        raise NotFound(key)

    def fetch_dispute(self, ref: str) -> DisputeWord:
        return _same_dispute(ref, stripe_calls.asked(lambda: self._stripe.disputes.retrieve(ref)))

    def give_evidence(self, ref: str, *, evidence: Mapping[str, str], key: str) -> DisputeWord:
        """Handed in at once: Stripe takes it to the bank, and takes no more."""
        stands = self.fetch_dispute(ref)
        if stands.state not in ("opened", "under_review"):
            raise Refused("dispute_decided", f"This dispute is {stands.state}; no evidence is taken any more.")
        params: Any = {"evidence": dict(evidence), "submit": True}
        options = {"idempotency_key": f"evidence:{key}"}
        return _same_dispute(ref, stripe_calls.said(lambda: self._stripe.disputes.update(ref, params, options)))

    def read_webhook(self, *, body: bytes, headers: Mapping[str, str], now: datetime) -> Event:
        stripe_answers.check_signature(body, headers, secrets=self._secrets, now=now)
        return stripe_sessions.named(stripe_answers.event(body))


def _same(ref: str, said: dict[str, Any]) -> Charge:
    found = stripe_calls.believed(stripe_answers.charge, said)
    if found.ref != ref:
        raise AnswerLost("Stripe answered about another payment.")
    return found


def _same_dispute(ref: str, said: dict[str, Any]) -> DisputeWord:
    found = stripe_calls.believed(stripe_answers.dispute, said)
    if found.ref != ref:
        raise AnswerLost("Stripe answered about another dispute.")
    return found


def _params(order: Order) -> dict[str, Any]:
    """Raises Refused, stripe_answers.Uncountable."""
    token = stripe_answers.TOKEN.fullmatch(order.method)
    if token is None:
        raise Refused("unknown_method", "This is no payment method of Stripe's.")
    # Whom nobody could ask is sent nowhere: a bank that wants to ask declines.
    return_url = "" if order.off_session else order.return_url
    methods = {"enabled": True} if return_url else {"enabled": True, "allow_redirects": "never"}
    return {
        "amount": stripe_answers.to_stripe(order.amount, order.currency),
        "currency": order.currency.lower(),
        "payment_method": token["method"],
        **({"customer": token["customer"]} if token["customer"] else {}),
        **({"return_url": return_url} if return_url else {}),
        **({"off_session": True} if order.off_session else {}),
        "automatic_payment_methods": methods,
        "confirm": True,
        "capture_method": "automatic" if order.capture else "manual",
        "description": order.description[:1000],
        "metadata": {"reference": order.reference},
        **WITH_CHARGE,
    }


def _key_of(refund: dict[str, Any]) -> Any:
    metadata = refund.get("metadata")
    return metadata.get("key") if isinstance(metadata, dict) else None
