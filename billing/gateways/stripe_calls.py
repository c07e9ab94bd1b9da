"""How Stripe is spoken to: its library, through our own way out, and what its answers and refusals mean."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import httpx
import stripe

from billing.gateways import AnswerLost, NotFound, Refused, answers, wire

# An intent with its charge; a page of a hundred refunds is the longest.
MOST_BYTES = 1024 * 1024
# Stripe understood and did nothing. Any other failure says nothing about the money.
REFUSALS = frozenset({400, 401, 402, 403, 404})
Found = TypeVar("Found")


def client(key: str, *, url: str, deadline_seconds: float) -> Any:
    """What is not answered is asked about by the janitor; the library sends nothing twice."""
    return stripe.StripeClient(
        key, base_addresses={"api": url}, max_network_retries=0, http_client=_Wire(deadline_seconds)
    ).v1


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
            answer = wire.ask(
                method.upper(), url, body, headers or {}, deadline_seconds=self._deadline, most_bytes=MOST_BYTES
            )
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.UnsupportedProtocol) as away:
            if method.lower() == "get":
                raise AnswerLost("Stripe could not be reached.") from away
            raise Refused("gateway_unreachable", "Stripe could not be reached; nothing was charged.") from away
        except httpx.HTTPError as wrong:
            raise AnswerLost(f"Stripe does not answer: {type(wrong).__name__}.") from wrong
        return answer.body.decode(errors="replace"), answer.status, answer.headers


def said(ask: Callable[[], Any]) -> dict[str, Any]:
    """Stripe's JSON; a decline is an answer like any other. Raises Refused, NotFound, AnswerLost."""
    try:
        answer = ask()
        found = answer if isinstance(answer, dict) else answer.last_response.data
    except stripe.StripeError as no:
        return _no(no)
    except (AttributeError, TypeError, ValueError, KeyError) as wrong:
        # What the library cannot make an object of.
        raise AnswerLost("Stripe's answer is not one Stripe gives.") from wrong
    if not isinstance(found, dict):
        raise AnswerLost("Stripe's answer is not one Stripe gives.")
    return found


def asked(ask: Callable[[], Any]) -> dict[str, Any]:
    """As `said`, of a question: a refusal to answer says nothing about the money. Raises NotFound, AnswerLost."""
    try:
        return said(ask)
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


def rows(found: dict[str, Any]) -> list[dict[str, Any]]:
    listed = found.get("data")
    if not isinstance(listed, list) or not all(isinstance(each, dict) for each in listed):
        raise AnswerLost("Stripe's answer is no list.")
    return listed


def believed(read: Callable[[Any], Found], found: Any) -> Found:
    """Raises AnswerLost for what stripe_answers.py does not believe."""
    try:
        return read(found)
    except answers.Unbelievable as wrong:
        raise AnswerLost(str(wrong)) from wrong
