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

__all__ = ["EDITING_ROLES", "Account", "AccountQuerySet", "ApiKey", "Membership", "Role", "User"]
