"""What billing remembers, one file per noun."""

from billing.models.customers import (
    EDITING_ROLES,
    Account,
    AccountQuerySet,
    ApiKey,
    Membership,
    Role,
    User,
)
from billing.models.idempotency import IdempotencyRecord
from billing.models.invitations import Invitation

__all__ = [
    "EDITING_ROLES",
    "Account",
    "AccountQuerySet",
    "ApiKey",
    "IdempotencyRecord",
    "Invitation",
    "Membership",
    "Role",
    "User",
]
