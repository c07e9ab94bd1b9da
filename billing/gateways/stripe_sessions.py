"""Which of Stripe's pages is for which payment, and which of its PaymentIntents was paid on it: our own notes.

A payment made on a page is named by the page's session for good; Stripe's words about its intent or its dispute are
given the same name here. Nothing here speaks to Stripe.
"""

from __future__ import annotations

from dataclasses import replace

from django.db import IntegrityError, transaction

from billing.gateways import Event, NotFound
from billing.models import StripeSession

PREFIX = "cs_"


class NotOurs(Exception):
    """Raised for a name that belongs to another payment."""


def is_named(ref: str) -> bool:
    return ref.startswith(PREFIX)


def has(reference: str) -> bool:
    return StripeSession.objects.filter(reference=reference).exists()


def row(*, ref: str = "", reference: str = "") -> StripeSession:
    """Raises NotFound."""
    found = StripeSession.objects.filter(**({"session_id": ref} if ref else {"reference": reference})).first()
    if found is None:
        raise NotFound(ref or reference)
    return found


def note(reference: str, *, session_id: str = "", payment_intent: str = "") -> None:
    """Keep what was not known before; a name stays what it was. Raises NotOurs."""
    try:
        with transaction.atomic():
            for name, value in {"session_id": session_id, "payment_intent": payment_intent}.items():
                if value:
                    StripeSession.objects.filter(reference=reference, **{name: None}).update(**{name: value})
    except IntegrityError as taken:
        raise NotOurs(reference) from taken


def named(event: Event) -> Event:
    """An event with the name that its payment has with us, where it was made on a page."""
    intent = event.alias or event.ref
    if event.reference and intent.startswith("pi_"):
        try:
            note(event.reference, payment_intent=intent)
        except NotOurs:
            return event
    found = StripeSession.objects.filter(payment_intent=event.ref).first() if event.ref else None
    return replace(event, ref=found.session_id or "") if found else event
