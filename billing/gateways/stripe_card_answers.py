"""Pure. Stripe's words about cards that it keeps: the page one is given on, and the card, believed when they can be so.

    open -> complete with a card that can be charged | expired

What is complete and has no such card yet is still on its way, unless its SetupIntent was given up.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from billing.gateways import answers, stripe_answers

CUSTOMER = re.compile(r"cus_[0-9A-Za-z_]{1,90}")
LAST4 = re.compile(r"[0-9]{4}")
# How its names are written, where that is not with one capital.
BRANDS = {"amex": "American Express", "jcb": "JCB", "unionpay": "UnionPay", "eftpos_au": "Eftpos", "unknown": "Card"}


class PageState(StrEnum):
    OPEN = "open"
    ON_ITS_WAY = "on_its_way"
    DONE = "done"
    CLOSED = "closed"


@dataclass(frozen=True)
class Card:
    """A card as its owner knows it; `token` is what payments name it by."""

    token: str
    brand: str
    last4: str
    exp_month: int
    exp_year: int

    @property
    def label(self) -> str:
        return f"{self.brand} …{self.last4}"


@dataclass(frozen=True)
class Page:
    """What Stripe says of a page; the card is there when it is done, and the address while it is open."""

    ref: str
    reference: str
    customer: str
    state: PageState
    address: str = ""
    card: Card | None = None


def customer(found: Any) -> str:
    """Raises answers.Unbelievable."""
    said = found if isinstance(found, dict) and found.get("object") == "customer" else {}
    id = answers.text(said, "id", 100)
    if not CUSTOMER.fullmatch(id):
        raise answers.Unbelievable("The answer is no customer.")
    return id


def page(found: Any) -> Page:
    """Raises answers.Unbelievable."""
    said = found if isinstance(found, dict) else {}
    if said.get("object") != "checkout.session" or said.get("mode") != "setup":
        raise answers.Unbelievable("The answer is no page to give a card on.")
    metadata = said.get("metadata")
    about: dict[str, Any] = {
        "ref": answers.text(said, "id", 200),
        "reference": answers.text(metadata if isinstance(metadata, dict) else {}, "reference", 200),
        "customer": answers.text(said, "customer", 100),
    }
    status = answers.text(said, "status", 20)
    if status == "open":
        return Page(**about, state=PageState.OPEN, address=answers.address(said.get("url")))
    if status == "expired":
        return Page(**about, state=PageState.CLOSED)
    if status != "complete":
        raise answers.Unbelievable(f"There is no status {status!r} of a session.")
    return _complete(said.get("setup_intent"), about)


def _complete(intent: Any, about: dict[str, Any]) -> Page:
    said = intent if isinstance(intent, dict) else {}
    if said.get("object") != "setup_intent":
        raise answers.Unbelievable("The page does not say what was given on it.")
    status = answers.text(said, "status", 40)
    if status == "succeeded":
        return Page(**about, state=PageState.DONE, card=card(said.get("payment_method"), of=about["customer"]))
    is_over = status in ("canceled", "requires_payment_method")
    return Page(**about, state=PageState.CLOSED if is_over else PageState.ON_ITS_WAY)


def card(found: Any, *, of: str) -> Card:
    """A card of this customer's. Raises answers.Unbelievable."""
    said: Mapping[str, Any] = found if isinstance(found, dict) else {}
    shown = said.get("card")
    if said.get("object") != "payment_method" or said.get("type") != "card" or not isinstance(shown, dict):
        raise answers.Unbelievable("The answer is no card.")
    if said.get("customer") != of:
        raise answers.Unbelievable("The card is another customer's.")
    token = f"{of}:{answers.text(dict(said), 'id', 100)}"
    month, year = (answers.minor(shown, name) for name in ("exp_month", "exp_year"))
    last4 = answers.text(shown, "last4", 4)
    is_month = 1 <= month <= 12 and 2000 <= year < 2200
    if not is_month or not LAST4.fullmatch(last4) or not stripe_answers.TOKEN.fullmatch(token):
        raise answers.Unbelievable("The card is none that can be named.")
    return Card(token, brand(shown.get("brand")), last4, month, year)


def brand(said: Any) -> str:
    """As people write it."""
    name = answers.words(said, 30).strip() or "unknown"
    return BRANDS.get(name, name.replace("_", " ").capitalize())


def is_detached(found: Any) -> bool:
    """Whether a payment method is nobody's any more. Raises answers.Unbelievable."""
    if not isinstance(found, dict) or found.get("object") != "payment_method":
        raise answers.Unbelievable("The answer is no payment method.")
    return found.get("customer") is None
