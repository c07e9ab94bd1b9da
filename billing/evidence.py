"""Evidence for a dispute: written down, handed to the gateway, and what the gateway says of it.

created -> unknown -> accepted | refused

Whether more of it is taken later is the gateway's to say; of one dispute only one is under way at a time.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from uuid import UUID

from django.db import IntegrityError, transaction

from billing import disputes, evidence_texts, ledger, payment_states
from billing.gateways import AnswerLost, DisputeWord, NotFound, Refused, registry
from billing.models import Dispute, DisputeEvidence
from billing.payment_states import SENT_BY

State = DisputeEvidence.State
RANK = {State.CREATED: 0, State.UNKNOWN: 1, State.REFUSED: 2, State.ACCEPTED: 2}


class NotDisputed(Exception):
    """Raised when a dispute is decided, or its evidence is under way already."""

    code = "conflict"

    def __init__(self, sentence: str, state: str) -> None:
        self.extras = {"state": state}
        super().__init__(sentence)


@transaction.atomic(durable=True)
def open_evidence(
    *, dispute: Dispute, texts: Mapping[str, str], key: str, now: datetime, actor: str = "", request_id: str = ""
) -> tuple[DisputeEvidence, bool]:
    """Write down what is handed in; the same key again answers the first one, and False.

    Raises evidence_texts.NoEvidence, NotDisputed, ledger.KeyReused.
    """
    said = evidence_texts.clean(texts)
    ledger.lock_wallet(dispute.account_id)
    dispute = Dispute.objects.get(pk=dispute.pk)
    fingerprint = ledger.fingerprint("evidence", *said.items())
    before = DisputeEvidence.objects.filter(dispute=dispute, key=key).first()
    if before is not None:
        if before.request_hash != fingerprint:
            raise ledger.KeyReused(key)
        return before, False
    if not dispute.is_open:
        raise NotDisputed(f"This dispute is {dispute.state}; evidence changes nothing any more.", dispute.state)
    try:
        with transaction.atomic():
            return _open(dispute, said, key, fingerprint, now, actor, request_id), True
    except IntegrityError as wrong:
        raise NotDisputed("Evidence for this dispute is on its way already.", "unknown") from wrong


def _open(
    dispute: Dispute, texts: dict[str, str], key: str, fingerprint: str, now: datetime, actor: str, request_id: str
) -> DisputeEvidence:
    return DisputeEvidence.objects.create(
        dispute=dispute,
        texts=texts,
        key=key,
        request_hash=fingerprint,
        actor=actor,
        request_id=request_id,
        created_at=now,
        ask_at=now + SENT_BY,
    )


def send(*, evidence: DisputeEvidence, now: datetime) -> DisputeEvidence:
    """Hand it in, and write down the answer; told again with the same key the gateway takes nothing twice."""
    dispute = evidence.dispute
    gateway = registry.of(dispute.gateway)
    try:
        said = gateway.give_evidence(dispute.gateway_ref, evidence=evidence.texts, key=str(evidence.pk))
    except (Refused, NotFound) as no:
        return _refused(evidence, no, now)
    except AnswerLost as lost:
        return _record(evidence.pk, State.UNKNOWN, detail=str(lost), now=now)
    return _record(evidence.pk, State.ACCEPTED, now=now, said=said)


def _refused(evidence: DisputeEvidence, no: Exception, now: datetime) -> DisputeEvidence:
    """No more is taken, perhaps because it was taken when the answer was lost."""
    if evidence.state == State.UNKNOWN:
        try:
            said = registry.of(evidence.dispute.gateway).fetch_dispute(evidence.dispute.gateway_ref)
        except (Refused, NotFound):
            said = None
        except AnswerLost as lost:
            return _record(evidence.pk, State.UNKNOWN, detail=str(lost), now=now)
        if said is not None and said.has_evidence:
            return _record(evidence.pk, State.ACCEPTED, now=now, said=said)
    return _record(evidence.pk, State.REFUSED, detail=str(no), now=now)


@transaction.atomic
def _record(
    evidence_id: UUID, state: str, *, now: datetime, detail: str = "", said: DisputeWord | None = None
) -> DisputeEvidence:
    account_id = DisputeEvidence.objects.values_list("dispute__account_id", flat=True).get(pk=evidence_id)
    ledger.lock_wallet(account_id)
    found = DisputeEvidence.objects.select_related("dispute__payment__account").get(pk=evidence_id)
    if RANK[State(state)] > RANK[State(found.state)]:
        found.state, found.detail = state, detail[:300]
        found.ask_at = now + payment_states.ask_after(0) if found.is_open else None
        found.settled_at = None if found.is_open else now
        found.save()
    if said is not None:
        disputes.hear(payment=found.dispute.payment, said=said, now=now)
    return found
