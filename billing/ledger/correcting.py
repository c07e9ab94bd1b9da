"""Corrections: opposite entries for what should not have been, and credits moved between accounts."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from uuid import UUID

from django.db import IntegrityError, transaction
from django.db.models import Max, QuerySet, Sum

from billing import live
from billing.ledger import granting, posting, refusals, spending
from billing.models import Grant, Invoice, LedgerAccount, Transaction

# What a reversal gives back; credits that were taken for a refund, if the gateway refused it.
GIVEN_BACK = (Transaction.Kind.CHARGE, Transaction.Kind.CAPTURE, Transaction.Kind.REFUND)


@transaction.atomic
def reverse(
    *, transaction_id: UUID, key: str, reason: str, now: datetime, actor: str = "", request_id: str = ""
) -> Transaction:
    """Undo a spend (as a refund grant) or an untouched grant, once. The same key again answers the first reversal."""
    original = Transaction.objects.select_related("grant").get(pk=transaction_id)
    wallet = spending.lock_wallet(original.account_id)
    undo = posting.Cause(
        kind=Transaction.Kind.REVERSAL,
        source="reversal",
        key=key,
        fingerprint=f"reversal {transaction_id}",
        now=now,
        description=reason,
        actor=actor,
        request_id=request_id,
        reverses_id=transaction_id,
    )
    before = posting.earlier(original.account_id, undo)
    if before is not None:
        if before.request_hash != undo.fingerprint:
            raise refusals.KeyReused(key)
        return before
    if Transaction.objects.filter(reverses=original).exists():
        raise refusals.NotReversible("This transaction was reversed before.")
    if not _may_reverse(original, wallet):
        raise refusals.NotReversible(f"A {original.kind} cannot be reversed.")
    written = _begin(original, undo)
    if original.kind in GIVEN_BACK:
        _give_back(original, written, wallet)
    else:
        _take_back(original, written, wallet)
    live.credits_changed(original.account_id)
    return written


def _begin(original: Transaction, undo: posting.Cause) -> Transaction:
    """The database refuses what credit notes have given back (sql/0031). Raises NotReversible."""
    try:
        with transaction.atomic():
            return posting.begin(original.account_id, _after_invoices(original.account_id, undo))
    except IntegrityError as wrong:
        if "would be given back twice" not in str(wrong):
            raise
        raise refusals.NotReversible("Credit notes of its invoice have given this back already.") from wrong


def _after_invoices(account_id: UUID, undo: posting.Cause) -> posting.Cause:
    """A final invoice that is there says what it reverses, also if its clock went ahead (see invoicing.finalize)."""
    final = Invoice.objects.filter(account=account_id, finalized_at__gte=undo.now)
    last = final.aggregate(last=Max("finalized_at"))["last"]
    return replace(undo, now=last + timedelta(microseconds=1)) if last else undo


def _may_reverse(original: Transaction, wallet: LedgerAccount) -> bool:
    if original.kind in GIVEN_BACK:
        return True
    if original.kind != Transaction.Kind.GRANT:
        return False
    given = Grant.objects.get(transaction=original)
    if given.remaining_ucr != given.amount_ucr or wallet.posted_ucr - wallet.held_ucr < given.amount_ucr:
        raise refusals.NotReversible("Credits of this grant have been spent or are held, so it cannot be reversed.")
    return True


def _give_back(original: Transaction, written: Transaction, wallet: LedgerAccount) -> None:
    legs = original.entries.select_related("ledger_account")
    spent = -sum(leg.amount_ucr for leg in legs if leg.ledger_account_id == wallet.pk)
    opposite = next(leg.ledger_account.code for leg in legs if leg.ledger_account_id != wallet.pk)
    refund = granting.new_grant(wallet, written, spent, category=Grant.Category.REFUND, reason=written.description)
    posting.fund(written, wallet=wallet, grant=refund)
    posting.post(written, wallet=wallet, amount_ucr=spent, against=opposite)


def _take_back(original: Transaction, written: Transaction, wallet: LedgerAccount) -> None:
    given = original.grant
    posting.drain(written, grant=given, amount_ucr=given.amount_ucr)
    posting.post(written, wallet=wallet, amount_ucr=-given.amount_ucr, against="issuance")


@transaction.atomic
def transfer(
    *, from_account_id: UUID, to_account_id: UUID, amount_ucr: int, key: str, now: datetime, reason: str = "",
    actor: str = "", request_id: str = "",
) -> Transaction:  # fmt: skip
    """Move credits to another account, where they arrive as one grant without expiry.

    So what expires stays where it was given. Raises AmountOutOfRange, AccountNotActive, InsufficientCredits, KeyReused.
    """
    refusals.check_amount(amount_ucr)
    if from_account_id == to_account_id:
        raise refusals.AmountOutOfRange(amount_ucr, "Credits move between two different accounts.")
    # Always in the order of ids, so that two opposite transfers never wait for each other.
    wallets = {each: spending.lock_wallet(each) for each in sorted((from_account_id, to_account_id))}
    move = posting.Cause(
        kind=Transaction.Kind.TRANSFER,
        source="transfer",
        key=key,
        fingerprint=f"transfer {to_account_id} {amount_ucr}",
        now=now,
        description=reason,
        actor=actor,
        request_id=request_id,
    )
    before = posting.earlier(from_account_id, move)
    if before is not None:
        if before.request_hash != move.fingerprint:
            raise refusals.KeyReused(key)
        return before
    return _move(move, wallets[from_account_id], wallets[to_account_id], amount_ucr)


def _move(move: posting.Cause, sender: LedgerAccount, receiver: LedgerAccount, amount_ucr: int) -> Transaction:
    granting.expire_wallet(account_id=sender.account_id, now=move.now)
    sender.refresh_from_db()
    if sender.account.status != "active":
        raise refusals.AccountNotActive(sender.account.status)
    if receiver.account.status == "closed":
        raise refusals.AccountNotActive("closed", "The account to move credits to is closed.")
    free = movable_ucr(sender)
    if free < amount_ucr:
        raise refusals.InsufficientCredits(amount_ucr, free)
    written = posting.begin(sender.account_id, move)
    left = amount_ucr
    for each in _lasting(sender).order_by(*granting.BURN_ORDER):
        taken = min(left, each.remaining_ucr)
        posting.drain(written, grant=each, amount_ucr=taken)
        left -= taken
        if not left:
            break
    given = granting.new_grant(receiver, written, amount_ucr, category=Grant.Category.TRANSFER, reason=move.description)
    posting.fund(written, wallet=receiver, grant=given)
    posting.move(written, sender=sender, receiver=receiver, amount_ucr=amount_ucr)
    live.credits_changed(sender.account_id)
    live.credits_changed(receiver.account_id)
    return written


def movable_ucr(wallet: LedgerAccount) -> int:
    """What of a wallet can be given away: what is there, not held, and does not expire.

    An overdraft is for one's own usage.
    """
    lasting = _lasting(wallet).aggregate(sum=Sum("remaining_ucr", default=0))["sum"]
    return max(0, min(wallet.posted_ucr - wallet.held_ucr, lasting))


def _lasting(wallet: LedgerAccount) -> QuerySet[Grant]:
    return Grant.objects.filter(wallet=wallet, is_open=True, expires_at=None)
