"""Pure. What speaks for us in a dispute, as texts: the fields a gateway takes, and how long they may be.

They are Stripe's (docs.stripe.com/api/disputes/evidence_object), which are what the card networks ask for.
"""

from __future__ import annotations

from collections.abc import Mapping

FIELDS = {
    "product_description": "What was sold",
    "customer_name": "The customer's name",
    "customer_email_address": "The customer's e-mail address",
    "customer_purchase_ip": "The address they bought from",
    "service_date": "When it was provided",
    "access_activity_log": "What the customer did with it",
    "refund_policy_disclosure": "How they were told of refunds",
    "refund_refusal_explanation": "Why it was not refunded",
    "uncategorized_text": "What else speaks for us",
}
# Letters of one line; what is not here is a text of up to MOST_LETTERS.
SHORT = {"customer_name": 200, "customer_email_address": 254, "customer_purchase_ip": 45, "service_date": 100}
MOST_LETTERS = 20_000
MOST_IN_ALL = 60_000


class NoEvidence(Exception):
    """The texts are none that can be handed in; `errors` says which and why."""

    code = "validation_error"

    def __init__(self, errors: dict[str, list[str]]) -> None:
        self.errors = errors
        self.extras = {"errors": {f"evidence.{name}": sentences for name, sentences in errors.items()}}
        super().__init__(next(iter(next(iter(errors.values())))))


def clean(given: Mapping[str, str]) -> dict[str, str]:
    """The texts that say something, in the order of FIELDS. Raises NoEvidence."""
    errors = {name: ["There is no such text."] for name in given if name not in FIELDS}
    said = {name: given[name].strip() for name in FIELDS if given.get(name, "").strip()}
    for name, text in said.items():
        wrong = _wrong(text, most=SHORT.get(name, MOST_LETTERS), is_line=name in SHORT)
        if wrong:
            errors[name] = [wrong]
    if not said:
        errors["uncategorized_text"] = ["Say at least one thing that speaks for us."]
    elif sum(map(len, said.values())) > MOST_IN_ALL:
        errors["uncategorized_text"] = [f"All texts together have at most {MOST_IN_ALL:,} letters."]
    if errors:
        raise NoEvidence(errors)
    return said


def _wrong(text: str, *, most: int, is_line: bool) -> str:
    if len(text) > most:
        return f"This text has at most {most:,} letters."
    letters = text if is_line else text.replace("\n", " ").replace("\r", " ").replace("\t", " ")
    # Letters such as emoji's joiners are not printable by themselves; only control characters are no text.
    if any(ord(letter) < 32 or 127 <= ord(letter) < 160 for letter in letters):
        return "This text has control characters in it. Remove them."
    return ""
