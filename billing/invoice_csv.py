"""An invoice or a credit note as a CSV file: its lines, then its totals."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator

from billing import amounts
from billing.models import CreditNote, Invoice
from billing.usage_csv import text

INVOICE = (
    "number", "line", "meter", "description", "quantity", "unit", "unit_price", "per", "credits", "amount", "currency",
)  # fmt: skip
CREDIT_NOTE = ("number", "invoice", "line", "meter", "description", "amount", "currency")


def of_invoice(invoice: Invoice) -> str:
    """Lines by position; then rows whose `meter` is empty and whose `description` names a sum."""
    return _written(INVOICE, _invoice_rows(invoice))


def _invoice_rows(invoice: Invoice) -> Iterator[list[str]]:
    number = invoice.number or ""
    for line in invoice.lines.order_by("position"):
        yield [
            number, str(line.position), line.meter, text(line.description), amounts.plain_quantity(line.quantity),
            line.unit, line.unit_price, amounts.plain_quantity(line.per), amounts.six_places(line.cost_ucr),
            invoice.money(line.amount), invoice.currency,
        ]  # fmt: skip
    for name in ("subtotal", "tax", "total", "credits_applied", "amount_due", "credited"):
        yield [number, "", "", name, "", "", "", "", "", invoice.money(getattr(invoice, name)), invoice.currency]


def of_credit_note(note: CreditNote) -> str:
    return _written(CREDIT_NOTE, _note_rows(note))


def _note_rows(note: CreditNote) -> Iterator[list[str]]:
    invoice = note.invoice
    head = [note.number, invoice.number or ""]
    for each in note.lines.select_related("line").order_by("line__position"):
        line = each.line
        amount = invoice.money(each.amount)
        yield [*head, str(line.position), line.meter, text(line.description), amount, invoice.currency]
    for name in ("subtotal", "tax", "total"):
        yield [*head, "", "", name, invoice.money(getattr(note, name)), invoice.currency]


def _written(columns: tuple[str, ...], rows: Iterator[list[str]]) -> str:
    target = io.StringIO()
    csv.writer(target).writerows([columns, *rows])
    return target.getvalue()
