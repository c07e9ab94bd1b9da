"""Disputes: a payer has the gateway take a payment back, and whoever is right keeps the money.

    opened        the credits it paid for are taken as far as they are unspent; its money cannot be refunded meanwhile
    under_review  the gateway decides
    won           the credits come back as a grant
    lost          the rest of them is taken too: what was spent is owed (arrears), and nothing is spent until it is paid

What a gateway says moves a dispute only to the right, whatever comes twice or late; the first decision stays. One
that is told of before we know that its payment was paid waits for that (NotPaidYet).
"""

from __future__ import annotations

from datetime import datetime

from django.db import transaction
from django.db.models import Q

from billing import amounts, announcements, ledger, live, owners, payment_states, refunds
from billing.gateways import DisputeWord
from billing.models import Dispute, Grant, Payment, Transaction
from billing.outgoing import outbox

State = Dispute.State
RANK = {State.OPENED: 0, State.UNDER_REVIEW: 1, State.WON: 2, State.LOST: 2}
WORDS = {
    State.OPENED: "was opened. The credits it paid for are set aside until it is decided.",
    State.UNDER_REVIEW: "is under review by the payment gateway.",
    State.WON: "was decided for us. The credits are back.",
    State.LOST: "was lost. The credits are taken back; what of them was spent is owed.",
}


class NotPaidYet(Exception):
    """Raised for a dispute of a payment that has taken no money as far as is known here."""

    def __init__(self, payment: Payment) -> None:
        self.payment_id, self.gateway = payment.pk, payment.gateway
        super().__init__(
            f"The payment is {payment.state} here. It is asked about, and the dispute is heard after that."
        )


@transaction.atomic
def hear(*, payment: Payment, said: DisputeWord, now: datetime) -> Dispute:
    """Let what a gateway says of a dispute change it, if it may. Raises NotPaidYet."""
    ledger.lock_wallet(payment.account_id)
    payment = Payment.objects.select_related("account").get(pk=payment.pk)
    if payment.state != payment_states.State.SUCCEEDED:
        raise NotPaidYet(payment)
    found = Dispute.objects.filter(gateway=payment.gateway, gateway_ref=said.ref).first()
    dispute = found or _open(payment, said, now)
    if dispute.payment_id != payment.pk:
        return dispute  # The gateway mixes two up; the first word counts.
    _note_due(dispute, said)
    state = State(said.state)
    if RANK[state] > RANK[State(dispute.state)]:
        _move(dispute, payment, state, now)
    elif found is not None:
        return dispute
    _tell(dispute, payment, now)
    return dispute


def _note_due(dispute: Dispute, said: DisputeWord) -> None:
    if said.evidence_due_at is not None and said.evidence_due_at != dispute.evidence_due_at:
        dispute.evidence_due_at = said.evidence_due_at
        dispute.save(update_fields=["evidence_due_at"])


def _open(payment: Payment, said: DisputeWord, now: datetime) -> Dispute:
    amount = payment.refundable
    # In another currency it says nothing of ours.
    if said.amount is not None and said.currency in (None, payment.currency):
        amount = min(said.amount, amount)
    dispute = Dispute(
        account_id=payment.account_id,
        payment=payment,
        gateway=payment.gateway,
        gateway_ref=said.ref,
        reason=said.reason,
        evidence_due_at=said.evidence_due_at,
        amount=amount,
        credits_ucr=refunds.credits_of(payment, amount) if amount else 0,
        created_at=now,
    )
    _take_unspent(dispute, now)
    dispute.save(force_insert=True)
    payment.disputed += amount
    payment.save(update_fields=["disputed"])
    return dispute


def _take_unspent(dispute: Dispute, now: datetime) -> None:
    wanted = dispute.credits_ucr
    try:
        dispute.taken = _take(dispute, wanted, key=str(dispute.pk), now=now)
    except ledger.CreditsSpent as spent:
        wanted = spent.unspent_ucr
        dispute.taken = _take(dispute, wanted, key=str(dispute.pk), now=now)
    dispute.taken_ucr = wanted


def _take(
    dispute: Dispute, amount_ucr: int, *, key: str, now: datetime, allow_debt: bool = False
) -> Transaction | None:
    if amount_ucr == 0:
        return None
    # What the payment bought, and what refunds and disputes gave back of it.
    mine = Q(payment=dispute.payment) | Q(refund__payment=dispute.payment) | Q(dispute__payment=dispute.payment)
    return ledger.take_back(
        account_id=dispute.account_id,
        grant_ids=list(Grant.objects.filter(mine).values_list("pk", flat=True)),
        amount_ucr=amount_ucr,
        key=key,
        source="disputes",
        now=now,
        allow_debt=allow_debt,
        reason="Disputed payment",
    )


def _move(dispute: Dispute, payment: Payment, state: State, now: datetime) -> None:
    dispute.state = state
    if state == State.WON:
        _give_back(dispute, payment, now)
    elif state == State.LOST:
        rest_ucr = dispute.credits_ucr - dispute.taken_ucr
        dispute.rest = _take(dispute, rest_ucr, key=f"{dispute.pk}:lost", now=now, allow_debt=True)
    dispute.settled_at = None if dispute.is_open else now
    dispute.save()


def _give_back(dispute: Dispute, payment: Payment, now: datetime) -> None:
    payment.disputed -= dispute.amount
    payment.save(update_fields=["disputed"])
    if dispute.taken_id is not None:
        undone = ledger.reverse(
            transaction_id=dispute.taken_id, key=f"dispute:{dispute.pk}", reason="The dispute was won", now=now
        )
        dispute.restored = undone.grant


def _tell(dispute: Dispute, payment: Payment, now: datetime) -> None:
    data = {
        "dispute": str(dispute.pk),
        "payment": str(payment.pk),
        "total": announcements.money(dispute.amount, payment.currency),
        "credits": amounts.six_places(dispute.credits_ucr),
        "reason": dispute.reason,
    }
    outbox.publish(account_id=dispute.account_id, type=f"dispute.{dispute.state}", data=data, now=now)
    money = f"{payment.money(dispute.amount)} {payment.currency}"
    text = f"The dispute about {money} ({payment.method_label}) {WORDS[State(dispute.state)]}"
    owners.tell(payment.account, "A payment is disputed", text, page=("billing:dispute", dispute.pk))
    live.payment_changed(payment.account_id, payment.pk)
