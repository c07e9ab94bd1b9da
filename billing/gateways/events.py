"""Pure. The body of a gateway's webhook, read as something hostile: `{id, type, created_at, data: {payment, ...}}`.

`data.payment` is the payment itself, or only an id of it, the gateway's or ours. The type says the state
(`payment.succeeded`); the payment does where the type is `payment.updated`. A dispute's (`dispute.opened`) has
`data.dispute {id, payment, amount?, reason?, evidence_due_at?, has_evidence?}`.
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from billing.gateways import ChargeState, DisputeWord, Event, Unreadable

MOST_MINOR = 10**15
DISPUTE_STATES = ("opened", "under_review", "won", "lost")


def read(body: bytes) -> Event:
    """Raises Unreadable."""
    try:
        said = json.loads(body)
    except (ValueError, RecursionError) as wrong:
        raise Unreadable("The body is not JSON.") from wrong
    if not isinstance(said, dict):
        raise Unreadable("The body is not a JSON object.")
    data = said.get("data")
    disputed = data.get("dispute") if isinstance(data, dict) else None
    about = disputed if isinstance(disputed, dict) else data
    payment = about.get("payment") if isinstance(about, dict) else None
    details = payment if isinstance(payment, dict) else data if isinstance(data, dict) else {}
    kind = text(said, "type", 100)
    return Event(
        id=text(said, "id", 200),
        type=kind,
        ref=_name(payment if isinstance(payment, str) else details.get("id")),
        reference=_name(payment if isinstance(payment, str) else details.get("reference")),
        state=_state(kind, details),
        created_at=_moment(said.get("created_at")),
        amount=_amount(details),
        currency=details["currency"] if isinstance(details.get("currency"), str) else None,
        failure_code=str(details.get("failure_code") or "")[:60],
        failure_message=str(details.get("failure_message") or "")[:300],
        dispute=_dispute(kind, disputed),
    )


def text(said: dict[str, Any], name: str, most: int) -> str:
    value = said.get(name)
    if not isinstance(value, str) or not 0 < len(value) <= most or not value.isprintable():
        raise Unreadable(f"`{name}` must be a text of 1 to {most} characters.")
    return value


def _name(value: Any) -> str:
    return value if isinstance(value, str) and len(value) <= 200 and value.isprintable() else ""


def _state(kind: str, details: dict[str, Any]) -> ChargeState | None:
    """What the type says counts: the details may be newer than the event. An unknown type says nothing."""
    area, _, word = kind.partition(".")
    if area != "payment":
        return None
    if word in ("updated", "changed") and isinstance(details.get("state"), str):
        word = details["state"]
    return ChargeState(word) if word in list(ChargeState) else None


def _dispute(kind: str, said: Any) -> DisputeWord | None:
    area, _, word = kind.partition(".")
    if area != "dispute" or word not in DISPUTE_STATES or not isinstance(said, dict):
        return None
    ref = _name(said.get("id"))
    return dispute_word(ref, word, said) if ref else None


def dispute_word(ref: str, state: str, said: dict[str, Any]) -> DisputeWord:
    reason = said.get("reason")
    return DisputeWord(
        ref=ref,
        state=state,
        amount=_amount(said),
        currency=said["currency"] if isinstance(said.get("currency"), str) else None,
        reason="".join(each for each in reason if each.isprintable())[:300] if isinstance(reason, str) else "",
        evidence_due_at=_moment(said.get("evidence_due_at")),
        has_evidence=said.get("has_evidence") is True,
    )


def _amount(details: dict[str, Any]) -> int | None:
    value = details.get("amount")
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MOST_MINOR else None


def _moment(value: Any) -> datetime | None:
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None
    return moment if moment is not None and moment.tzinfo is not None else None
