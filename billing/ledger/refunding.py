"""Bought credits taken back, because their money goes back."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from django.db import transaction

from billing import live
from billing.ledger import granting, posting, refusals, spending
from billing.models import Grant, LedgerAccount, Transaction


@transaction.atomic
def take_back(
    *, account_id: UUID, grant_ids: Sequence[UUID], amount_ucr: int, key: str, source: str, now: datetime,
    allow_debt: bool = False, reason: str = "", actor: str = "", request_id: str = "",
) -> Transaction:  # fmt: skip
    """Take unspent credits of these grants; with `allow_debt` what is not there is owed. Raises CreditsSpent."""
    refusals.check_amount(amount_ucr)
    spending.lock_wallet(account_id)
    taking = posting.Cause(
        kind=Transaction.Kind.REFUND,
        source=source,
        key=key,
        fingerprint=f"refund {amount_ucr}",
        now=now,
        description=reason or "Refunded credits",
        actor=actor,
        request_id=request_id,
    )
    before = posting.earlier(account_id, taking)
    if before is not None:
        if before.request_hash != taking.fingerprint:
            raise refusals.KeyReused(key)
        return before
    granting.expire_wallet(account_id=account_id, now=now)
    wallet = spending.lock_wallet(account_id)
    spendable = Grant.objects.filter(wallet=wallet, is_open=True).order_by(*granting.BURN_ORDER)
    own = list(spendable.filter(pk__in=grant_ids))
    free = max(0, wallet.posted_ucr - wallet.held_ucr)
    unspent = min(free, sum(each.remaining_ucr for each in own))
    if unspent < amount_ucr and not allow_debt:
        raise refusals.CreditsSpent(amount_ucr, unspent)
    written = posting.begin(account_id, taking)
    taken = _drain(written, [*own, *spendable.exclude(pk__in=grant_ids)], min(amount_ucr, free))
    _owe(wallet, missing_ucr=amount_ucr - taken, amount_ucr=amount_ucr)
    posting.post(written, wallet=wallet, amount_ucr=-amount_ucr, against="issuance")
    live.credits_changed(account_id)
    return written


def _drain(written: Transaction, grants: list[Grant], most_ucr: int) -> int:
    """Take from grant after grant, at most so much; returns what was taken."""
    taken = 0
    for each in grants:
        if taken == most_ucr:
            break
        step = min(each.remaining_ucr, most_ucr - taken)
        posting.drain(written, grant=each, amount_ucr=step)
        taken += step
    return taken


def _owe(wallet: LedgerAccount, *, missing_ucr: int, amount_ucr: int) -> None:
    """What no grant gives becomes debt, also beyond the allowed overdraft: nothing can be spent until it is repaid."""
    if not missing_ucr:
        return
    wallet.debt_ucr += missing_ucr
    wallet.arrears_ucr = posting.below_floor(wallet, less_ucr=amount_ucr)
    wallet.save(update_fields=["debt_ucr", "arrears_ucr"])
