"""The automatic top-up of an account: set, ended, and paused when its payment fails."""

from __future__ import annotations

from datetime import datetime
from itertools import takewhile

from django.db import transaction

from billing import amounts, live, owners, replenishing
from billing.models import Account, AutoTopUp, Payment, PaymentMethod
from billing.payment_states import State


class BadAutoTopUp(Exception):
    """Raised for an automatic top-up that could not work."""

    code = "validation_error"

    def __init__(self, field: str, sentence: str) -> None:
        self.extras = {"errors": {f"auto_topup.{field}": [sentence]}}
        super().__init__(sentence)


@transaction.atomic
def set_up(
    *, account: Account, threshold_ucr: int, credits_ucr: int, method: PaymentMethod, now: datetime
) -> AutoTopUp:
    """Buy so many credits with this method whenever fewer than the threshold are left. Ends a pause."""
    if method.account_id != account.pk or method.removed_at is not None:
        raise BadAutoTopUp("payment_method", "This account has no such payment method.")
    said = {"threshold_ucr": threshold_ucr, "credits_ucr": credits_ucr, "method": method, "paused_until": None}
    made = {**said, "last_error": "", "created_at": now}
    found, is_new = AutoTopUp.objects.get_or_create(account=account, defaults=made)
    if not is_new:
        AutoTopUp.objects.filter(pk=account.pk).update(**said, last_error="")
        found.refresh_from_db()
    live.credits_changed(account.pk)
    return found


def end(*, account: Account) -> bool:
    """False when there was none."""
    return bool(AutoTopUp.objects.filter(account=account).delete()[0])


def of(account: Account) -> AutoTopUp | None:
    return AutoTopUp.objects.select_related("method").filter(account=account).first()


def note(*, payment: Payment, now: datetime) -> None:
    """One that failed pauses the next ones, and the owners hear of it; they hear too when it needs them."""
    if payment.purpose != Payment.Purpose.AUTO_TOP_UP:
        return
    if payment.state in (State.FAILED, State.CANCELLED):
        why = payment.failure_message or f"It was {payment.state}."
        wait = replenishing.pause(_failed_in_a_row(payment), payment.failure_code)
        AutoTopUp.objects.filter(account=payment.account_id).update(paused_until=now + wait, last_error=why)
        hours = int(wait.total_seconds()) // 3600
        again = "in an hour" if hours == 1 else f"in {hours} hours"
        _tell(payment, "The automatic top-up failed", f"{why} The next attempt is {again} at the earliest.")
    elif payment.state == State.REQUIRES_ACTION:
        _tell(payment, "The automatic top-up needs you", "The bank asks you to confirm this payment.")


def _failed_in_a_row(payment: Payment) -> int:
    """With this method, this one among them; as many as make a difference."""
    mine = Payment.objects.filter(
        account=payment.account_id, purpose=Payment.Purpose.AUTO_TOP_UP, method=payment.method_id
    )
    states = mine.order_by("-created_at", "-pk").values_list("state", flat=True)[:10]
    return max(1, len(list(takewhile(lambda state: state in (State.FAILED, State.CANCELLED), states))))


def _tell(payment: Payment, subject: str, why: str) -> None:
    account = payment.account
    cost = f"{payment.money(payment.amount)} {payment.currency}"
    text = (
        f"{amounts.plain(payment.credits_ucr)} credits for {account.name} ({cost}, {payment.method_label}) "
        f"were not bought.\n{why}"
    )
    owners.tell(account, subject, text, page=("billing:payment", payment.pk))
