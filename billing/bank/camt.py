"""Pure. A bank's statement in CAMT.053 (ISO 20022, BankToCustomerStatement), any version from 001.02 on.

Read are booked credits. Debits, reversals and what is only pending are counted and left out. A booking of several
payments is one line for each when their amounts add up to it, and one in all when they do not. No DTD, no entities.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from xml.etree.ElementTree import Element, ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from billing.bank import lines
from billing.bank.lines import BadFile, Line, Statement

DOCUMENT = re.compile(r"(\{urn:iso:std:iso:20022:tech:xsd:camt\.053\.001\.[0-9]{2}\})Document")
REMITTANCE = ("Ustrd", "Strd/CdtrRefInf/Ref", "Strd/AddtlRmtInf")


def read(data: bytes) -> Statement:
    """Raises BadFile."""
    root = _parsed(data)
    named = DOCUMENT.fullmatch(root.tag)
    if named is None:
        raise BadFile("This XML is no CAMT.053 statement: its document is of another kind.")
    file = _File(named[1])
    statements = file.all(root, "BkToCstmrStmt/Stmt")
    if not statements:
        raise BadFile("This CAMT.053 file has no statement in it.")
    ibans = {file.text(each, "Acct/Id/IBAN") for each in statements}
    if len(ibans) > 1 or "" in ibans:
        raise BadFile("This file must be the statement of one account, with its IBAN.")
    entries = [entry for each in statements for entry in file.all(each, "Ntry")]
    credits = [(number, entry) for number, entry in enumerate(entries, 1) if file.is_credit(entry)]
    found = tuple(line for number, entry in credits for line in file.lines_of(entry, f"Entry {number}"))
    if len(found) > lines.MOST_LINES:
        raise BadFile(f"A file has at most {lines.MOST_LINES} payments. Import it in parts.")
    return Statement(ibans.pop(), found, len(entries) - len(credits))


def _parsed(data: bytes) -> Element:
    try:
        root: Element = fromstring(data, forbid_dtd=True)
    except DefusedXmlException as wrong:
        raise BadFile("This XML declares entities or a DTD, which no bank's statement does.") from wrong
    except (ParseError, ValueError, LookupError) as wrong:
        raise BadFile(f"This is no XML that can be read: {str(wrong)[:100]}.") from wrong
    return root


class _File:
    """Finds elements by their names, whatever version's namespace they are in."""

    def __init__(self, space: str) -> None:
        self._space = space

    def _path(self, path: str) -> str:
        return "/".join(self._space + part for part in path.split("/"))

    def all(self, node: Element, path: str) -> list[Element]:
        return node.findall(self._path(path))

    def text(self, node: Element, *paths: str) -> str:
        """Of the first of these that says anything."""
        found = (node.findtext(self._path(path)) or "" for path in paths)
        return next((text.strip() for text in found if text.strip()), "")

    def is_credit(self, entry: Element) -> bool:
        is_booked = self.text(entry, "Sts/Cd", "Sts") == "BOOK"
        is_reversal = self.text(entry, "RvslInd") in ("true", "1")
        return is_booked and self.text(entry, "CdtDbtInd") == "CRDT" and not is_reversal

    def lines_of(self, entry: Element, where: str) -> Iterator[Line]:
        amount, currency = self._money(entry, "Amt", where)
        if amount == 0:
            return
        details = self.all(entry, "NtryDtls/TxDtls")
        parts = [self._part(each, where) for each in details]
        adds_up = (
            all(money[0] and money[1] == currency for money in parts) and sum(money[0] for money in parts) == amount
        )
        if len(details) > 1 and adds_up:
            for number, (node, money) in enumerate(zip(details, parts, strict=True)):
                yield self._line(entry, [node], *money, where=where, part=number)
        else:
            yield self._line(entry, details, amount, currency, where=where)

    def _part(self, details: Element, where: str) -> tuple[int, str]:
        for path in ("Amt", "AmtDtls/TxAmt/Amt"):
            if self.all(details, path):
                return self._money(details, path, where)
        return 0, ""

    def _money(self, node: Element, path: str, where: str) -> tuple[int, str]:
        found = self.all(node, path)
        if not found:
            raise BadFile(f"{where} has no amount.")
        currency = found[0].get("Ccy", "")
        return lines.minor((found[0].text or "").strip(), currency, where=where), currency

    def _line(
        self, entry: Element, details: list[Element], amount: int, currency: str, *, where: str, part: int = 0
    ) -> Line:
        only = details[0] if len(details) == 1 else entry
        valued = self.text(entry, "ValDt/Dt", "ValDt/DtTm")
        said = [text for node in details for text in self._remittance(node)]
        return Line(
            booked_on=lines.day(self.text(entry, "BookgDt/Dt", "BookgDt/DtTm"), where=where),
            valued_on=lines.day(valued, where=where) if valued else None,
            amount=amount,
            currency=currency,
            text=lines.shown(" ".join(said) or self.text(entry, "AddtlNtryInf")),
            payer_name=lines.shown(self.text(only, "RltdPties/Dbtr/Nm", "RltdPties/Dbtr/Pty/Nm"), 140),
            payer_iban=lines.shown(self.text(only, "RltdPties/DbtrAcct/Id/IBAN"), 34),
            bank_ref=lines.shown(self.text(entry, "AcctSvcrRef") or self.text(only, "Refs/AcctSvcrRef"), 100),
            part=part,
        )

    def _remittance(self, details: Element) -> Iterator[str]:
        for path in REMITTANCE:
            yield from ((node.text or "").strip() for node in self.all(details, f"RmtInf/{path}"))
        yield self.text(details, "Refs/EndToEndId").replace("NOTPROVIDED", "")
