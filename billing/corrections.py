"""What people put right in the ledger: credits moved between accounts, and transactions taken back.

Credits are moved by staff, or by whoever owns both accounts; a key moves them out of its own account, if whoever made
it owns both still. Who names an account that is not theirs hears the same as of one that does not exist. Taking back is
staff's.
"""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from billing import ledger, roles
from billing.keys import KeyPrincipal, Principal
from billing.models import Account, AccountQuerySet, Role, Transaction, User

# What somebody gave; bought credits go back with their money.
GIVEN_BY = ("accounts", "staff", "api:grants")


class UnknownReceiver(Exception):
    """Raised for an account that is not there, or not the sender's own."""

    code = "validation_error"

    def __init__(self) -> None:
        super().__init__("You own no such account.")

    @property
    def extras(self) -> dict[str, object]:
        return {"errors": {"to": [str(self)]}}


def owned(principal: Principal) -> AccountQuerySet:
    """The accounts between which this principal may move credits; every account, for staff."""
    if principal.is_staff:
        return Account.objects.all()
    person = principal.key.created_by if isinstance(principal, KeyPrincipal) else principal
    if not isinstance(person, User) or not person.is_active:
        return Account.objects.none()
    # Not what a key's maker may do as staff: the key is a customer's.
    return Account.objects.filter(person.membership_filter(roles=(Role.OWNER,)))


def receivers(principal: Principal, account: Account) -> AccountQuerySet:
    """Where this principal may move credits of an account to; none where they may not move any of it."""
    mine = owned(principal)
    if not mine.filter(pk=account.pk).exists():
        return Account.objects.none()
    return mine.exclude(pk=account.pk).exclude(status=Account.Status.CLOSED)


def move(
    *, account: Account, to: UUID, amount_ucr: int, reason: str, key: str, now: datetime, by: Principal,
    actor: str = "", request_id: str = "",
) -> Transaction:  # fmt: skip
    """Move credits to another account. Raises OwnerRequired, UnknownReceiver and those of ledger.transfer."""
    mine = owned(by)
    if not mine.filter(pk=account.pk).exists():
        raise roles.OwnerRequired
    if not mine.filter(pk=to).exists():
        raise UnknownReceiver
    return ledger.transfer(
        from_account_id=account.pk,
        to_account_id=to,
        amount_ucr=amount_ucr,
        key=key,
        now=now,
        reason=reason,
        actor=actor,
        request_id=request_id,
    )


def may_be_taken_back(found: Transaction) -> bool:
    """Whether staff may reverse it by hand: what was spent, and what was given and not bought."""
    if found.kind in (Transaction.Kind.CHARGE, Transaction.Kind.CAPTURE):
        return True
    return found.kind == Transaction.Kind.GRANT and found.source in GIVEN_BY


def take_back(
    found: Transaction, *, key: str, reason: str, now: datetime, actor: str, request_id: str = ""
) -> Transaction:
    """Reverse a transaction by hand. Raises NotReversible, KeyReused."""
    if not may_be_taken_back(found):
        raise ledger.NotReversible("This belongs to a payment, a hold or a transfer. Take that back instead.")
    said = {"reason": reason, "now": now, "actor": actor, "request_id": request_id}
    return ledger.reverse(transaction_id=found.pk, key=key, **said)
