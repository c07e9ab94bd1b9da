"""Who may act in an account beyond what the doors ask of everybody."""

from __future__ import annotations

from billing.keys import KeyPrincipal, Principal
from billing.models import Account


class OwnerRequired(Exception):
    """Raised when someone who is no owner does what only owners do."""

    code = "role_required"

    def __init__(self) -> None:
        super().__init__("Only an owner of the account may do this.")


class StaffRequired(Exception):
    """Raised when a customer does what only staff do."""

    code = "staff_required"

    def __init__(self) -> None:
        super().__init__("Only staff may do this.")


def is_owner(principal: Principal, account: Account) -> bool:
    """Staff and keys with `account:write` count as owners."""
    return Account.objects.owned_by(principal).filter(pk=account.pk).exists()


def require_owner(principal: Principal, account: Account) -> None:
    """Raises OwnerRequired."""
    if not is_owner(principal, account):
        raise OwnerRequired


def may_pay(principal: Principal, account: Account) -> bool:
    """Owners and staff; and keys, since an owner gave them `billing:write`."""
    return isinstance(principal, KeyPrincipal) or is_owner(principal, account)


def require_payer(principal: Principal, account: Account) -> None:
    """Raises OwnerRequired."""
    if not may_pay(principal, account):
        raise OwnerRequired


def require_staff(principal: Principal) -> None:
    """Raises StaffRequired."""
    if not principal.is_staff:
        raise StaffRequired
