"""Payments on Stripe's own page (Checkout): the customer is sent there, and no card number ever comes near us.

create -> requires_action (the page's address) -> processing | succeeded (its PaymentIntent) | cancelled (it expired)

What was asked is written down before Stripe hears of it, so that a lost answer is found by asking the same again:
with its idempotency key Stripe answers the same page, and a page that nobody was sent to takes no money.
"""

from __future__ import annotations

from typing import Any

from billing.gateways import AnswerLost, Charge, NotFound, Order, Refused, stripe_answers, stripe_calls, stripe_sessions
from billing.models import StripeSession

EXPANDED: Any = {"expand": ["payment_intent.latest_charge"]}


class Checkout:
    def __init__(self, client: Any) -> None:
        self._sessions = client.checkout.sessions

    def create(self, order: Order) -> Charge:
        if not order.return_url or not order.capture:
            raise Refused("no_page", "Stripe's page needs an address to come back to, and takes the money at once.")
        try:
            asked = {"params": _params(order), "amount": order.amount, "currency": order.currency}
        except stripe_answers.Uncountable as wrong:
            raise Refused("bad_amount", str(wrong)) from wrong
        row, _ = StripeSession.objects.get_or_create(reference=order.reference, defaults=asked)
        if (row.amount, row.currency) != (order.amount, order.currency):
            raise Refused("key_reused", "This key stands for another payment.")
        return self._ask(row)

    def fetch(self, *, ref: str = "", reference: str = "") -> Charge:
        try:
            return self._ask(stripe_sessions.row(ref=ref, reference=reference))
        except Refused as no:
            # Asked the same again, since the answer was lost; a refusal says nothing of what was done before.
            raise AnswerLost(str(no)) from no

    def cancel(self, ref: str) -> Charge:
        """The page closes; what was paid there already stays paid."""
        row = stripe_sessions.row(ref=ref)
        try:
            found = stripe_calls.said(lambda: self._sessions.expire(ref, EXPANDED))
        except Refused:
            return self.fetch(ref=ref)
        return self._read(row, found)

    def intent_of(self, ref: str) -> str:
        """Raises NotFound while nobody began to pay."""
        row = stripe_sessions.row(ref=ref)
        if row.payment_intent is None:
            self.fetch(ref=ref)
            row.refresh_from_db()
        if row.payment_intent is None:
            raise NotFound(ref)
        return str(row.payment_intent)

    def _ask(self, row: StripeSession) -> Charge:
        if row.session_id is None:
            options = {"idempotency_key": row.reference}
            return self._read(row, stripe_calls.said(lambda: self._sessions.create(row.params, options)))
        return self._read(row, stripe_calls.asked(lambda: self._sessions.retrieve(row.session_id, EXPANDED)))

    def _read(self, row: StripeSession, found: dict[str, Any]) -> Charge:
        """Note the names in it. Raises AnswerLost for what is about another payment."""
        session = stripe_calls.believed(stripe_answers.session, found)
        about = (session.charge.reference, session.charge.amount, session.charge.currency)
        if about != (row.reference, row.amount, row.currency) or row.session_id not in (None, session.charge.ref):
            raise AnswerLost("Stripe answered about another payment.")
        try:
            stripe_sessions.note(row.reference, session_id=session.charge.ref, payment_intent=session.intent)
        except stripe_sessions.NotOurs as taken:
            raise AnswerLost("Stripe names what belongs to another payment.") from taken
        return session.charge


def _params(order: Order) -> dict[str, Any]:
    """Raises stripe_answers.Uncountable."""
    price = {
        "currency": order.currency.lower(),
        "unit_amount": stripe_answers.to_stripe(order.amount, order.currency),
        "product_data": {"name": order.description[:250] or "Credits"},
    }
    about = {"reference": order.reference}
    return {
        "mode": "payment",
        "line_items": [{"price_data": price, "quantity": 1}],
        "client_reference_id": order.reference,
        "metadata": about,
        # A decline on the page is not the end: the customer may try another card there.
        "payment_intent_data": {"metadata": {**about, "page": "checkout"}, "description": order.description[:1000]},
        "success_url": f"{order.return_url}returned/",
        "cancel_url": f"{order.return_url}returned/",
        **EXPANDED,
    }
