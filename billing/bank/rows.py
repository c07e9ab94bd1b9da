"""Pure. A bank's statement as CSV, whose columns the importer names: every bank has its own."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime

from billing.bank import lines
from billing.bank.lines import BadFile, Line, Statement

DATES = {"YYYY-MM-DD": "%Y-%m-%d", "DD.MM.YYYY": "%d.%m.%Y", "DD/MM/YYYY": "%d/%m/%Y", "MM/DD/YYYY": "%m/%d/%Y"}
DELIMITERS = {"semicolon": ";", "comma": ",", "tab": "\t"}
NUMBERS = {
    "comma": re.compile(r"(?P<sign>[+-]?)(?P<whole>[0-9]{1,3}(?:[. '][0-9]{3})+|[0-9]+)(?:,(?P<places>[0-9]+))?"),
    "point": re.compile(r"(?P<sign>[+-]?)(?P<whole>[0-9]{1,3}(?:[, '][0-9]{3})+|[0-9]+)(?:\.(?P<places>[0-9]+))?"),
}


@dataclass(frozen=True)
class Columns:
    """The names of a file's columns, as its first line has them; and how it writes numbers and days."""

    date: str
    amount: str
    text: str
    currency: str = ""
    bank_ref: str = ""
    payer_name: str = ""
    payer_iban: str = ""
    delimiter: str = "semicolon"
    decimal: str = "comma"
    days: str = "YYYY-MM-DD"


def read(data: bytes, columns: Columns, *, iban: str, currency: str) -> Statement:
    """Where no column says it, the currency is the account's. Raises BadFile."""
    reader = csv.DictReader(io.StringIO(_text(data)), delimiter=DELIMITERS[columns.delimiter], strict=True)
    found, skipped = [], 0
    try:
        _check(columns, list(reader.fieldnames or []))
        for row in reader:
            line = _line(row, columns, currency, where=f"Line {reader.line_num}")
            found += [line] if line else []
            skipped += line is None
            if len(found) + skipped > lines.MOST_LINES:
                raise BadFile(f"A file has at most {lines.MOST_LINES} lines. Import it in parts.")
    except csv.Error as wrong:
        raise BadFile(f"Line {reader.line_num} is no CSV: {wrong}.") from wrong
    return Statement(iban, tuple(found), skipped)


def _text(data: bytes) -> str:
    """UTF-8, or what banks used before it."""
    for encoding in ("utf-8-sig", "cp1252"):
        try:
            text = data.decode(encoding)
        except UnicodeDecodeError:
            continue
        if "\x00" not in text:
            return text
    raise BadFile("This file is no text in UTF-8 or Windows-1252.")


def _check(columns: Columns, there: list[str]) -> None:
    named = (columns.date, columns.amount, columns.text, columns.currency, columns.bank_ref)
    for name in (*named, columns.payer_name, columns.payer_iban):
        if name and name not in there:
            has = ", ".join(there)[:200] or "none"
            raise BadFile(f"There is no column {name[:60]!r}. The first line names these: {has}.")


def _line(row: Mapping[str | None, str | None], columns: Columns, currency: str, *, where: str) -> Line | None:
    """None for a debit, and for a line of nothing."""
    said = {name: (value or "").strip() for name, value in row.items() if isinstance(name, str)}
    number = NUMBERS[columns.decimal].fullmatch(said[columns.amount])
    if number is None:
        raise BadFile(f"{where}: {said[columns.amount][:30]!r} is no amount with a decimal {columns.decimal}.")
    paid_in = said.get(columns.currency, "").upper() or currency
    whole = re.sub(r"[^0-9]", "", number["whole"])
    amount = lines.minor(f"{whole}.{number['places'] or '0'}", paid_in, where=where)
    if number["sign"] == "-" or amount == 0:
        return None
    return Line(
        booked_on=_day(said[columns.date], columns, where),
        amount=amount,
        currency=paid_in,
        text=lines.shown(said[columns.text]),
        payer_name=lines.shown(said.get(columns.payer_name, ""), 140),
        payer_iban=lines.shown("".join(said.get(columns.payer_iban, "").split()), 34),
        bank_ref=lines.shown(said.get(columns.bank_ref, ""), 100),
    )


def _day(text: str, columns: Columns, where: str) -> date:
    try:
        return datetime.strptime(text, DATES[columns.days]).date()
    except ValueError as wrong:
        raise BadFile(f"{where}: {text[:30]!r} is no day written as {columns.days}.") from wrong
