"""Disputes on the other side of the simulated gateway: raised by a payer, decided by what we hand in.

opened -> under_review -> won with evidence of what the customer did (DECISIVE), else lost

Whoever plays the gateway says any of these words at any time (`dispute`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import datetime, timedelta

from django.db import transaction
from uuid_utils.compat import uuid7

from billing.gateways import ChargeState, NotFound, Refused
from billing.models import SimulatedDispute, SimulatedEvent, SimulatedPayment

DECISIVE = "access_activity_log"
ANSWER_WITHIN = timedelta(days=7)
DECIDED = ("won", "lost")


@transaction.atomic(durable=True)
def dispute(ref: str, *, dispute_ref: str = "", state: str = "opened", now: datetime) -> str:
    """The payer disputes a payment, or a dispute goes on; its webhook follows. Returns the dispute's name."""
    payment = SimulatedPayment.objects.select_for_update().filter(ref=ref).first()
    if payment is None:
        raise NotFound(ref)
    if payment.state != ChargeState.SUCCEEDED:
        raise Refused("not_disputable", f"A payment that is {payment.state} cannot be disputed.")
    return say(payment, dispute_ref or f"simd_{uuid7().hex}", state, now=now).ref


def say(payment: SimulatedPayment, ref: str, state: str, *, now: datetime) -> SimulatedDispute:
    """Within a transaction: the dispute is now as it is said, and a webhook tells."""
    made = {"payment": payment, "amount": payment.captured - payment.refunded, "due_at": now + ANSWER_WITHIN}
    found, _ = SimulatedDispute.objects.get_or_create(ref=ref, defaults=made)
    found.state = state
    found.save(update_fields=["state"])
    body = {
        "id": f"evt_{uuid7().hex}",
        "type": f"dispute.{state}",
        "created_at": now.isoformat(),
        "data": {"dispute": _shown(found)},
    }
    SimulatedEvent.objects.create(body=body, created_at=now)
    return found


def _shown(found: SimulatedDispute) -> dict[str, object]:
    return {
        "id": found.ref,
        "payment": found.payment.ref,
        "state": found.state,
        "amount": found.amount,
        "currency": found.payment.currency,
        "reason": "The payer does not know it.",
        "evidence_due_at": found.due_at.isoformat(),
        "has_evidence": bool(found.evidence_hash),
    }


def look_up(ref: str) -> dict[str, object]:
    """As its API would say it. Raises NotFound."""
    found = SimulatedDispute.objects.select_related("payment").filter(ref=ref).first()
    if found is None:
        raise NotFound(ref)
    return _shown(found)


@transaction.atomic(durable=True)
def give_evidence(ref: str, *, evidence: Mapping[str, str], key: str, now: datetime) -> dict[str, object]:
    """The bank looks at it, and decides before anybody asks again. Raises Refused, NotFound."""
    rows = SimulatedDispute.objects.select_for_update(of=["self"]).select_related("payment")
    found = rows.filter(ref=ref).first()
    if found is None:
        raise NotFound(ref)
    wanted = hashlib.sha256(json.dumps([key, dict(evidence)], sort_keys=True).encode()).hexdigest()
    if found.evidence_hash == wanted:
        return _shown(found)
    if found.evidence_hash or found.state in DECIDED:
        raise Refused("evidence_given", f"This dispute is {found.state.replace('_', ' ')}; no more evidence is taken.")
    found.evidence_hash = wanted
    found.save(update_fields=["evidence_hash"])
    looked_at = _shown(say(found.payment, ref, "under_review", now=now))
    say(found.payment, ref, "won" if evidence.get(DECISIVE) else "lost", now=now)
    return looked_at
