"""Pure. What a line of a bank's statement says, and by what it is known when it comes again."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from decimal import Decimal

from billing import amounts

AMOUNT = re.compile(r"[0-9]{1,13}(\.[0-9]{1,5})?")
CURRENCY = re.compile(r"[A-Z]{3}")
MOST_LINES = 20_000
MOST_TEXT = 1000
# What banks write where they have no reference.
NO_REFERENCE = {"", "NOTPROVIDED", "NONREF", "NOREF", "NONE"}


class BadFile(Exception):
    """Raised for a file that is no statement; nothing of it was kept."""

    code = "validation_error"

    @property
    def extras(self) -> dict[str, object]:
        return {"errors": {"file": [str(self)]}}


@dataclass(frozen=True)
class Line:
    """Money that came; the amount in minor units. `part` counts within a booking that the bank gave one reference."""

    booked_on: date
    amount: int
    currency: str
    text: str = ""
    valued_on: date | None = None
    payer_name: str = ""
    payer_iban: str = ""
    bank_ref: str = ""
    part: int = 0


@dataclass(frozen=True)
class Statement:
    """A file read: the account it is of, the money that came, and how many lines say something else."""

    iban: str
    lines: tuple[Line, ...]
    skipped: int


def minor(text: str, currency: str, *, where: str) -> int:
    """Minor units from a decimal with a point. Raises BadFile."""
    if not CURRENCY.fullmatch(currency):
        raise BadFile(f"{where}: {currency[:10]!r} is no currency.")
    if not AMOUNT.fullmatch(text):
        raise BadFile(f"{where}: {text[:30]!r} is no amount.")
    counted = Decimal(text).scaleb(amounts.exponent(currency), amounts.WIDE)
    if counted != int(counted):
        raise BadFile(f"{where}: {text} has more places than {currency} has.")
    return int(counted)


def day(text: str, *, where: str) -> date:
    """The date of `2026-11-26` or `2026-11-26T10:00:00`. Raises BadFile."""
    try:
        return date.fromisoformat(text[:10])
    except ValueError as wrong:
        raise BadFile(f"{where}: {text[:30]!r} is no date.") from wrong


def shown(text: str, most: int = MOST_TEXT) -> str:
    """One line of what can be printed."""
    return "".join(letter if letter.isprintable() else " " for letter in " ".join(text.split()))[:most]


def identified(lines: Iterable[Line]) -> list[tuple[str, Line]]:
    """Each line with what it is known by, the same in every file that has it.

    That is the bank's own reference of it, with day and amount; or all it says, counted, where the bank gave none:
    the second of two equal lines of a day is the second in every file that has the whole day.
    """
    seen: Counter[str] = Counter()
    found = []
    for line in lines:
        if line.bank_ref.upper() in NO_REFERENCE:
            said = _digest(line.booked_on, line.amount, line.currency, line.text, line.payer_name, line.payer_iban)
            seen[said] += 1
            found.append((f"said:{said}:{seen[said]}", line))
        else:
            of_bank = _digest(line.bank_ref, line.booked_on, line.amount, line.currency)
            found.append((f"bank:{of_bank}:{line.part}", line))
    return found


def _digest(*parts: object) -> str:
    return hashlib.sha256("\x1f".join(map(str, parts)).encode()).hexdigest()
