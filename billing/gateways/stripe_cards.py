"""Cards that Stripe keeps: given on Stripe's own page (Checkout, mode `setup`), charged later, and forgotten again.

Each account has one customer there, made once. What is made is asked for with a key, so that a lost answer is found by
asking the same again; a page nobody was sent to keeps no card. Removing is for good: Stripe never again charges what
was detached (docs.stripe.com/payments/save-and-reuse, docs.stripe.com/api/payment_methods/detach).
"""

from __future__ import annotations

from typing import Any

from billing.gateways import AnswerLost, NotFound, Refused, stripe_calls
from billing.gateways import stripe_card_answers as words
from billing.gateways.stripe_card_answers import Page

EXPANDED: Any = {"expand": ["setup_intent.payment_method"]}
# Nothing came of these: no answer of Stripe's about the thing itself.
UNHEARD = ("gateway_unreachable", "gateway_refused")


class Cards:
    def __init__(self, client: Any) -> None:
        self._customers = client.customers
        self._sessions = client.checkout.sessions
        self._methods = client.payment_methods

    def customer(self, account: str, *, key: str) -> str:
        """A customer for this account; the same key answers the same one. Raises Refused, AnswerLost."""
        params: Any = {"metadata": {"account": account}, "description": f"Account {account}"}
        options = {"idempotency_key": f"customer:{key}"}
        said = stripe_calls.said(lambda: self._customers.create(params, options))
        return stripe_calls.believed(words.customer, said)

    def open(self, params: dict[str, Any], *, key: str) -> Page:
        """Raises Refused, AnswerLost."""
        options = {"idempotency_key": key}
        return stripe_calls.believed(words.page, stripe_calls.said(lambda: self._sessions.create(params, options)))

    def fetch(self, ref: str) -> Page:
        """Raises NotFound, AnswerLost."""
        said = stripe_calls.asked(lambda: self._sessions.retrieve(ref, EXPANDED))
        return stripe_calls.believed(words.page, said)

    def close(self, ref: str) -> Page:
        """No card is given there any more; one that was stays given. Raises NotFound, AnswerLost."""
        try:
            said = stripe_calls.said(lambda: self._sessions.expire(ref, EXPANDED))
        except Refused:
            return self.fetch(ref)
        return stripe_calls.believed(words.page, said)

    def forget(self, method: str) -> None:
        """Detach a payment method from its customer; done before is done. Raises AnswerLost."""
        try:
            stripe_calls.said(lambda: self._methods.detach(method))
        except NotFound:
            return
        except Refused as no:
            if no.reason in UNHEARD or not self._is_detached(method):
                raise AnswerLost(str(no)) from no

    def _is_detached(self, method: str) -> bool:
        try:
            found = stripe_calls.asked(lambda: self._methods.retrieve(method))
        except NotFound:
            return True
        return stripe_calls.believed(words.is_detached, found)


def params(*, customer: str, reference: str, currency: str, return_url: str) -> dict[str, Any]:
    """What a page to give a card on is asked for with."""
    return {
        "mode": "setup",
        "customer": customer,
        "currency": currency.lower(),
        # A filter on what the dashboard allows; other methods have no number to show.
        "allowed_payment_method_types": ["card"],
        "client_reference_id": reference,
        "metadata": {"reference": reference},
        "setup_intent_data": {"metadata": {"reference": reference}},
        "success_url": return_url,
        "cancel_url": return_url,
        **EXPANDED,
    }
