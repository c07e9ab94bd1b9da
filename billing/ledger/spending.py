"""Charges and balances. A charge is one call of a function in the database (sql/0025_spends_at_once.sql)."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.db import transaction

from billing import calls, live
from billing.ledger import granting, limiting, refusals
from billing.models import Account, LedgerAccount

CHARGE = (
    "select outcome, transaction, available, overdraft"
    " from billing_charge(%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)"
)
BALANCE = """
    select w.posted_ucr, w.held_ucr, w.floor_ucr, w.debt_ucr,
           coalesce((select sum(l.remaining_ucr) from billing_grant l
                      where l.wallet_id = w.id and l.is_open and l.expires_at <= %s), 0)::bigint,
           n.expires_at, n.remaining_ucr
      from billing_ledgeraccount w
      left join lateral (
            select g.expires_at, g.remaining_ucr from billing_grant g
             where g.wallet_id = w.id and g.is_open and g.expires_at > %s
             order by g.expires_at, g.id limit 1) n on true
     where w.account_id = %s"""


@dataclass(frozen=True)
class Receipt:
    """What was taken: by which transaction, and how much of it no grant covered."""

    transaction_id: UUID
    amount_ucr: int
    overdraft_ucr: int = 0
    replayed: bool = False


@dataclass(frozen=True)
class Balance:
    posted_ucr: int
    held_ucr: int
    overdraft_ucr: int
    debt_ucr: int
    next_expiry_at: datetime | None = None
    next_expiry_ucr: int = 0

    @property
    def available_ucr(self) -> int:
        return self.posted_ucr - self.held_ucr + self.overdraft_ucr


def charge(
    *,
    account_id: UUID,
    amount_ucr: int,
    key: str,
    source: str,
    now: datetime,
    meter: str = "other",
    description: str = "",
    actor: str = "",
    request_id: str = "",
    agent: str = "",
    api_key: str = "",
) -> Receipt:
    """Take credits at once. The same key again answers the first receipt and takes nothing.

    `meter`, `agent` and `api_key` say on which budgets it counts. Raises the reasons in CANNOT_SPEND, KeyReused.
    """
    refusals.check_amount(amount_ucr)
    given = fingerprint("charge", amount_ucr, meter)
    arguments = [account_id, calls.new_ids(4), f"revenue:{meter}", amount_ucr]
    arguments += [source, key, given, description, actor, request_id, now, agent, api_key]
    outcome, found, available_ucr, overdraft_ucr = calls.row(CHARGE, arguments)
    if outcome == "ok":
        live.credits_changed(account_id)
        return Receipt(found, amount_ucr, overdraft_ucr)
    if outcome == "replay":
        return Receipt(found, amount_ucr, replayed=True)
    if outcome == "expire_first":
        granting.expire_wallet(account_id=account_id, now=now)
        return charge(
            account_id=account_id, amount_ucr=amount_ucr, key=key, source=source, now=now,
            meter=meter, description=description, actor=actor, request_id=request_id, agent=agent, api_key=api_key,
        )  # fmt: skip
    raise refusal(
        outcome, account_id=account_id, key=key, needed_ucr=amount_ucr, available_ucr=available_ucr, found=found
    )


def refusal(
    outcome: str, *, account_id: UUID, key: str, needed_ucr: int, available_ucr: int, found: UUID | None = None
) -> Exception:
    """The exception that says in words what a function of the database answered; `found` is the row it named."""
    if outcome == "budget":
        assert found is not None
        return limiting.refuse(found, needed_ucr=needed_ucr)
    if outcome == "insufficient":
        return refusals.InsufficientCredits(needed_ucr, available_ucr)
    if outcome == "reused":
        return refusals.KeyReused(key)
    if outcome == "not_active":
        return refusals.AccountNotActive(Account.objects.values_list("status", flat=True).get(pk=account_id))
    return refusals.InsufficientCredits(needed_ucr, 0)


def fingerprint(*parts: object) -> str:
    """What a key stands for; the same key with another fingerprint is refused."""
    return hashlib.sha256("\x1f".join(map(str, parts)).encode()).hexdigest()


def lock_wallet(account_id: UUID) -> LedgerAccount:
    """The wallet, locked until the transaction ends. Whoever decides about a wallet in Python locks it first."""
    assert transaction.get_connection().in_atomic_block
    granting.open_wallet(account_id)
    return LedgerAccount.objects.select_for_update(no_key=True).get(account_id=account_id)


def balance(*, account_id: UUID, now: datetime) -> Balance:
    """What the account has at `now`; credits past their expiry count no more, even before the sweep books them."""
    found = calls.run(BALANCE, [now, now, account_id]).fetchone()
    if found is None:
        granting.open_wallet(account_id)
        return balance(account_id=account_id, now=now)
    posted_ucr, held_ucr, floor_ucr, debt_ucr, lapsed_ucr, next_expiry_at, next_expiry_ucr = found
    return Balance(
        posted_ucr=posted_ucr - min(lapsed_ucr, max(0, posted_ucr - held_ucr)),
        held_ucr=held_ucr,
        overdraft_ucr=-floor_ucr,
        debt_ucr=debt_ucr,
        next_expiry_at=next_expiry_at,
        next_expiry_ucr=next_expiry_ucr or 0,
    )
