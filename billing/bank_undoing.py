"""Undoes what staff, or the rule, said wrongly of a bank's line: the line waits again, and the money is nobody's yet.

payment, in part or waiting   -> it misses the money again
payment that succeeded by it  -> its credits are taken back (what was spent is owed), it waits again, and the invoice
                                 that it paid is open again
money to give back            -> is not sent, unless it was
not ours                      -> may be somebody's

All in one transaction, once for each match. Locks as in bank_matching.py: the line, the transfer, the wallet.
"""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from django.db import transaction
from django.db.models import Q

from billing import announcements, dunning, invoicing, ledger, live, owners, payment_states, settlement
from billing.models import BankLine, BankMatch, BankReturn, BankTransfer, BankUndo, Grant, Payment, PaymentEvent
from billing.payment_states import State

Effect, Source = PaymentEvent.Effect, PaymentEvent.Source


class NotUndoable(Exception):
    """Raised when what a match did cannot be taken back any more."""

    code = "conflict"

    def __init__(self, sentence: str, state: str) -> None:
        self.extras = {"state": state}
        super().__init__(sentence)


@transaction.atomic
def undo(*, match_id: UUID, reason: str, actor: str, now: datetime) -> tuple[BankUndo, bool]:
    """Take a match back; again, it is the first one's undoing, and False. Raises NotUndoable."""
    match = BankMatch.objects.get(pk=match_id)
    BankLine.objects.select_for_update().get(pk=match.line_id)
    before = BankUndo.objects.filter(match=match).first()
    if before is not None:
        return before, False
    made = BankUndo(match=match, actor=actor, reason=reason[:300], created_at=now)
    if match.kind == BankMatch.Kind.RETURN:
        _keep(match)
    payment = _paid_by(match) if match.transfer_id is not None else None
    if payment is not None and payment.state == State.SUCCEEDED:
        _take_back(made, payment, now)
    # The database takes it off the line and the transfer.
    made.save(force_insert=True)
    if payment is not None and made.payment_id is not None:
        _reopen(payment, made, now)
    if payment is not None:
        live.payment_changed(payment.account_id, payment.pk)
    return made, True


def _keep(match: BankMatch) -> None:
    due = BankReturn.objects.filter(match=match, state=BankReturn.State.DUE)
    if not due.update(state=BankReturn.State.DROPPED):
        raise NotUndoable("This money was sent back already.", "sent")


def _paid_by(match: BankMatch) -> Payment | None:
    """The payment, with its transfer and its wallet locked."""
    transfer = BankTransfer.objects.select_for_update().get(pk=match.transfer_id)
    found = Payment.objects.filter(gateway="bank", pk=transfer.key).first()
    if found is None:
        return None
    ledger.lock_wallet(found.account_id)
    return Payment.objects.select_related("account", "invoice").get(pk=found.pk)


def _take_back(made: BankUndo, payment: Payment, now: datetime) -> None:
    if payment.refundable != payment.captured:
        raise NotUndoable("Money of this payment went back, or is on its way. Settle that with its payer.", "refunded")
    others = Payment.objects.filter(invoice=payment.invoice_id, state__in=payment_states.LIVE)
    if payment.invoice_id is not None and others.exists():
        raise NotUndoable("Another payment of its invoice is under way. Wait for its outcome.", "under_way")
    # What it bought, and what refunds that failed gave back of it.
    mine = Grant.objects.filter(Q(payment=payment) | Q(refund__payment=payment))
    made.payment, made.grant, made.turn = payment, payment.grant, payment.reopened + 1
    made.taken = ledger.take_back(
        account_id=payment.account_id,
        grant_ids=list(mine.values_list("pk", flat=True)),
        amount_ucr=payment.credits_ucr,
        key=str(made.pk),
        source="bank_undos",
        now=now,
        allow_debt=True,
        reason=f"The bank's line was matched wrongly: {made.reason}"[:300],
        actor=made.actor,
    )


def _reopen(payment: Payment, made: BankUndo, now: datetime) -> None:
    """The one way back that the database allows a payment, for it names its undoing."""
    payment.state, payment.captured, payment.grant, payment.settled_at = State.PROCESSING, 0, None, None
    payment.reopened = made.turn
    payment.ask_at, payment.asked_times = now + payment_states.ask_after(0), 0
    payment.save()
    PaymentEvent.objects.create(
        payment=payment,
        source=Source.PERSON,
        state=State.PROCESSING,
        effect=Effect.APPLIED,
        detail=f"What seemed to pay it was not its money: {made.reason}"[:300],
        created_at=now,
    )
    reopened = payment.invoice is not None and invoicing.reopen(
        invoice_id=payment.invoice.pk, payment_id=payment.pk, reason=made.reason, now=now
    )
    if reopened:
        dunning.stop_again(invoice_id=payment.invoice.pk, now=now)
    _tell(payment, reopened, now)
    _give_up_again(payment, now)


def _tell(payment: Payment, reopened: bool, now: datetime) -> None:
    announcements.payment_reversed(payment, now=now)
    money = f"{payment.money(payment.amount)} {payment.currency}"
    text = f"The money that seemed to be your bank transfer of {money} turned out to be somebody else's.\n"
    text += "The credits it paid for are taken back; what of them was spent is owed."
    if reopened:
        text += f"\nInvoice {payment.invoice.number} is open again."
    owners.tell(payment.account, "A payment was taken back", text, page=("billing:payment", payment.pk))


def _give_up_again(payment: Payment, now: datetime) -> None:
    """A payment that its customer had given up before the money seemed to come is given up as it was."""
    transfer = BankTransfer.objects.get(key=str(payment.pk))
    if transfer.cancelled_at is not None and not transfer.received:
        said = settlement.Said(source=Source.CLOCK, state=State.CANCELLED, detail="It was given up before.")
        settlement.record(payment_id=payment.pk, said=said, now=now)
