"""Invoices: the statement of a period, from draft to a numbered, fixed document.

    draft -> open -> paid
    draft, open -> void
    open -> uncollectible -> paid | void
    paid -> open            only when the payment that paid it had not succeeded after all

Everything happens under the wallet's lock, as metering does, so no usage slips between an invoice's
lines and its number.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID
from zoneinfo import ZoneInfo

from django.conf import settings
from django.db import transaction
from django.db.models import Max, Min, QuerySet, Sum

from billing import announcements, captures, ledger, live, metering, numbering, owners, periods, pricing, statements
from billing.models import Account, Grant, Invoice, InvoiceLine, LedgerAccount, Price, Transaction, UsageRecord

LONGEST = timedelta(days=400)


@dataclass(frozen=True)
class Preview:
    """A period's statement before there is an invoice."""

    period: periods.Period
    statement: statements.Statement


class IllegalMove(Exception):
    """Raised when an invoice's state does not allow the act."""

    code = "conflict"

    def __init__(self, sentence: str, state: str) -> None:
        self.state = state
        super().__init__(sentence)

    @property
    def extras(self) -> dict[str, object]:
        return {"state": self.state}


class BadPeriod(Exception):
    """Raised for a period that cannot be invoiced."""

    code = "validation_error"

    @property
    def extras(self) -> dict[str, object]:
        return {"errors": {"period_end": [str(self)]}}


@transaction.atomic
def generate(*, account: Account, period: periods.Period, now: datetime) -> tuple[Invoice, bool]:
    """The draft of a period, with what was used so far; the same one (and False) when repeated."""
    if not timedelta() < period.end - period.start <= LONGEST:
        raise BadPeriod("A period ends after it starts, and is at most 400 days long.")
    ledger.lock_wallet(account.pk)
    _refuse_overlap(account, period)
    draft, is_new = Invoice.objects.exclude(state=Invoice.State.VOID).get_or_create(
        account=account,
        period_start=period.start,
        period_end=period.end,
        defaults={"currency": settings.CREDIT_CURRENCY, "created_at": now},
    )
    changed = _write(draft, statement(account=account, period=period))
    if is_new or changed:
        live.invoice_changed(account.pk, draft.pk)
    return draft, is_new


def _refuse_overlap(account: Account, period: periods.Period) -> None:
    found = _final(account, period).order_by("period_start").first()
    if found is not None:
        raise IllegalMove(f"Invoice {found.number} covers part of this period already.", found.state)


def _final(account: Account, period: periods.Period) -> QuerySet[Invoice]:
    """Those that cover a part of a period."""
    return Invoice.objects.filter(
        account=account,
        state__in=Invoice.FINAL_STATES,
        period_start__lt=period.end,
        period_end__gt=period.start,
    )


def statement(*, account: Account, period: periods.Period) -> statements.Statement:
    """What the account used in a period, in money, as of now."""
    usage = _billed(account.pk, period)
    captured = captures.captured(account_id=account.pk, start=period.start, end=period.end)
    drawn = _drawn(usage) + captured.drawn_ucr
    return statements.state(
        _used(usage),
        captured_ucr=captured.cost_ucr,
        due_ucr=_owed(account.pk, period, drawn) if drawn else 0,
        tax_rate=account.tax_rate,
        credit_price=settings.CREDIT_PRICE,
        currency=settings.CREDIT_CURRENCY,
        tax_note=settings.REVERSE_CHARGE_TEXT if account.reverse_charge else "",
    )


def _billed(account_id: UUID, period: periods.Period) -> QuerySet[UsageRecord]:
    """The usage of a period whose charge was not reversed."""
    return _billed_since(account_id, period.start).filter(billed_at__lt=period.end)


def _billed_since(account_id: UUID, start: datetime) -> QuerySet[UsageRecord]:
    return UsageRecord.objects.filter(account_id=account_id, billed_at__gte=start, transaction__reversed_by=None)


def _drawn(usage: QuerySet[UsageRecord]) -> int:
    return usage.aggregate(sum=Sum("overdraft_ucr"))["sum"] or 0


def _used(usage: QuerySet[UsageRecord]) -> list[statements.Used]:
    sums = usage.values_list("price").annotate(quantity=Sum("quantity"), cost=Sum("cost_ucr"))
    found = {price_id: (quantity, cost) for price_id, quantity, cost in sums}
    prices = Price.objects.filter(pk__in=found).select_related("book")
    order = list(pricing.Meter)
    ranked = sorted(prices, key=lambda price: (order.index(price.meter), price.book.valid_from, price.pk))
    return [statements.Used(price.rule(), *found[price.pk]) for price in ranked]


def _owed(account_id: UUID, period: periods.Period, drawn_ucr: int) -> int:
    debt = LedgerAccount.objects.values_list("debt_ucr", flat=True).get(account_id=account_id)
    captured_later = captures.captured(account_id=account_id, start=period.end)
    drawn_later = _drawn(_billed_since(account_id, period.end)) + captured_later.drawn_ucr
    return statements.still_owed(debt_ucr=debt, drawn_later_ucr=drawn_later, drawn_ucr=drawn_ucr)


def _write(draft: Invoice, found: statements.Statement) -> bool:
    """Put a statement into a draft; False when it says so already."""
    fields = (
        "currency", "tax_rate", "tax_note", "subtotal", "tax", "total", "credits_applied", "amount_due", "due_ucr",
    )  # fmt: skip
    lines = [InvoiceLine(invoice=draft, position=n, **vars(line)) for n, line in enumerate(found.lines, 1)]
    shown = ("position", "meter", "quantity", "cost_ucr", "amount")
    before = list(draft.lines.order_by("position").values_list(*shown))
    same_lines = before == [tuple(getattr(line, name) for name in shown) for line in lines]
    if same_lines and all(getattr(draft, name) == getattr(found, name) for name in fields):
        return False
    draft.lines.all().delete()
    InvoiceLine.objects.bulk_create(lines)
    for name in fields:
        setattr(draft, name, getattr(found, name))
    draft.save(update_fields=fields)
    return True


def preview(*, account: Account, now: datetime) -> Preview:
    """The running period as its invoice would be now; nothing is written."""
    period = running_period(account=account, now=now)
    return Preview(period, statement(account=account, period=period))


def running_period(*, account: Account, now: datetime) -> periods.Period:
    """The account's period that is running, from where the last final invoice ends."""
    cadence = periods.Cadence(account.billing_period)
    if cadence == periods.Cadence.PAY_AS_YOU_GO:
        return _since_last(account, now)
    period = periods.containing(now, cadence, ZoneInfo(account.time_zone))
    start = max([period.start, *(each.end for each in _invoiced(account, period))])
    return periods.Period(min(start, now), max(period.end, start))


def period_to_close(*, account: Account, now: datetime) -> periods.Period:
    """What is next to be invoiced (`unbilled`), else what is left of the last period that is over, without usage."""
    found = unbilled(account=account, now=now)
    if found is not None:
        return found
    cadence, zone = periods.Cadence(account.billing_period), ZoneInfo(account.time_zone)
    if cadence == periods.Cadence.PAY_AS_YOU_GO:
        return _since_last(account, now)
    last = periods.preceding(periods.containing(now, cadence, zone), cadence, zone)
    return next(iter(_gaps(account, last)), periods.Period(last.end, last.end))


def unbilled(*, account: Account, now: datetime) -> periods.Period | None:
    """Of the account's oldest period that is over and was used, what no final invoice covers.

    Looked at is what usage may still be late for, and all since the last numbered invoice. Of pay-as-you-go it is all
    from the last invoice until now.
    """
    cadence, zone = periods.Cadence(account.billing_period), ZoneInfo(account.time_zone)
    if cadence == periods.Cadence.PAY_AS_YOU_GO:
        since = _since_last(account, now)
        return since if _first_spent(account.pk, since) else None
    last = periods.preceding(periods.containing(now, cadence, zone), cadence, zone)
    oldest = periods.containing(min(last.start - metering.OLDEST, _last_end(account)), cadence, zone)
    for gap in _gaps(account, periods.Period(oldest.start, last.end)):
        first = _first_spent(account.pk, gap)
        if first is not None:
            whole = periods.containing(first, cadence, zone)
            return periods.Period(max(gap.start, whole.start), min(gap.end, whole.end))
    return None


def _first_spent(account_id: UUID, period: periods.Period) -> datetime | None:
    """When a period first had something that cost credits and belongs on an invoice."""
    used = UsageRecord.objects.filter(
        account_id=account_id, billed_at__gte=period.start, billed_at__lt=period.end, cost_ucr__gt=0
    ).aggregate(first=Min("billed_at"))["first"]
    captured = captures.first(account_id=account_id, start=period.start, end=period.end)
    return min(filter(None, (used, captured)), default=None)


def _last_end(account: Account) -> datetime:
    """Where the last numbered invoice ends; without one, when the account began to use anything."""
    end: datetime | None = Invoice.objects.filter(account=account, number__isnull=False).aggregate(
        last=Max("period_end")
    )["last"]
    return end or _began(account)


def _began(account: Account) -> datetime:
    first = UsageRecord.objects.filter(account=account).aggregate(first=Min("billed_at"))["first"]
    return min(filter(None, (account.created_at, first)))


def _gaps(account: Account, period: periods.Period) -> list[periods.Period]:
    """The stretches of a period that no final invoice covers."""
    found, start = [], period.start
    for each in [*_invoiced(account, period), periods.Period(period.end, period.end)]:
        if start < each.start:
            found.append(periods.Period(start, each.start))
        start = max(start, each.end)
    return found


def _invoiced(account: Account, period: periods.Period) -> list[periods.Period]:
    """What final invoices cover of a period, in order."""
    rows = _final(account, period).order_by("period_start").values_list("period_start", "period_end")
    return [periods.Period(start, end) for start, end in rows]


def _since_last(account: Account, now: datetime) -> periods.Period:
    """What pay-as-you-go has not invoiced yet: no calendar ends its period, an invoice does."""
    final = Invoice.objects.filter(account=account, state__in=Invoice.FINAL_STATES)
    start = final.aggregate(last=Max("period_end"))["last"]
    start = min(start or _began(account), now)
    return periods.Period(start, min(now, start + LONGEST))


@transaction.atomic
def finalize(*, invoice_id: UUID, now: datetime) -> Invoice:
    """Number a draft whose period is over and fix it; with nothing due it is paid at once."""
    invoice = _locked(invoice_id)
    if invoice.state != Invoice.State.DRAFT:
        raise IllegalMove(f"This invoice is {invoice.state} already.", invoice.state)
    if invoice.period_end > now:
        raise IllegalMove("This period is not over yet, so its invoice cannot be final.", invoice.state)
    period = periods.Period(invoice.period_start, invoice.period_end)
    _refuse_overlap(invoice.account, period)
    _write(invoice, statement(account=invoice.account, period=period))
    number = numbering.take(prefix=settings.INVOICE_PREFIX, now=now)
    invoice.series, invoice.sequence, invoice.number = number
    is_settled = invoice.amount_due == 0
    invoice.state = Invoice.State.PAID if is_settled else Invoice.State.OPEN
    invoice.finalized_at = _after_reversals(invoice.account_id, now)
    invoice.due_at = now + timedelta(days=settings.PAYMENT_TERMS_DAYS)
    invoice.paid_at = now if is_settled else None
    invoice.seller = seller()
    invoice.customer = customer(invoice.account)
    invoice.save()
    announcements.invoice_moved(invoice, now=now)
    if not is_settled:
        _write_to_owners(invoice)
    live.invoice_changed(invoice.account_id, invoice.pk)
    return invoice


def _write_to_owners(invoice: Invoice) -> None:
    assert invoice.due_at is not None
    day = invoice.due_at.astimezone(ZoneInfo(invoice.account.time_zone))
    owed = f"{invoice.money(invoice.amount_due)} {invoice.currency}"
    text = f"Invoice {invoice.number} over {owed} is due on {day.day} {day:%B %Y}."
    owners.tell(invoice.account, f"Invoice {invoice.number}", text, page=("billing:invoice", invoice.pk))


def _after_reversals(account_id: UUID, now: datetime) -> datetime:
    """What was reversed is not on it: reversals before `finalized_at` came before, whatever the clocks of both said."""
    later = Transaction.objects.filter(account=account_id, created_at__gt=now, reverses__isnull=False)
    last: datetime | None = later.aggregate(last=Max("created_at"))["last"]
    return last or now


def seller() -> dict[str, str]:
    return {"name": settings.SELLER_NAME, "address": settings.SELLER_ADDRESS, "tax_id": settings.SELLER_TAX_ID}


def customer(account: Account) -> dict[str, str]:
    return {"name": account.legal_name or account.name, "address": account.address, "tax_id": account.tax_id}


@transaction.atomic
def void(*, invoice_id: UUID, reason: str, now: datetime) -> Invoice:
    """Declare a draft or unpaid invoice void; its number stays taken, its usage can be invoiced again."""
    invoice = _locked(invoice_id)
    if invoice.state not in (Invoice.State.DRAFT, Invoice.State.OPEN, Invoice.State.UNCOLLECTIBLE):
        sentence = {"paid": "A paid invoice cannot be voided; write a credit note instead."}
        raise IllegalMove(sentence.get(invoice.state, "This invoice is void already."), invoice.state)
    if invoice.credited:
        raise IllegalMove("This invoice has credit notes; credit the rest of it instead.", invoice.state)
    invoice.state, invoice.voided_at, invoice.reason = Invoice.State.VOID, now, reason
    invoice.save(update_fields=["state", "voided_at", "reason"])
    live.invoice_changed(invoice.account_id, invoice.pk)
    return invoice


@transaction.atomic
def mark_paid(*, invoice_id: UUID, reason: str, now: datetime, actor: str = "") -> Invoice:
    """Note that an invoice was paid elsewhere; the credits it settles repay the overdraft."""
    invoice = _locked(invoice_id)
    if invoice.state not in (Invoice.State.OPEN, Invoice.State.UNCOLLECTIBLE):
        raise IllegalMove(f"This invoice is {invoice.state}; only an open one can be marked paid.", invoice.state)
    if invoice.open_ucr:
        ledger.grant(
            account_id=invoice.account_id, amount_ucr=invoice.open_ucr, category=Grant.Category.PAID, source="invoices",
            key=str(invoice.pk), now=now, reason=f"Invoice {invoice.number} paid", actor=actor,
        )  # fmt: skip
    _close(invoice, reason=reason, now=now)
    return invoice


@transaction.atomic
def settle(*, invoice_id: UUID, payment_id: UUID, reason: str, now: datetime) -> bool:
    """Note that a payment, which has granted its credits already, pays an invoice; False if it is open no more."""
    invoice = _locked(invoice_id)
    if invoice.state not in (Invoice.State.OPEN, Invoice.State.UNCOLLECTIBLE):
        return False
    _close(invoice, reason=reason, now=now, payment_id=payment_id)
    return True


@transaction.atomic
def reopen(*, invoice_id: UUID, payment_id: UUID, reason: str, now: datetime) -> bool:
    """Note that this payment had not paid an invoice after all; False if something else has paid it."""
    invoice = _locked(invoice_id)
    if invoice.paid_with_id != payment_id:
        return False
    invoice.state, invoice.paid_at, invoice.paid_with = Invoice.State.OPEN, None, None
    invoice.reason = f"Not paid after all: {reason}"[:300]
    invoice.save(update_fields=["state", "paid_at", "paid_with", "reason"])
    announcements.invoice_moved(invoice, now=now)
    live.invoice_changed(invoice.account_id, invoice.pk)
    return True


def _close(invoice: Invoice, *, reason: str, now: datetime, payment_id: UUID | None = None) -> None:
    invoice.state, invoice.paid_at, invoice.reason = Invoice.State.PAID, now, reason
    invoice.paid_with_id = payment_id
    invoice.save(update_fields=["state", "paid_at", "paid_with", "reason"])
    announcements.invoice_moved(invoice, now=now)
    live.invoice_changed(invoice.account_id, invoice.pk)


def _locked(invoice_id: UUID) -> Invoice:
    ledger.lock_wallet(Invoice.objects.values_list("account_id", flat=True).get(pk=invoice_id))
    return Invoice.objects.select_related("account").get(pk=invoice_id)
