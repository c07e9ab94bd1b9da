"""Takes a bank's statement: all of its lines or none, each once, then those that match by themselves are matched.

A file that comes again, and a line that another file had, book nothing twice.
"""

from __future__ import annotations

import hashlib
from datetime import datetime

from django.conf import settings
from django.db import IntegrityError, transaction

from billing import bank_matching
from billing.bank import camt, lines, references, rows
from billing.bank.lines import BadFile, Line, Statement
from billing.models import BankLine, BankStatement

MOST_BYTES = 5 * 1024 * 1024


def take(
    *, data: bytes, name: str, columns: rows.Columns | None, actor: str, now: datetime
) -> tuple[BankStatement, int]:
    """Import CAMT.053, or CSV where its columns are named. Raises BadFile.

    Returns the statement, the first one for a file that comes again, and how many lines matched by themselves.
    """
    said = _read(data, columns)
    try:
        statement = _keep(said, digest=_digest(data, columns), name=name, actor=actor, now=now)
    except IntegrityError:
        return BankStatement.objects.get(digest=_digest(data, columns)), 0
    return statement, bank_matching.sweep(now=now, statement=statement)


def _digest(data: bytes, columns: rows.Columns | None) -> str:
    return hashlib.sha256(data + repr(columns).encode()).hexdigest()


def _read(data: bytes, columns: rows.Columns | None) -> Statement:
    if len(data) > MOST_BYTES:
        raise BadFile(f"A file has at most {MOST_BYTES // 1024 // 1024} MB. Import it in parts.")
    if not data.strip():
        raise BadFile("This file is empty.")
    if columns is not None:
        return rows.read(data, columns, iban=settings.BANK_IBAN, currency=settings.CREDIT_CURRENCY)
    said = camt.read(data)
    if references.squeezed(said.iban) != settings.BANK_IBAN:
        raise BadFile(f"This is a statement of {lines.shown(said.iban, 34)}, not of our account {settings.BANK_IBAN}.")
    return said


@transaction.atomic
def _keep(said: Statement, *, digest: str, name: str, actor: str, now: datetime) -> BankStatement:
    made = {"name": lines.shown(name, 200) or "statement", "digest": digest, "iban": settings.BANK_IBAN}
    statement = BankStatement.objects.create(**made, skipped=said.skipped, actor=actor, created_at=now)
    # In one order, so that two files with the same lines wait for each other and never both.
    in_order = sorted(lines.identified(said.lines), key=lambda each: each[0])
    kept = [_line(statement, identity, line) for identity, line in in_order]
    BankLine.objects.bulk_create(kept, ignore_conflicts=True, batch_size=1000)
    statement.new = statement.lines.count()
    statement.known = len(kept) - statement.new
    statement.save(update_fields=["new", "known"])
    return statement


def _line(statement: BankStatement, identity: str, line: Line) -> BankLine:
    return BankLine(
        statement=statement,
        iban=statement.iban,
        identity=identity,
        booked_on=line.booked_on,
        valued_on=line.valued_on,
        amount=line.amount,
        currency=line.currency,
        text=line.text,
        reference=references.found_in(line.text),
        payer_name=line.payer_name,
        payer_iban=line.payer_iban,
        bank_ref=line.bank_ref,
    )
