"""What an invoice, a credit note or a preview says, as text: the page, the PDF and the CSV show the same.

Invoice | CreditNote | Preview  ->  Document  ->  templates/billing/_document.html | paper/document.typ
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from billing import amounts, invoicing
from billing.models import Account, CreditNote, Invoice

NBSP = "\u00a0"
# What a document is stamped with, by the invoice's state.
STAMPS = {"draft": "draft", "void": "void", "paid": "paid", "uncollectible": "uncollectible"}


@dataclass(frozen=True)
class Party:
    name: str
    address: tuple[str, ...] = ()
    tax_id: str = ""


@dataclass(frozen=True)
class Line:
    description: str
    amount: str
    quantity: str = ""
    unit: str = ""
    price: str = ""


@dataclass(frozen=True)
class Total:
    label: str
    amount: str
    is_due: bool = False


@dataclass(frozen=True)
class Document:
    """Everything on the paper, in its order."""

    title: str
    number: str
    stamp: str
    language: str
    seller: Party
    customer: Party
    facts: tuple[tuple[str, str], ...]
    columns: tuple[str, ...]
    lines: tuple[Line, ...]
    totals: tuple[Total, ...]
    notes: tuple[str, ...]
    issued_at: datetime | None = None
    # What matters most, in large letters: 272.20 EUR due 10 Dec 2026
    headline: str = ""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def of_invoice(invoice: Invoice) -> Document:
    """An invoice as it stands; a draft's names are the account's of now."""
    account = invoice.account
    zone = ZoneInfo(account.time_zone)
    facts = _dated(
        zone,
        ("Issued", invoice.finalized_at),
        ("Due", invoice.due_at if invoice.amount_due else None),
        ("Paid", invoice.paid_at if invoice.amount_due else None),
        ("Void since", invoice.voided_at),
    )
    return Document(
        title="Invoice" if invoice.number else "Draft invoice",
        number=invoice.number or "",
        stamp=STAMPS.get(invoice.state, ""),
        language=account.locale,
        seller=_party(invoice.seller or invoicing.seller()),
        customer=_party(invoice.customer or invoicing.customer(account)),
        facts=(*facts, _period(invoice.period_start, invoice.period_end, zone)),
        columns=INVOICE_COLUMNS,
        lines=_lines(invoice.lines.order_by("position"), invoice.currency),
        totals=_totals(invoice),
        notes=tuple(_notes(invoice, zone)),
        issued_at=invoice.finalized_at,
        headline=_headline(invoice, zone),
    )


def of_preview(preview: invoicing.Preview, *, account: Account) -> Document:
    """The running period as its invoice would be now."""
    found, zone = preview.statement, ZoneInfo(account.time_zone)
    return Document(
        title="Running period",
        number="",
        stamp="preview",
        language=account.locale,
        seller=_party(invoicing.seller()),
        customer=_party(invoicing.customer(account)),
        facts=(_period(preview.period.start, preview.period.end, zone),),
        columns=INVOICE_COLUMNS,
        lines=_lines(found.lines, found.currency),
        totals=_totals(found),
        notes=(found.tax_note,) if found.tax_note else (),
    )


def of_credit_note(note: CreditNote) -> Document:
    invoice, zone = note.invoice, ZoneInfo(note.account.time_zone)
    credited = note.lines.select_related("line").order_by("line__position")
    return Document(
        title="Credit note",
        number=note.number,
        stamp="",
        language=note.account.locale,
        seller=_party(invoice.seller),
        customer=_party(invoice.customer),
        facts=(
            ("Issued", day(note.created_at, zone)),
            ("For invoice", invoice.number or ""),
            *_dated(zone, ("Invoiced", invoice.finalized_at)),
            _period(invoice.period_start, invoice.period_end, zone),
        ),
        columns=("Description", "Invoiced", "Credited"),
        lines=tuple(
            Line(each.line.description, money(each.amount, note.currency), money(each.line.amount, note.currency))
            for each in credited
        ),
        totals=_credit_totals(note),
        notes=tuple(filter(None, (f"Reason: {note.reason}" if note.reason else "", *_settled(note), invoice.tax_note))),
        issued_at=note.created_at,
    )


INVOICE_COLUMNS = ("Description", "Quantity", "Unit", "Price", "Amount")


def _party(said: Mapping[str, str]) -> Party:
    address = tuple(line.strip() for line in said.get("address", "").splitlines() if line.strip())
    return Party(said.get("name", ""), address, said.get("tax_id", ""))


def _dated(zone: ZoneInfo, *said: tuple[str, datetime | None]) -> tuple[tuple[str, str], ...]:
    return tuple((label, day(moment, zone)) for label, moment in said if moment is not None)


def _period(start: datetime, end: datetime, zone: ZoneInfo) -> tuple[str, str]:
    """People name a period by its first and its last day."""
    first, last = day(start, zone), day(end - timedelta(microseconds=1), zone)
    return "Period", first if first == last else f"{first} – {last}"


def _lines(lines: Iterable[Any], currency: str) -> tuple[Line, ...]:
    """Of InvoiceLine rows or of a statement's lines, which have the same names."""
    return tuple(
        Line(
            description=line.description,
            amount=money(line.amount, currency),
            quantity=quantity(line.priced_quantity),
            unit=line.per_unit,
            price=f"{line.unit_price}{NBSP}{currency}" if line.unit_price else "by tiers",
        )
        for line in lines
    )


def _totals(said: Any) -> tuple[Total, ...]:
    """Of an invoice or of a statement."""
    found = [Total("Subtotal", money(said.subtotal, said.currency))]
    if said.tax_rate or said.tax_note:
        found.append(Total(f"Tax {percent(said.tax_rate)}", money(said.tax, said.currency)))
    found.append(Total("Total", money(said.total, said.currency)))
    if said.credits_applied:
        found.append(Total("Credits applied", f"−{money(said.credits_applied, said.currency)}"))
    found.append(Total("Amount due", money(said.amount_due, said.currency), is_due=True))
    return tuple(found)


def _credit_totals(note: CreditNote) -> tuple[Total, ...]:
    found = [Total("Subtotal", money(note.subtotal, note.currency))]
    if note.invoice.tax_rate or note.invoice.tax_note:
        found.append(Total(f"Tax {percent(note.invoice.tax_rate)}", money(note.tax, note.currency)))
    return (*found, Total("Total credited", money(note.total, note.currency), is_due=True))


def _settled(note: CreditNote) -> Iterable[str]:
    if note.due_reduced:
        yield f"{money(note.due_reduced, note.currency)} of it is owed no more."
    if note.refund_amount:
        assert note.payment is not None  # the database holds it: money goes back to a payment
        yield f"{money(note.refund_amount, note.currency)} of it goes back to {note.payment.method_label}."
    if note.granted:
        yield f"{money(note.granted, note.currency)} of it was given back as credits."


def _headline(invoice: Invoice, zone: ZoneInfo) -> str:
    if not invoice.is_unpaid or invoice.due_at is None:
        return ""
    return f"{money(invoice.open_amount, invoice.currency)} due {day(invoice.due_at, zone)}"


def _notes(invoice: Invoice, zone: ZoneInfo) -> Iterable[str]:
    if invoice.tax_note:
        yield invoice.tax_note
    if invoice.state == Invoice.State.PAID and not invoice.amount_due:
        yield "Paid with credits that were bought or given before."
    if invoice.state == Invoice.State.VOID:
        yield "This invoice is void: nothing is owed on it."
    for note in invoice.credit_notes.order_by("sequence"):
        yield f"Credit note {note.number} of {day(note.created_at, zone)} takes {money(note.total, note.currency)} off."
    if invoice.is_unpaid and invoice.due_at is not None:
        yield f"Please pay {money(invoice.open_amount, invoice.currency)} by {day(invoice.due_at, zone)}."


def money(minor: int, currency: str) -> str:
    """122000 EUR -> 1,220.00 EUR, as pages write it."""
    return f"{Decimal(amounts.money_text(minor, currency)):,f}{NBSP}{currency}"


def quantity(value: Decimal) -> str:
    """At most three places, in groups of three."""
    rounded = value.quantize(Decimal("0.001"), context=amounts.WIDE)
    text = f"{rounded:,f}".rstrip("0").rstrip(".")
    # What is too little for three places is still not nothing.
    return text if Decimal(rounded) or not value else f"{value.normalize(amounts.WIDE):f}"


def percent(rate: Decimal) -> str:
    return f"{amounts.plain_quantity(rate * 100) or '0'}{NBSP}%"


def day(moment: datetime, zone: ZoneInfo) -> str:
    local = moment.astimezone(zone)
    return f"{local.day} {local:%b} {local.year}"
