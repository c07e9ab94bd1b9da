"""Money that staff has to send back at the bank: noted as due, then as sent, once."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from django.db import transaction

from billing import refunds
from billing.gateways import Repayment, RepaymentState
from billing.models import BankReturn, PaymentEvent, Refund


@transaction.atomic
def mark_sent(*, return_id: UUID, actor: str, now: datetime) -> bool:
    """The money has left our account; a refund has succeeded with it. False when somebody said so before."""
    due = BankReturn.objects.filter(pk=return_id, state=BankReturn.State.DUE)
    if not due.update(state=BankReturn.State.SENT, sent_at=now, sent_by=actor):
        return False
    back = BankReturn.objects.get(pk=return_id)
    if back.transfer_id is not None:
        said = Repayment(ref=str(back.pk), state=RepaymentState.SUCCEEDED, amount=back.amount)
        refunds.hear(refund=Refund.objects.get(pk=back.key), said=said, source=PaymentEvent.Source.STATEMENT, now=now)
    return True
