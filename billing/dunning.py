"""Dunning: an invoice that stays unpaid is reminded of, and stops its account in the end; paid, it goes on.

    due date  day 0, 3, 7: reminder (e-mail, webhook)    day 14: the last one, and the account is suspended
    no invoice is left that had its last reminder        the account is active again

Each step is made once, in the transaction that writes it down. Steps that nothing ran for are made together later,
with one e-mail. While a payment of the invoice is under way nobody is reminded.
"""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from django.db import transaction
from django.db.models import F, QuerySet

from billing import announcements, ledger, live, overdue, owners
from billing.models import Account, DunningStep, Invoice, Payment
from billing.models.payments import LIVE
from billing.outgoing import outbox

BATCH = 200
UNPAID = (Invoice.State.OPEN, Invoice.State.UNCOLLECTIBLE)


def reminders(invoice: Invoice) -> list[overdue.Reminder]:
    """What was sent, and of one that waits to be paid what will be; none where nothing was ever due."""
    if invoice.due_at is None or not invoice.amount_due:
        return []
    sent = dict(invoice.dunning_steps.values_list("days", "created_at"))
    is_open = invoice.state == Invoice.State.OPEN and invoice.open_amount > 0
    return overdue.plan(invoice.due_at, sent=sent, is_open=is_open)


def sweep(*, now: datetime) -> int:
    """Make the steps that are due, and let go on who has paid; returns how many steps there were."""
    made = sum(_remind(pk, now) for pk in _due(now))
    for pk in list(_settled().order_by("pk").values_list("pk", flat=True)[:BATCH]):
        _resume(pk, now)
    return made


def _due(now: datetime) -> list[UUID]:
    late = Invoice.objects.filter(state=Invoice.State.OPEN, due_at__lte=now, amount_due__gt=0)
    paying = Payment.objects.filter(invoice__isnull=False, state__in=LIVE).values("invoice")
    finished = DunningStep.objects.filter(days=overdue.SUSPENDS).values("invoice")
    rows = (
        late.exclude(pk__in=finished).exclude(pk__in=paying).order_by("due_at", "pk").prefetch_related("dunning_steps")
    )
    found = []
    for invoice in rows[:BATCH]:
        done = [step.days for step in invoice.dunning_steps.all()]
        if invoice.due_at is not None and overdue.reached(invoice.due_at, now=now, done=done):
            found.append(invoice.pk)
    return found


@transaction.atomic
def _remind(invoice_id: UUID, now: datetime) -> int:
    """Under the wallet's lock, as whatever pays the invoice is."""
    ledger.lock_wallet(Invoice.objects.values_list("account_id", flat=True).get(pk=invoice_id))
    invoice = Invoice.objects.select_related("account").get(pk=invoice_id)
    is_paying = invoice.payments.filter(state__in=LIVE).exists()
    if invoice.state != Invoice.State.OPEN or invoice.due_at is None or is_paying:
        return 0
    done = list(invoice.dunning_steps.values_list("days", flat=True))
    steps = overdue.reached(invoice.due_at, now=now, done=done)
    for days in steps:
        suspended = days == overdue.SUSPENDS and _suspend(invoice.account, now)
        DunningStep.objects.create(invoice=invoice, days=days, suspended=suspended, created_at=now)
        data = {**announcements.invoice_facts(invoice), "days": days}
        outbox.publish(account_id=invoice.account_id, type="invoice.overdue", data=data, now=now)
    if steps:
        _write(invoice, steps[-1])
        live.invoice_changed(invoice.account_id, invoice.pk)
    return len(steps)


def stop_again(*, invoice_id: UUID, now: datetime) -> None:
    """An invoice that is open again stops its account if its last reminder had; it is not reminded of once more."""
    steps = DunningStep.objects.filter(invoice=invoice_id, days=overdue.SUSPENDS)
    if steps.exists():
        _suspend(Invoice.objects.select_related("account").get(pk=invoice_id).account, now)


def _write(invoice: Invoice, days: int) -> None:
    owed = f"{invoice.money(invoice.open_amount)} {invoice.currency}"
    when = "is due today" if days == 0 else f"has been due for {days} days"
    if days == overdue.SUSPENDS:
        then = "The account is suspended until it is paid: nothing new is started."
    else:
        then = f"If it is not paid {overdue.SUSPENDS} days after its due date, the account is suspended."
    text = f"Invoice {invoice.number} over {owed} {when}.\n{then}"
    subject = "Account suspended" if days == overdue.SUSPENDS else f"Invoice {invoice.number} is not paid"
    owners.tell(invoice.account, subject, text, page=("billing:invoice", invoice.pk))


def _suspend(account: Account, now: datetime) -> bool:
    """False when it does nothing anyway."""
    active = Account.objects.filter(pk=account.pk, status=Account.Status.ACTIVE)
    said = {"status": Account.Status.SUSPENDED, "suspended_for_debt": True, "version": F("version") + 1}
    if not active.update(**said):
        return False
    data = {"account": str(account.pk), "reason": "unpaid_invoice"}
    outbox.publish(account_id=account.pk, type="account.suspended", data=data, now=now)
    live.credits_changed(account.pk)
    return True


def _settled() -> QuerySet[Account]:
    """Accounts that stopped for a debt which is there no more."""
    owing = Invoice.objects.filter(state__in=UNPAID, dunning_steps__days=overdue.SUSPENDS)
    return Account.objects.filter(suspended_for_debt=True).exclude(pk__in=owing.values("account"))


@transaction.atomic
def _resume(account_id: UUID, now: datetime) -> None:
    said = {"status": Account.Status.ACTIVE, "suspended_for_debt": False, "version": F("version") + 1}
    if not _settled().filter(pk=account_id).update(**said):
        return
    account = Account.objects.get(pk=account_id)
    data = {"account": str(account.pk)}
    outbox.publish(account_id=account.pk, type="account.resumed", data=data, now=now)
    owners.tell(account, "Account active again", "What was owed is paid; work goes on.", page=("billing:overview",))
    live.credits_changed(account.pk)
