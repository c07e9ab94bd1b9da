"""Closes periods: what an account used until its last period was over becomes final invoices, each in one transaction.

Safe to run twice, at once or after a crash: the wallet's lock lets one at a time look, and who comes second finds the
period closed. A period in which nothing was used needs no invoice and takes no number.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID

from django.conf import settings
from django.db import transaction

from billing import invoicing, ledger, periods
from billing.models import Account, Invoice


@transaction.atomic
def close(*, account_id: UUID, now: datetime, over_for: timedelta = timedelta()) -> Invoice | None:
    """The final invoice of the oldest period that is over (for so long) and not invoiced; None without usage."""
    ledger.lock_wallet(account_id)
    account = Account.objects.get(pk=account_id)
    period = invoicing.unbilled(account=account, now=now - over_for)
    if period is None:
        return None
    draft, _ = invoicing.generate(account=account, period=period, now=now)
    return invoicing.finalize(invoice_id=draft.pk, now=now)


def close_all(*, now: datetime, over_for: timedelta = timedelta()) -> list[Invoice]:
    """Close what is over of every account that keeps to the calendar; pay-as-you-go is invoiced when asked for.

    Each period is a transaction of its own, so a crash loses none that was closed and no number.
    """
    accounts = Account.objects.exclude(billing_period=periods.Cadence.PAY_AS_YOU_GO).order_by("created_at", "pk")
    made = []
    for account_id in accounts.values_list("pk", flat=True).iterator():
        while invoice := close(account_id=account_id, now=now, over_for=over_for):
            made.append(invoice)
    return made


def sweep(*, now: datetime) -> int:
    """Close what has been over for INVOICE_CLOSE_AFTER_HOURS, which late usage may use; 0 leaves it to staff."""
    if not settings.INVOICE_CLOSE_AFTER_HOURS:
        return 0
    return len(close_all(now=now, over_for=timedelta(hours=settings.INVOICE_CLOSE_AFTER_HOURS)))
