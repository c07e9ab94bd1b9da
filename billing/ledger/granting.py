"""Where credits come from and how they end: wallets, grants, expiry, overdraft."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from django.db import IntegrityError, transaction
from django.db.models import F
from django.db.models.functions import Greatest, Least
from uuid_utils.compat import uuid7

from billing import amounts, live
from billing.ledger import posting, refusals
from billing.models import Grant, LedgerAccount, Transaction

SWEEP_BATCH = 500
# The same order as in billing_burn (sql/0004_ledger_functions.sql).
BURN_ORDER = ("priority", F("expires_at").asc(nulls_last=True), "created_at", "pk")


def open_wallet(account_id: UUID) -> None:
    """Make the account's wallet if it has none yet."""
    if LedgerAccount.objects.filter(account_id=account_id).exists():
        return
    LedgerAccount.objects.bulk_create(
        [
            LedgerAccount(
                code=f"wallet:{account_id}", kind=LedgerAccount.Kind.WALLET, account_id=account_id, floor_ucr=0
            )
        ],
        ignore_conflicts=True,
    )


@transaction.atomic
def grant(
    *,
    account_id: UUID,
    amount_ucr: int,
    category: str,
    key: str,
    source: str,
    now: datetime,
    priority: int = 50,
    expires_at: datetime | None = None,
    reason: str = "",
    actor: str = "",
    request_id: str = "",
) -> Grant:
    """Give credits. The same key again answers the same grant."""
    refusals.check_amount(amount_ucr)
    wallet = _locked_wallet(account_id)
    given = posting.Cause(
        kind=Transaction.Kind.GRANT,
        source=source,
        key=key,
        fingerprint=f"grant {amount_ucr} {category}",
        now=now,
        description=reason or f"{Grant.Category(category).label} credits",
        actor=actor,
        request_id=request_id,
    )
    before = posting.earlier(account_id, given)
    if before is not None:
        if before.request_hash != given.fingerprint:
            raise refusals.KeyReused(key)
        return before.grant
    written = posting.begin(account_id, given)
    made = new_grant(
        wallet, written, amount_ucr, category=category, priority=priority, expires_at=expires_at, reason=reason
    )
    posting.fund(written, wallet=wallet, grant=made)
    posting.post(written, wallet=wallet, amount_ucr=amount_ucr, against="issuance")
    live.credits_changed(account_id)
    return made


def new_grant(
    wallet: LedgerAccount,
    written: Transaction,
    amount_ucr: int,
    *,
    category: str,
    priority: int = 50,
    expires_at: datetime | None = None,
    reason: str = "",
) -> Grant:
    return Grant(
        id=uuid7(),
        account_id=wallet.account_id,
        wallet=wallet,
        transaction=written,
        category=category,
        priority=priority,
        amount_ucr=amount_ucr,
        remaining_ucr=amount_ucr,
        reason=reason,
        expires_at=expires_at,
        created_at=written.created_at,
    )


@transaction.atomic
def expire_wallet(*, account_id: UUID, now: datetime) -> int:
    """Book what has expired in one wallet, except what is held; returns micro-credits."""
    wallet = _locked_wallet(account_id)
    lapsed = Grant.objects.filter(wallet=wallet, is_open=True, expires_at__lte=now)
    booked = 0
    for each in lapsed.order_by("priority", "expires_at", "created_at", "pk"):
        taken = min(each.remaining_ucr, wallet.posted_ucr - wallet.held_ucr)
        if taken <= 0:
            break
        written = posting.begin(account_id, _expiry_cause(each, now))
        posting.drain(written, grant=each, amount_ucr=taken)
        posting.post(written, wallet=wallet, amount_ucr=-taken, against="breakage")
        booked += taken
    if booked:
        live.credits_changed(account_id)
    return booked


def _expiry_cause(expired: Grant, now: datetime) -> posting.Cause:
    # A grant expires in several steps when holds keep part of it; what is left makes each step's key its own.
    return posting.Cause(
        kind=Transaction.Kind.EXPIRY,
        source="expiry",
        key=f"{expired.pk}:{expired.remaining_ucr}",
        fingerprint=f"expiry {expired.remaining_ucr}",
        now=now,
        description=f"{Grant.Category(expired.category).label} credits expired",
    )


def expire_grants(*, now: datetime) -> int:
    """Book every expiry that is due; returns in how many wallets."""
    lapsed = Grant.objects.filter(is_open=True, expires_at__lte=now, wallet__posted_ucr__gt=F("wallet__held_ucr"))
    wallets = list(lapsed.order_by("account_id").values_list("account_id", flat=True).distinct()[:SWEEP_BATCH])
    return sum(1 for account_id in wallets if expire_wallet(account_id=account_id, now=now))


@transaction.atomic
def set_overdraft(*, account_id: UUID, overdraft_ucr: int) -> None:
    """How far below zero the account may go; not less than it already is."""
    if not 0 <= overdraft_ucr <= amounts.MAX_UCR:
        raise refusals.AmountOutOfRange(overdraft_ucr, "An overdraft is 0 or more credits.")
    open_wallet(account_id)
    try:
        with transaction.atomic():
            below = Greatest(0, F("held_ucr") - F("posted_ucr") - overdraft_ucr)
            LedgerAccount.objects.filter(account_id=account_id).update(
                floor_ucr=-overdraft_ucr, arrears_ucr=Least(F("arrears_ucr"), below)
            )
    except IntegrityError as below:
        raise refusals.AmountOutOfRange(
            overdraft_ucr, "The account has already drawn (or set aside) more than this overdraft allows."
        ) from below
    live.credits_changed(account_id)


def _locked_wallet(account_id: UUID) -> LedgerAccount:
    open_wallet(account_id)
    return LedgerAccount.objects.select_for_update(no_key=True).get(account_id=account_id)
