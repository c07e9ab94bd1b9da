"""Closes periods: an account's periods that are over become final invoices, each in a transaction, the oldest first.

Safe to run twice, at once or after a crash: the wallet's lock lets one at a time look, and who comes second finds the
period closed. A period in which nothing was used needs no invoice and takes no number.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID

from django.conf import settings
from django.db import transaction

from billing import captures, invoicing, ledger, periods
from billing.models import Account, Invoice, UsageRecord


@transaction.atomic
def close(*, account_id: UUID, now: datetime, over_for: timedelta = timedelta()) -> Invoice | None:
    """The final invoice of the first period that is over (for so long) and has none; None where nothing is left."""
    ledger.lock_wallet(account_id)
    account = Account.objects.get(pk=account_id)
    period = invoicing.period_to_close(account=account, now=now - over_for)
    if period.start >= period.end or not _is_used(account_id, period):
        return None
    draft, _ = invoicing.generate(account=account, period=period, now=now)
    return invoicing.finalize(invoice_id=draft.pk, now=now)


def _is_used(account_id: UUID, period: periods.Period) -> bool:
    used = UsageRecord.objects.filter(
        account_id=account_id, billed_at__gte=period.start, billed_at__lt=period.end, cost_ucr__gt=0
    )
    return used.exists() or captures.captured(account_id=account_id, start=period.start, end=period.end).cost_ucr > 0


def close_all(*, now: datetime, over_for: timedelta = timedelta()) -> list[Invoice]:
    """Close what is over of every account that keeps to the calendar; pay-as-you-go is invoiced when asked for.

    Each period is a transaction of its own, so a crash loses none that was closed and no number.
    """
    accounts = Account.objects.exclude(billing_period=periods.Cadence.PAY_AS_YOU_GO).order_by("created_at", "pk")
    made = []
    for account_id in accounts.values_list("pk", flat=True).iterator():
        while (invoice := close(account_id=account_id, now=now, over_for=over_for)) is not None:
            made.append(invoice)
    return made


def sweep(*, now: datetime) -> int:
    """Close what has been over for INVOICE_CLOSE_AFTER_HOURS, which late usage may use; 0 leaves it to staff."""
    if not settings.INVOICE_CLOSE_AFTER_HOURS:
        return 0
    return len(close_all(now=now, over_for=timedelta(hours=settings.INVOICE_CLOSE_AFTER_HOURS)))
