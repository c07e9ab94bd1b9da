"""Pure. Stripe's words as a gateway's: PaymentIntents, refunds, events and signatures, believed when they can be so.

requires_payment_method -> failed (every intent is confirmed when it is made, so it was declined)
requires_confirmation, requires_action -> requires_action    requires_capture -> authorized    canceled -> cancelled

A dispute says how it stands each time, whatever event brings it; an inquiry (`warning_...`) is a dispute of no money
yet. One that was `prevented` is lost: Stripe gave the money back by itself.

Stripe counts a few currencies in other units than ISO 4217 does, and three-place ones in steps of ten
(docs.stripe.com/currencies).
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from billing import amounts
from billing.gateways import (
    BadSignature,
    Charge,
    ChargeState,
    DisputeWord,
    Event,
    Repayment,
    RepaymentState,
    Unreadable,
    answers,
)

# A payment method, and the customer it belongs to when it is to pay more than once.
TOKEN = re.compile(r"(?:(?P<customer>cus_[0-9A-Za-z_]{1,90}):)?(?P<method>(?:pm|card|src)_[0-9A-Za-z_]{1,90})")
SIGNATURE = "stripe-signature"
TOLERANCE = timedelta(minutes=5)
MOST_SIGNATURES = 16
SECONDS = re.compile(r"[0-9]{1,11}")
# Paid on Stripe's own page: the one method that is no token.
CHECKOUT = "stripe_checkout"
CHECKOUT_LABEL = "Card, on Stripe's page"
# Digits after the point as Stripe counts, where ISO 4217 says another number.
PLACES = {"ISK": 2, "UGX": 2, "MGA": 0}
STATES = {
    "requires_payment_method": ChargeState.FAILED,
    "requires_confirmation": ChargeState.REQUIRES_ACTION,
    "requires_action": ChargeState.REQUIRES_ACTION,
    "processing": ChargeState.PROCESSING,
    "requires_capture": ChargeState.AUTHORIZED,
    "succeeded": ChargeState.SUCCEEDED,
    "canceled": ChargeState.CANCELLED,
}
REFUND_STATES = {
    "pending": RepaymentState.PROCESSING,
    "requires_action": RepaymentState.PROCESSING,
    "succeeded": RepaymentState.SUCCEEDED,
    "failed": RepaymentState.FAILED,
    "canceled": RepaymentState.FAILED,
}
EVENTS = {
    "payment_intent.succeeded": ChargeState.SUCCEEDED,
    "payment_intent.processing": ChargeState.PROCESSING,
    "payment_intent.requires_action": ChargeState.REQUIRES_ACTION,
    "payment_intent.amount_capturable_updated": ChargeState.AUTHORIZED,
    "payment_intent.payment_failed": ChargeState.FAILED,
    "payment_intent.canceled": ChargeState.CANCELLED,
}

DISPUTE_STATES = {
    "warning_needs_response": "opened",
    "needs_response": "opened",
    "warning_under_review": "under_review",
    "under_review": "under_review",
    "warning_closed": "won",
    "won": "won",
    "lost": "lost",
    "prevented": "lost",
}
DISPUTE_EVENTS = tuple(
    f"charge.dispute.{what}" for what in ("created", "updated", "closed", "funds_withdrawn", "funds_reinstated")
)


SESSION_EVENTS = {
    "checkout.session.completed": None,
    "checkout.session.async_payment_succeeded": ChargeState.SUCCEEDED,
    "checkout.session.async_payment_failed": ChargeState.FAILED,
    "checkout.session.expired": ChargeState.CANCELLED,
}
# What a payment fails with when the bank would ask its customer, who is not there (docs.stripe.com/declines/codes).
NOBODY_THERE = "authentication_required"
ASK_THEM = (
    "The bank wants the cardholder to confirm it. Buy credits with this card once yourself: the bank asks you then."
)
# What is no end, and no address, while the customer is on Stripe's page.
ON_THE_PAGE = (ChargeState.FAILED, ChargeState.REQUIRES_ACTION)


@dataclass(frozen=True)
class Session:
    """A page to pay on: the charge under the session's name, and its PaymentIntent once there is one."""

    charge: Charge
    intent: str


class Uncountable(Exception):
    """The amount is none that Stripe can take; the text says why."""


def to_stripe(minor: int, currency: str) -> int:
    """Minor units as Stripe counts them. Raises Uncountable."""
    shift: int = PLACES.get(currency, amounts.exponent(currency)) - amounts.exponent(currency)
    counted, rest = (minor * int(10**shift), 0) if shift >= 0 else divmod(minor, int(10**-shift))
    if rest:
        raise Uncountable(f"Stripe takes only whole amounts in {currency}.")
    if amounts.exponent(currency) == 3 and counted % 10:
        raise Uncountable(f"Stripe takes amounts in {currency} only to two places.")
    return counted


def from_stripe(counted: int, currency: str) -> int:
    """Raises answers.Unbelievable."""
    shift: int = PLACES.get(currency, amounts.exponent(currency)) - amounts.exponent(currency)
    minor, rest = (counted * int(10**-shift), 0) if shift <= 0 else divmod(counted, int(10**shift))
    if rest:
        raise answers.Unbelievable(f"There is no amount of {counted} in {currency}.")
    return minor


def charge(intent: Any) -> Charge:
    """Raises answers.Unbelievable."""
    said = _dict(intent, "payment_intent")
    status = answers.text(said, "status", 40)
    if status not in STATES:
        raise answers.Unbelievable(f"There is no status {status!r} of a PaymentIntent.")
    state, currency = STATES[status], answers.text(said, "currency", 3).upper()
    amount, received = (from_stripe(answers.minor(said, name), currency) for name in ("amount", "amount_received"))
    captured = received if state == ChargeState.SUCCEEDED else 0
    refunded = from_stripe(_refunded(said), currency)
    if (state == ChargeState.SUCCEEDED) != (captured == amount > 0) or refunded > captured:
        raise answers.Unbelievable(f"A payment of {amount} that is {status} cannot have captured {captured}.")
    return Charge(
        ref=answers.text(said, "id", 200),
        reference=_reference(said),
        state=state,
        amount=amount,
        currency=currency,
        captured=captured,
        refunded=refunded,
        action_url=answers.address(_inner(_inner(said, "next_action"), "redirect_to_url").get("url")),
        **_failure(said, state),
    )


def _failure(said: Mapping[str, Any], state: ChargeState) -> dict[str, str]:
    if state != ChargeState.FAILED:
        return {}
    wrong = _inner(said, "last_payment_error")
    code = answers.words(wrong.get("code"), 60) or "declined"
    if code == NOBODY_THERE:
        return {"failure_code": code, "failure_message": ASK_THEM}
    return {"failure_code": code, "failure_message": answers.words(wrong.get("message"), 300)}


def repayment(refund: Any) -> Repayment:
    """Raises answers.Unbelievable."""
    said = _dict(refund, "refund")
    status = answers.text(said, "status", 40)
    if status not in REFUND_STATES:
        raise answers.Unbelievable(f"There is no status {status!r} of a refund.")
    reason = answers.words(said.get("failure_reason"), 60)
    return Repayment(
        ref=answers.text(said, "id", 200),
        state=REFUND_STATES[status],
        amount=from_stripe(answers.minor(said, "amount"), answers.text(said, "currency", 3).upper()),
        failure_code=reason,
        failure_message=f"The refund failed: {reason.replace('_', ' ')}." if reason else "",
    )


def session(found: Any) -> Session:
    """Raises answers.Unbelievable."""
    said = _dict(found, "checkout.session")
    status, currency = answers.text(said, "status", 20), answers.text(said, "currency", 3).upper()
    amount = from_stripe(answers.minor(said, "amount_total"), currency)
    intent = said.get("payment_intent")
    paid = charge(intent) if isinstance(intent, dict) and status == "complete" else None
    if paid is not None and (paid.amount, paid.currency) != (amount, currency):
        raise answers.Unbelievable("The session and its payment speak of different amounts.")
    ref, reference = answers.text(said, "id", 200), _reference(said)
    name = _name(intent.get("id") if isinstance(intent, dict) else intent)
    if paid is not None:
        return Session(replace(paid, action_url="", ref=ref, reference=reference), name)
    about = {"ref": ref, "reference": reference, "amount": amount, "currency": currency}
    return Session(_unpaid(said, status, **about), name)


def _unpaid(said: dict[str, Any], status: str, **about: Any) -> Charge:
    """A page that waits, or has closed without a payment, or with one that is not shown."""
    states = {
        "open": ChargeState.REQUIRES_ACTION,
        "complete": ChargeState.PROCESSING,
        "expired": ChargeState.CANCELLED,
    }
    if status not in states:
        raise answers.Unbelievable(f"There is no status {status!r} of a session.")
    waits = status == "open"
    return Charge(state=states[status], action_url=answers.address(said.get("url")) if waits else "", **about)


def dispute(said: Any) -> DisputeWord:
    """Raises answers.Unbelievable."""
    about = _dict(said, "dispute")
    status = answers.text(about, "status", 40)
    if status not in DISPUTE_STATES:
        raise answers.Unbelievable(f"There is no status {status!r} of a dispute.")
    details, currency = _inner(about, "evidence_details"), answers.text(about, "currency", 3).upper()
    given = details.get("submission_count")
    return DisputeWord(
        ref=answers.text(about, "id", 200),
        state=DISPUTE_STATES[status],
        amount=from_stripe(answers.minor(about, "amount"), currency),
        currency=currency,
        reason=answers.words(about.get("reason"), 300).replace("_", " "),
        evidence_due_at=_moment(details.get("due_by")),
        # Evidence that is only kept as a draft (`has_evidence`) was not handed in.
        has_evidence=isinstance(given, int) and given > 0,
    )


def event(body: bytes) -> Event:
    """What a webhook says of a payment or its dispute. Raises Unreadable."""
    try:
        said = json.loads(body)
        kind, id = answers.text(said, "type", 100), answers.text(said, "id", 200)
    except (ValueError, TypeError, AttributeError, RecursionError, answers.Unbelievable) as wrong:
        raise Unreadable("The body is no event of Stripe's.") from wrong
    about = _inner(_inner(said, "data"), "object")
    if kind in DISPUTE_EVENTS and about.get("object") == "dispute":
        return _disputed(id, kind, about, said)
    if kind in SESSION_EVENTS and about.get("object") == "checkout.session":
        if about.get("mode") == "setup":
            return Event(id, kind, ref="", reference="", state=None, setup=_name(about.get("id")))
        return _returned(id, kind, about, said)
    state = EVENTS.get(kind)
    if state in ON_THE_PAGE and _inner(about, "metadata").get("page") == "checkout":
        state = None
    is_intent = about.get("object") == "payment_intent"
    if state is None or not is_intent:
        return Event(id, kind, ref=_name(about.get("payment_intent")), reference="", state=None)
    return _told(id, kind, about, said, state, amount="amount", failure=_failure(about, state))


def _returned(id: str, kind: str, about: Mapping[str, Any], said: Any) -> Event:
    """A session's event; one that is completed without being paid is still on its way."""
    state = SESSION_EVENTS[kind]
    if state is None:
        state = ChargeState.SUCCEEDED if about.get("payment_status") == "paid" else ChargeState.PROCESSING
    words = {"failure_code": "declined", "failure_message": "The payment was declined in the end."}
    failure = words if state == ChargeState.FAILED else {}
    alias = _name(about.get("payment_intent"))
    return _told(id, kind, about, said, state, amount="amount_total", failure=failure, alias=alias)


def _told(
    id: str,
    kind: str,
    about: Mapping[str, Any],
    said: Any,
    state: ChargeState,
    *,
    amount: str,
    failure: Mapping[str, str],
    alias: str = "",
) -> Event:
    """What an event says of a payment; `amount` is the field that has it. Raises Unreadable."""
    try:
        currency = answers.text(dict(about), "currency", 3).upper()
        minor = from_stripe(answers.minor(dict(about), amount), currency)
    except answers.Unbelievable as wrong:
        raise Unreadable(str(wrong)) from wrong
    return Event(
        id=id,
        type=kind,
        ref=_name(about.get("id")),
        reference=_reference(about),
        state=state,
        created_at=_moment(said.get("created")),
        amount=minor,
        currency=currency,
        failure_code=failure.get("failure_code", ""),
        failure_message=failure.get("failure_message", ""),
        alias=alias,
    )


def _disputed(id: str, kind: str, about: Mapping[str, Any], said: Any) -> Event:
    try:
        word = dispute(about)
    except answers.Unbelievable as wrong:
        raise Unreadable(str(wrong)) from wrong
    ref, moment = _name(about.get("payment_intent")), _moment(said.get("created"))
    return Event(id, kind, ref=ref, reference="", state=None, created_at=moment, dispute=word)


def check_signature(body: bytes, headers: Mapping[str, str], *, secrets: Sequence[str], now: datetime) -> None:
    """`t=<seconds>,v1=<hex of HMAC-SHA256 over "<seconds>.<body>">`, several while a secret is replaced.

    Stripe's own check reads the machine's clock, and lets a moment far ahead pass. Raises BadSignature.
    """
    given = {name.lower(): value for name, value in headers.items()}.get(SIGNATURE, "")
    parts = [part.strip().partition("=") for part in given.split(",")[: MOST_SIGNATURES + 1]]
    moment = next((value for name, _, value in parts if name == "t"), "")
    if not SECONDS.fullmatch(moment):
        raise BadSignature("Stripe-Signature with a number of seconds in t is needed.")
    if abs(now - datetime.fromtimestamp(int(moment), UTC)) > TOLERANCE:
        raise BadSignature("Stripe-Signature is more than five minutes away from now.")
    wanted = [
        hmac.new(secret.encode(), moment.encode() + b"." + body, hashlib.sha256).hexdigest() for secret in secrets
    ]
    signed = [value.encode() for name, _, value in parts if name == "v1"]
    if not any(hmac.compare_digest(one.encode(), other) for one in wanted for other in signed):
        raise BadSignature("No signature matches.")


def _dict(said: Any, kind: str) -> dict[str, Any]:
    if not isinstance(said, dict) or said.get("object") != kind:
        raise answers.Unbelievable(f"The answer is no {kind}.")
    return said


def _inner(said: Any, name: str) -> Mapping[str, Any]:
    found = said.get(name) if isinstance(said, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def _refunded(said: Mapping[str, Any]) -> int:
    charge = _inner(said, "latest_charge")
    return answers.minor(dict(charge), "amount_refunded") if "amount_refunded" in charge else 0


def _reference(said: Mapping[str, Any]) -> str:
    return _name(_inner(said, "metadata").get("reference"))


def _name(value: Any) -> str:
    return value if isinstance(value, str) and len(value) <= 200 and value.isprintable() else ""


def _moment(value: Any) -> datetime | None:
    is_number = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10**11
    return datetime.fromtimestamp(value, UTC) if is_number else None
