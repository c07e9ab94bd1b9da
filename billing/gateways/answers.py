"""Pure. What an HTTP gateway answered, read as something hostile: believed only when every part of it can be so."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlsplit

from billing.gateways import Charge, ChargeState, DisputeWord, Repayment, RepaymentState, events

MOST_MINOR = 10**15
LOOPBACK = ("127.0.0.1", "::1", "localhost")


class Unbelievable(Exception):
    """The answer is not one a gateway gives; the text says why."""


def read(body: bytes) -> dict[str, Any]:
    """Raises Unbelievable."""
    try:
        said = json.loads(body)
    except (ValueError, RecursionError) as wrong:
        raise Unbelievable("The answer is not JSON.") from wrong
    if not isinstance(said, dict):
        raise Unbelievable("The answer is not a JSON object.")
    return said


def charge(said: dict[str, Any]) -> Charge:
    """Raises Unbelievable."""
    amount, captured, refunded = (minor(said, name) for name in ("amount", "captured", "refunded"))
    state = text(said, "state", 20)
    if state not in list(ChargeState):
        raise Unbelievable(f"There is no state {state!r}.")
    if not refunded <= captured <= amount or (state == ChargeState.SUCCEEDED) != (captured == amount > 0):
        raise Unbelievable(
            f"A payment of {amount} that is {state} cannot have captured {captured}, refunded {refunded}."
        )
    return Charge(
        ref=text(said, "id", 200),
        reference=text(said, "reference", 200),
        state=ChargeState(state),
        amount=amount,
        currency=text(said, "currency", 3),
        captured=captured,
        refunded=refunded,
        action_url=address(said.get("action_url")),
        failure_code=words(said.get("failure_code"), 60),
        failure_message=words(said.get("failure_message"), 300),
    )


def repayment(said: dict[str, Any]) -> Repayment:
    """Raises Unbelievable."""
    state = text(said, "state", 20)
    if state not in list(RepaymentState):
        raise Unbelievable(f"There is no state {state!r} of a refund.")
    return Repayment(
        ref=text(said, "id", 200),
        state=RepaymentState(state),
        amount=minor(said, "amount"),
        failure_code=words(said.get("failure_code"), 60),
        failure_message=words(said.get("failure_message"), 300),
    )


def dispute(said: dict[str, Any]) -> DisputeWord:
    """Raises Unbelievable."""
    state = text(said, "state", 20)
    if state not in events.DISPUTE_STATES:
        raise Unbelievable(f"There is no state {state!r} of a dispute.")
    return events.dispute_word(text(said, "id", 200), state, said)


def only(said: dict[str, Any], name: str) -> dict[str, Any] | None:
    """The one thing of a list that is found by its key, or None when the list is empty. Raises Unbelievable."""
    found = said.get(name)
    if not isinstance(found, list) or len(found) > 1 or not all(isinstance(each, dict) for each in found):
        raise Unbelievable(f"`{name}` must be a list of at most one.")
    return found[0] if found else None


def is_not_found(said: dict[str, Any]) -> bool:
    """Any server answers 404 to a wrong address; only a gateway says so in words."""
    return said.get("code") == "not_found"


def minor(said: dict[str, Any], name: str) -> int:
    value = said.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= MOST_MINOR:
        raise Unbelievable(f"`{name}` must be a number of minor units.")
    return value


def text(said: dict[str, Any], name: str, most: int) -> str:
    value = said.get(name)
    if not isinstance(value, str) or not 0 < len(value) <= most or not value.isprintable():
        raise Unbelievable(f"`{name}` must be a text of 1 to {most} characters.")
    return value


def words(value: Any, most: int) -> str:
    """For people to read; whatever it is, it is only shown."""
    return "".join(letter for letter in value if letter.isprintable())[:most] if isinstance(value, str) else ""


def address(value: Any) -> str:
    """Where a customer is sent: another site's page, never a script."""
    if value in (None, ""):
        return ""
    if not isinstance(value, str) or len(value) > 2000 or not value.isascii() or not value.isprintable():
        raise Unbelievable("`action_url` is no address.")
    try:
        parts = urlsplit(value)
        host = parts.hostname
    except ValueError as wrong:
        raise Unbelievable("`action_url` is no address.") from wrong
    if not host or not (parts.scheme == "https" or (parts.scheme == "http" and host in LOOPBACK)):
        raise Unbelievable("`action_url` must begin with https://.")
    return value
