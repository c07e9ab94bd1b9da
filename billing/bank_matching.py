"""Says what a line of a bank's statement is: a payment, money to give back, or nothing of ours; in parts, if need be.

reference and amount exact   -> matched by itself, also when the customer had given the payment up: the money is here
anything else                -> waits for staff: `match` (also a part), `give_back`, `set_aside`

A payment of which a part came stays open with it; the rest, exact, matches by itself. What is too much stays on the
line until staff matches it with another payment or gives it back. What was wrong is undone (bank_undoing.py). Locks:
the line, the transfer, the wallet.
"""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from django.db import transaction

from billing import settlement
from billing.bank import references
from billing.models import BankLine, BankMatch, BankReturn, BankStatement, BankTransfer, Payment, PaymentEvent
from billing.payment_states import State

BY_ITSELF = "system"
BATCH = 500
Kind = BankMatch.Kind


class NotMatchable(Exception):
    """Raised when a line, or what is left of it, is not what somebody says it is."""

    code = "conflict"

    def __init__(self, sentence: str, state: str = "matched") -> None:
        self.extras = {"state": state}
        super().__init__(sentence)


def sweep(*, now: datetime, statement: BankStatement | None = None) -> int:
    """Match by themselves all lines that were not tried yet, also what a crash left; returns how many matched."""
    waiting = BankLine.objects.filter(tried_at=None)
    if statement is not None:
        waiting = waiting.filter(statement=statement)
    ids = list(waiting.order_by("pk").values_list("pk", flat=True)[: None if statement else BATCH])
    return sum(_try(line_id, now) for line_id in ids)


@transaction.atomic
def _try(line_id: UUID, now: datetime) -> bool:
    line = BankLine.objects.select_for_update().get(pk=line_id)
    if line.tried_at is not None:
        return False
    line.tried_at = now
    line.save(update_fields=["tried_at"])
    transfer = BankTransfer.objects.select_for_update().filter(pk=references.number_of(line.reference)).first()
    if transfer is None or line.matched or (line.amount, line.currency) != (transfer.missing, transfer.currency):
        return False
    _book(line, transfer, line.amount, actor=BY_ITSELF, reason="Reference and amount are exact", now=now)
    return True


@transaction.atomic
def match(
    *, line_id: UUID, reference: str, amount: int | None, actor: str, now: datetime, reason: str = ""
) -> BankMatch:
    """Staff says which payment a line, or a part of it, pays: as much as fits, if not said. Raises NotMatchable."""
    line = _locked(line_id)
    transfer = BankTransfer.objects.select_for_update().filter(pk=references.number_of(reference)).first()
    if transfer is None:
        raise NotMatchable("There is no payment with this reference.", "unknown")
    if transfer.currency != line.currency:
        raise NotMatchable(
            f"The payment is in {transfer.currency}, and {line.currency} came. Give it back.", "currency"
        )
    if not transfer.missing:
        raise NotMatchable("All of this payment has come already.", "paid")
    most = min(line.left, transfer.missing)
    amount = most if amount is None else amount
    if not 0 < amount <= most:
        raise NotMatchable("That is more than is left of the line, or than the payment is missing.", "amount")
    return _book(line, transfer, amount, actor=actor, reason=reason, now=now)


@transaction.atomic
def give_back(*, line_id: UUID, amount: int | None, actor: str, now: datetime, reason: str = "") -> BankReturn:
    """What is left of a line, or a part of it, has to go back to who sent it. Raises NotMatchable."""
    line = _locked(line_id)
    amount = line.left if amount is None else amount
    if not 0 < amount <= line.left:
        raise NotMatchable("That is more than is left of the line.", "amount")
    made = _note(line, Kind.RETURN, amount, actor=actor, reason=reason, now=now)
    to = {"payer_name": line.payer_name, "payer_iban": line.payer_iban, "currency": line.currency}
    return BankReturn.objects.create(key=str(made.pk), match=made, amount=amount, created_at=now, **to)


@transaction.atomic
def set_aside(*, line_id: UUID, actor: str, now: datetime, reason: str) -> BankMatch:
    """All that is left of a line is no payment of a customer's. Raises NotMatchable."""
    line = _locked(line_id)
    return _note(line, Kind.FOREIGN, line.left, actor=actor, reason=reason, now=now)


def _locked(line_id: UUID) -> BankLine:
    line: BankLine = BankLine.objects.select_for_update().get(pk=line_id)
    if not line.left:
        raise NotMatchable("Somebody has matched all of this line already.")
    return line


def _book(line: BankLine, transfer: BankTransfer, amount: int, *, actor: str, reason: str, now: datetime) -> BankMatch:
    made = _note(line, Kind.PAYMENT, amount, actor=actor, reason=reason, now=now, transfer=transfer)
    if amount == transfer.missing:
        _succeed(transfer, now)
    return made


def _note(
    line: BankLine,
    kind: str,
    amount: int,
    *,
    actor: str,
    reason: str,
    now: datetime,
    transfer: BankTransfer | None = None,
) -> BankMatch:
    """The database adds it to the line and the transfer."""
    said = {"actor": actor, "reason": reason[:300], "created_at": now}
    return BankMatch.objects.create(line=line, kind=kind, transfer=transfer, amount=amount, **said)


def _succeed(transfer: BankTransfer, now: datetime) -> None:
    payment = Payment.objects.filter(gateway="bank", pk=transfer.key).first()
    if payment is None:
        return
    said = settlement.Said(
        source=PaymentEvent.Source.STATEMENT,
        state=State.SUCCEEDED,
        ref=transfer.reference,
        amount=transfer.amount,
        currency=transfer.currency,
        detail="A bank's statement says that all of it came.",
    )
    settlement.record(payment_id=payment.pk, said=said, now=now)
