"""How the ledger writes where Python has to decide: always under the wallet's lock, always balanced."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from billing.models import Entry, Grant, GrantConsumption, LedgerAccount, Transaction


@dataclass(frozen=True)
class Cause:
    """Why and by whom a transaction is written, and what makes it happen only once."""

    kind: str
    source: str
    key: str
    fingerprint: str
    now: datetime
    description: str = ""
    actor: str = ""
    request_id: str = ""
    reverses_id: UUID | None = None


def earlier(account_id: UUID, cause: Cause) -> Transaction | None:
    """The transaction that the same key wrote before."""
    return Transaction.objects.filter(account_id=account_id, source=cause.source, key=cause.key).first()


def begin(account_id: UUID, cause: Cause) -> Transaction:
    return Transaction.objects.create(
        account_id=account_id,
        kind=cause.kind,
        source=cause.source,
        key=cause.key,
        request_hash=cause.fingerprint,
        description=cause.description,
        actor=cause.actor,
        request_id=cause.request_id,
        reverses_id=cause.reverses_id,
        created_at=cause.now,
    )


def post(written: Transaction, *, wallet: LedgerAccount, amount_ucr: int, against: str) -> None:
    """Add to (or take from) a locked wallet, with the opposite leg on an account of the house."""
    opposite = Entry(
        transaction=written,
        ledger_account=_house_account(against),
        amount_ucr=-amount_ucr,
        created_at=written.created_at,
    )
    _write([_wallet_leg(written, wallet, amount_ucr), opposite])


def move(written: Transaction, *, sender: LedgerAccount, receiver: LedgerAccount, amount_ucr: int) -> None:
    """Take from one locked wallet and add to another."""
    _write([_wallet_leg(written, sender, -amount_ucr), _wallet_leg(written, receiver, amount_ucr)])


def _wallet_leg(written: Transaction, wallet: LedgerAccount, amount_ucr: int) -> Entry:
    wallet.posted_ucr += amount_ucr
    wallet.arrears_ucr = min(wallet.arrears_ucr, below_floor(wallet))
    wallet.last_line += 1
    wallet.save(update_fields=["posted_ucr", "arrears_ucr", "last_line"])
    return Entry(
        transaction=written,
        ledger_account=wallet,
        amount_ucr=amount_ucr,
        balance_after_ucr=wallet.posted_ucr,
        line=wallet.last_line,
        created_at=written.created_at,
    )


def _write(legs: list[Entry]) -> None:
    """All legs of a transaction are one statement: the database refuses one that does not balance."""
    Entry.objects.bulk_create(legs)


def below_floor(wallet: LedgerAccount, *, less_ucr: int = 0) -> int:
    """How far the wallet is below its floor, or would be with so much less in it."""
    return max(0, (wallet.floor_ucr or 0) + wallet.held_ucr - (wallet.posted_ucr - less_ucr))


def fund(written: Transaction, *, wallet: LedgerAccount, grant: Grant) -> None:
    """Save a new grant of a locked wallet; what the wallet owes is repaid from it first."""
    repaid = min(wallet.debt_ucr, grant.amount_ucr)
    grant.remaining_ucr = grant.amount_ucr - repaid
    grant.save(force_insert=True)
    if repaid:
        wallet.debt_ucr -= repaid
        wallet.save(update_fields=["debt_ucr"])
        GrantConsumption.objects.create(grant=grant, transaction=written, amount_ucr=repaid)


def drain(written: Transaction, *, grant: Grant, amount_ucr: int) -> None:
    """Take from one grant for this transaction."""
    grant.remaining_ucr -= amount_ucr
    grant.save(update_fields=["remaining_ucr"])
    GrantConsumption.objects.create(grant=grant, transaction=written, amount_ucr=amount_ucr)


def _house_account(code: str) -> LedgerAccount:
    return LedgerAccount.objects.get_or_create(code=code, defaults={"kind": code.partition(":")[0]})[0]
