"""API keys: made, checked, revoked; and what a request is acting as (a principal)."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Protocol
from uuid import UUID

from django.db.models import Q

from billing import rows
from billing.models import EDITING_ROLES, Account, ApiKey, User

AREAS = ("sandboxes", "federation", "billing", "scaling", "account")
SCOPES = tuple(f"{area}:{act}" for area in AREAS for act in ("read", "write"))
PREFIX = "ntd_"
E2B_PREFIX = "e2b_"
# `last_used_at` is for people; a write on every call would cost more than the call.
LAST_USED_STEP = timedelta(minutes=1)
# Every call of the API begins with it, and to compile the query takes the ORM longer than to run it.
ALIVE = "select (found.key).*, (found.account).* from billing_alive_key(%s, %s) found"


class UnknownScope(Exception):
    """Raised when a key is asked for with a scope that does not exist."""

    code = "validation_error"

    @property
    def extras(self) -> dict[str, object]:
        return {"errors": {"scopes": [str(self)]}}


class ScopeBeyondOwn(Exception):
    """Raised when a key would make a key with more scopes than its own."""

    code = "missing_scope"


class Principal(Protocol):
    """Whom a request acts as: a User or a KeyPrincipal."""

    is_staff: bool

    @property
    def is_authenticated(self) -> bool: ...
    def membership_filter(self, *, roles: Iterable[str] | None = None) -> Q: ...
    def has_scope(self, scope: str) -> bool: ...


class KeyPrincipal:
    """An API key acting: it sees its own account, with its scopes; a staff key sees every account."""

    is_authenticated = True
    is_active = True
    is_anonymous = False

    def __init__(self, key: ApiKey) -> None:
        self.key = key
        self.pk: UUID = key.pk
        self.account_id: UUID = key.account_id
        self.is_staff = key.is_staff

    def __str__(self) -> str:
        return f"API key {self.key.name}"

    def membership_filter(self, *, roles: Iterable[str] | None = None) -> Q:
        """A key acts as an operator of its account; owners' acts need the `account:write` scope."""
        allowed = roles is None or bool(set(roles) & set(EDITING_ROLES[1:])) or self.has_scope("account:write")
        return Q(pk=self.account_id) if allowed else Q(pk__in=[])

    def has_scope(self, scope: str) -> bool:
        """Write implies read of its area."""
        area, _, act = scope.partition(":")
        return scope in self.key.scopes or (act == "read" and f"{area}:write" in self.key.scopes)


def create(
    *,
    account: Account,
    name: str,
    scopes: Iterable[str],
    by: User | KeyPrincipal | None,
    now: datetime,
    expires_at: datetime | None = None,
    is_staff: bool = False,
    prefix: str = PREFIX,
) -> tuple[ApiKey, str]:
    """Make a key; the second value is the secret, which cannot be had again."""
    wanted = sorted(set(scopes))
    _check_scopes(wanted, by=by, is_staff=is_staff)
    # E2B's client libraries look at the form of a key: hexadecimal behind the prefix.
    secret = prefix + (secrets.token_hex(32) if prefix == E2B_PREFIX else secrets.token_urlsafe(32))
    key = ApiKey.objects.create(
        account=account,
        name=name,
        digest=digest(secret),
        hint=f"{prefix}…{secret[-4:]}",
        scopes=wanted,
        is_staff=is_staff,
        created_by=by if isinstance(by, User) else None,
        created_at=now,
        expires_at=expires_at,
    )
    return key, secret


def _check_scopes(wanted: list[str], *, by: User | KeyPrincipal | None, is_staff: bool) -> None:
    unknown = [scope for scope in wanted if scope not in SCOPES]
    if unknown:
        raise UnknownScope(f"Unknown scopes: {', '.join(unknown)}. Known are: {', '.join(SCOPES)}.")
    if by is None:
        return
    beyond = [scope for scope in wanted if not by.has_scope(scope)]
    if beyond:
        raise ScopeBeyondOwn(f"Nobody can give scopes they do not have: {', '.join(beyond)}.")
    if is_staff and not by.is_staff:
        raise ScopeBeyondOwn("Only staff make a staff key.")


def digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def authenticate(secret: str, *, now: datetime) -> KeyPrincipal | None:
    """Whom the secret stands for, or None when it is unknown, revoked or expired, or its account closed."""
    key = _found(digest(secret), now)
    if key is None or key.account.status == Account.Status.CLOSED:
        return None
    if key.last_used_at is None or now - key.last_used_at > LAST_USED_STEP:
        ApiKey.objects.filter(pk=key.pk).update(last_used_at=now)
    return KeyPrincipal(key)


def _found(hashed: str, now: datetime) -> ApiKey | None:
    """The key that is neither revoked nor expired, with its account."""
    both = rows.pair(ALIVE, [hashed, now], ApiKey, Account)
    if both is None:
        return None
    key: ApiKey = both[0]
    key.account = both[1]
    return key


def revoke(*, key: ApiKey, now: datetime) -> bool:
    """End a key at once; False when it was ended before."""
    return bool(ApiKey.objects.filter(pk=key.pk, revoked_at=None).update(revoked_at=now))
