"""What tests of bank transfers need beside the cast: statements as banks write them."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date

from django.utils import timezone
from uuid_utils.compat import uuid7

from billing import bank_matching
from billing.models import BankLine, BankReturn, BankStatement

IBAN = "DE89370400440532013000"


def entry(amount: str, text: str = "", *, ref: str = "", sign: str = "CRDT", currency: str = "EUR", **more: str) -> str:
    """One booking; `more` are whole elements: status, details, extra."""
    status = more.get("status", "<Sts>BOOK</Sts>")
    details = more.get("details", f"<TxDtls>{remittance(text)}</TxDtls>")
    bank_ref = f"<AcctSvcrRef>{ref}</AcctSvcrRef>" if ref else ""
    return (
        f'<Ntry><Amt Ccy="{currency}">{amount}</Amt><CdtDbtInd>{sign}</CdtDbtInd>{more.get("extra", "")}{status}'
        f"<BookgDt><Dt>2026-11-25</Dt></BookgDt><ValDt><Dt>2026-11-26</Dt></ValDt>{bank_ref}"
        f"<NtryDtls>{details}</NtryDtls></Ntry>"
    )


def remittance(text: str, *, amount: str = "") -> str:
    """What the payer wrote, and who that is."""
    sum_ = f'<Amt Ccy="EUR">{amount}</Amt>' if amount else ""
    payer = "<RltdPties><Dbtr><Nm>Acme</Nm></Dbtr><DbtrAcct><Id><IBAN>GB82WEST12345698765432</IBAN></Id></DbtrAcct></RltdPties>"
    return f"{sum_}{payer}<RmtInf><Ustrd>{text}</Ustrd></RmtInf>"


def structured(reference: str) -> str:
    kind = "<Tp><CdOrPrtry><Cd>SCOR</Cd></CdOrPrtry></Tp>"
    return f"<TxDtls><RmtInf><Strd><CdtrRefInf>{kind}<Ref>{reference}</Ref></CdtrRefInf></Strd></RmtInf></TxDtls>"


def camt(entries: Iterable[str], *, iban: str = IBAN, version: str = "02", id: str = "1") -> bytes:
    return (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<Document xmlns="urn:iso:std:iso:20022:tech:xsd:camt.053.001.{version}">'
        f"<BkToCstmrStmt><GrpHdr><MsgId>{id}</MsgId></GrpHdr><Stmt><Id>{id}</Id>"
        f"<Acct><Id><IBAN>{iban}</IBAN></Id></Acct>{''.join(entries)}</Stmt></BkToCstmrStmt></Document>"
    ).encode()


def make_line(amount: int = 1000, **changes: object) -> BankLine:
    statement = BankStatement.objects.create(name="s.xml", digest=uuid7().hex, iban=IBAN, created_at=timezone.now())
    said = {"iban": IBAN, "identity": uuid7().hex, "booked_on": date(2026, 11, 25), "currency": "EUR"}
    return BankLine.objects.create(**{"statement": statement, "amount": amount, **said, **changes})


def make_return() -> BankReturn:
    said = {"line_id": make_line().pk, "actor": "user:1", "now": timezone.now()}
    return bank_matching.give_back(amount=None, **said)
