"""Credit notes: what is taken off a final invoice, in one transaction; money goes back after it.

    issue (committed)  ->  send_refund: the gateway is told  |  sweep: what a crash left to be told

What goes back as money is given as credits first, which the refund then takes: a crash or a refusal in between leaves
the customer with the credits, never with less.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models import F, Sum

from billing import amounts, announcements, captures, crediting, ledger, live, numbering, payment_states, refunds
from billing.models import CreditNote, CreditNoteLine, Grant, Invoice, Payment, UsageRecord
from billing.payment_states import State

SWEEP_BATCH = 50


class NotCreditable(Exception):
    """Raised when an invoice's state does not allow a credit note."""

    code = "conflict"

    def __init__(self, sentence: str, state: str) -> None:
        self.extras = {"state": state}
        super().__init__(sentence)


class CreditExceedsInvoice(Exception):
    """Raised when more would be credited than is left of an invoice or a line."""

    code = "credit_exceeds_invoice"

    def __init__(self, invoice: Invoice, found: crediting.TooMuch) -> None:
        left = invoice.money(found.left)
        self.extras = {"left": {"amount": left, "currency": invoice.currency}}
        what = "this invoice" if found.position is None else f"line {found.position}"
        super().__init__(f"Of {what} {left} {invoice.currency} is left to credit. Credit at most that.")


class NoSuchLine(Exception):
    """Raised for a line that the invoice does not have."""

    code = "validation_error"

    def __init__(self, position: int) -> None:
        sentence = f"The invoice has no line {position}."
        self.extras = {"errors": {"lines": [sentence]}}
        super().__init__(sentence)


@transaction.atomic
def issue(
    *,
    invoice_id: UUID,
    reason: str,
    key: str,
    now: datetime,
    amount: int | None = None,
    lines: Mapping[int, int] | None = None,
    actor: str = "",
) -> tuple[CreditNote, bool]:
    """Take off an amount with its tax, or net amounts of lines by position, or without both all that is left.

    The same key again answers the first note, and False. Raises NotCreditable, CreditExceedsInvoice, NoSuchLine,
    ledger.KeyReused.
    """
    ledger.lock_wallet(Invoice.objects.values_list("account_id", flat=True).get(pk=invoice_id))
    invoice = Invoice.objects.select_related("account").get(pk=invoice_id)
    fingerprint = ledger.fingerprint("credit note", invoice_id, amount, sorted((lines or {}).items()) or None)
    before = CreditNote.objects.filter(account=invoice.account_id, key=key).select_related("invoice").first()
    if before is not None:
        if before.request_hash != fingerprint:
            raise ledger.KeyReused(key)
        return before, False
    _check(invoice)
    taken = _take(invoice, amount=amount, lines=lines)
    note = CreditNote(
        account_id=invoice.account_id, invoice=invoice, subtotal=taken.subtotal, tax=taken.tax, total=taken.total,
        reason=reason, key=key, request_hash=fingerprint, actor=actor, created_at=now,
    )  # fmt: skip
    _write(note, taken, now)
    return note, True


def _check(invoice: Invoice) -> None:
    if not invoice.is_final:
        sentence = "A draft changes by itself; only a final invoice is credited."
        raise NotCreditable(
            sentence if invoice.state == "draft" else "Nothing is owed on a void invoice.", invoice.state
        )
    if not standing_of(invoice).left:
        raise NotCreditable("Nothing is left to credit on this invoice.", invoice.state)
    if invoice.is_unpaid and invoice.payments.filter(state__in=payment_states.LIVE).exists():
        raise NotCreditable("A payment of this invoice is under way. Wait for its outcome.", invoice.state)


def _take(invoice: Invoice, *, amount: int | None, lines: Mapping[int, int] | None) -> crediting.Taken:
    standing = standing_of(invoice)
    try:
        if lines is not None:
            return crediting.by_lines(standing, lines)
        return crediting.whole(standing) if amount is None else crediting.by_amount(standing, amount)
    except crediting.TooMuch as found:
        raise CreditExceedsInvoice(invoice, found) from found
    except KeyError as missing:
        raise NoSuchLine(missing.args[0]) from missing


def standing_of(invoice: Invoice) -> crediting.Standing:
    """The invoice's lines and tax, and what was given back of them before, by credit notes and by reversals."""
    taken = CreditNoteLine.objects.filter(note__invoice=invoice).values_list("line__position")
    standing = crediting.Standing(
        lines=dict(invoice.lines.order_by("position").values_list("position", "amount")),
        credited=dict(taken.annotate(sum=Sum("amount")).values_list("line__position", "sum")),
        tax=invoice.tax,
        tax_credited=invoice.credit_notes.aggregate(sum=Sum("tax"))["sum"] or 0,
    )
    return crediting.without(standing, _reversed(invoice, standing)) if invoice.is_final else standing


def _reversed(invoice: Invoice, standing: crediting.Standing) -> dict[int, int]:
    """What reversals after the invoice gave back of each line, in its money."""
    usage = UsageRecord.objects.filter(
        account=invoice.account_id, billed_at__gte=invoice.period_start, billed_at__lt=invoice.period_end,
        transaction__reversed_by__created_at__gt=invoice.finalized_at,
    )  # fmt: skip
    reversed_of = dict(usage.values_list("meter").annotate(sum=Sum("cost_ucr")))
    reversed_of[captures.METER] = captures.reversed_since(invoice)
    found: dict[int, int] = {}
    for meter, reversed_ucr in reversed_of.items():
        lines = list(invoice.lines.filter(meter=meter).order_by("position"))
        share = crediting.reversed_share(
            sum(line.amount for line in lines), cost_ucr=sum(line.cost_ucr for line in lines), reversed_ucr=reversed_ucr
        )
        shares = crediting.spread(share, [standing.left_of(line.position) for line in lines])
        found |= {line.position: part for line, part in zip(lines, shares, strict=True)}
    return found


def _write(note: CreditNote, taken: crediting.Taken, now: datetime) -> None:
    invoice = note.invoice
    payment = _payment_to_refund(invoice)
    settled = crediting.settle(
        note.total,
        due_left=invoice.amount_due - invoice.credited_due,
        is_unpaid=invoice.is_unpaid,
        refundable=payment.refundable if payment else 0,
    )
    note.due_reduced, note.refund_amount, note.granted = settled.due_reduced, settled.refund, settled.granted
    note.payment, note.refund_is_due = (payment, True) if settled.refund else (None, False)
    note.series, note.sequence, note.number = numbering.take(prefix=settings.CREDIT_NOTE_PREFIX, now=now)
    due_ucr, covered_ucr = _credits(invoice, settled)
    note.granted_ucr = due_ucr + covered_ucr
    note.grant = _give(note, now)
    note.save(force_insert=True)
    positions = {line.position: line for line in invoice.lines.all()}
    CreditNoteLine.objects.bulk_create(
        CreditNoteLine(note=note, line=positions[position], amount=amount)
        for position, amount in sorted(taken.lines.items())
    )
    _note_on_invoice(invoice, note, settled, due_ucr, now)


def _payment_to_refund(invoice: Invoice) -> Payment | None:
    paid = invoice.payments.filter(state=State.SUCCEEDED, captured__gt=F("refunded") + F("refunding"))
    found: Payment | None = paid.order_by("-created_at", "-pk").first()
    return found


def _credits(invoice: Invoice, settled: crediting.Settled) -> tuple[int, int]:
    """The credits behind what was due, and behind what credits covered."""
    covered_ucr = (invoice.lines.aggregate(sum=Sum("cost_ucr"))["sum"] or 0) - invoice.due_ucr
    given_ucr = invoice.credit_notes.aggregate(sum=Sum("granted_ucr"))["sum"] or 0
    due = crediting.credits_of(
        settled.due,
        before=invoice.credited_due,
        whole=invoice.amount_due,
        whole_ucr=invoice.due_ucr,
        before_ucr=invoice.credited_due_ucr,
    )
    covered = crediting.credits_of(
        settled.due_reduced + settled.refund + settled.granted - settled.due,
        before=invoice.credited - invoice.credited_due,
        whole=invoice.credits_applied,
        whole_ucr=covered_ucr,
        before_ucr=given_ucr - invoice.credited_due_ucr,
    )
    return due, covered


def _give(note: CreditNote, now: datetime) -> Grant | None:
    """The credits back; what the wallet owes is repaid from them first."""
    if not note.granted_ucr:
        return None
    return ledger.grant(
        account_id=note.account_id, amount_ucr=note.granted_ucr, category=Grant.Category.REFUND, source="credit_notes",
        key=str(note.pk), now=now, reason=f"Credit note {note.number}", actor=note.actor,
    )  # fmt: skip


def _note_on_invoice(
    invoice: Invoice, note: CreditNote, settled: crediting.Settled, due_ucr: int, now: datetime
) -> None:
    invoice.credited += note.total
    invoice.credited_due += settled.due
    invoice.credited_due_ucr += due_ucr
    if invoice.is_unpaid and not invoice.open_amount:
        invoice.state, invoice.paid_at = Invoice.State.PAID, now
        invoice.reason = f"Nothing is owed after credit note {note.number}"
        announcements.invoice_moved(invoice, now=now)
    invoice.save(update_fields=["credited", "credited_due", "credited_due_ucr", "state", "paid_at", "reason"])
    live.invoice_changed(invoice.account_id, invoice.pk)


def send_refund(*, note: CreditNote, now: datetime) -> CreditNote:
    """Give the money back that a note promises; told again, nothing is paid twice. Not inside a transaction."""
    if not note.refund_is_due or note.payment is None:
        return note
    try:
        refund, is_new = refunds.open_refund(
            payment=note.payment,
            amount=note.refund_amount,
            key=f"credit-note:{note.pk}",
            now=now,
            # The note gave the credits that the refund takes; they may have been spent in between.
            allow_debt=True,
            reason=f"Credit note {note.number}",
            actor=note.actor,
        )
    except (refunds.RefundExceedsPayment, refunds.NotRefundable):
        # Somebody refunded the payment meanwhile: the customer keeps the credits instead.
        CreditNote.objects.filter(pk=note.pk).update(refund_is_due=False)
        note.refund_is_due = False
        return note
    CreditNote.objects.filter(pk=note.pk).update(refund_is_due=False, refund=refund)
    note.refund_is_due, note.refund = False, refunds.send(refund=refund, now=now) if is_new else refund
    live.invoice_changed(note.account_id, note.invoice_id)
    return note


def sweep(*, now: datetime) -> int:
    """Send the refunds whose sender died; returns how many."""
    lost = CreditNote.objects.filter(refund_is_due=True, created_at__lt=now - payment_states.SENT_BY)
    found = list(lost.select_related("payment", "invoice").order_by("created_at")[:SWEEP_BATCH])
    for note in found:
        send_refund(note=note, now=now)
    return len(found)


def money(note: CreditNote, minor: int) -> str:
    return f"{amounts.money_text(minor, note.currency)} {note.currency}"
