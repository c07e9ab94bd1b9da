"""Customers and who may act for them: accounts, users, memberships, invitations, API keys.

Everything a customer has points to an Account; rows reach a person or a key only through `visible_to`.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING, Any

from django.contrib.auth.models import AbstractBaseUser, BaseUserManager, PermissionsMixin
from django.db import models
from django.db.models import Q
from django.db.models.functions import Lower
from django.utils import timezone
from uuid_utils.compat import uuid7

from billing.periods import Cadence

if TYPE_CHECKING:
    from billing.keys import Principal


class Role(models.TextChoices):
    OWNER = "owner"
    OPERATOR = "operator"
    VIEWER = "viewer"


EDITING_ROLES = (Role.OWNER, Role.OPERATOR)


class UserManager(BaseUserManager["User"]):
    def create_user(self, email: str, password: str | None = None, **fields: Any) -> User:
        user = self.model(email=email.strip().lower(), **fields)
        user.set_password(password)
        user.save(using=self._db)
        return user

    def create_superuser(self, email: str, password: str | None = None, **fields: Any) -> User:
        return self.create_user(email, password, is_staff=True, is_superuser=True, **fields)


class User(AbstractBaseUser, PermissionsMixin):
    """A person who signs in with an e-mail address. Staff see every account and run the machines."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    email = models.EmailField(unique=True)
    name = models.CharField(max_length=120, blank=True)
    is_staff = models.BooleanField(default=False)
    is_active = models.BooleanField(default=True)
    time_zone = models.CharField(max_length=64, default="UTC")
    created_at = models.DateTimeField(default=timezone.now)

    objects = UserManager()
    USERNAME_FIELD = "email"
    EMAIL_FIELD = "email"

    class Meta:
        constraints = [models.CheckConstraint(condition=Q(email=Lower("email")), name="user_email_is_lower_case")]

    def __str__(self) -> str:
        return self.name or self.email

    def get_full_name(self) -> str:
        return self.name

    def membership_filter(self, *, roles: Iterable[str] | None = None) -> Q:
        """Which accounts this person belongs to, optionally only with one of the roles."""
        memberships = Membership.objects.filter(user=self)
        if roles is not None:
            memberships = memberships.filter(role__in=roles)
        return Q(pk__in=memberships.values("account"))

    def has_scope(self, scope: str) -> bool:
        """A signed-in person is limited by the role in the account, not by scopes; scaling is staff's."""
        return self.is_staff or not scope.startswith("scaling:")


class AccountQuerySet(models.QuerySet["Account"]):
    def visible_to(self, principal: Principal) -> AccountQuerySet:
        if not principal.is_authenticated:
            return self.none()
        if principal.is_staff:
            return self
        return self.filter(principal.membership_filter())

    def editable_by(self, principal: Principal) -> AccountQuerySet:
        if not principal.is_authenticated:
            return self.none()
        if principal.is_staff:
            return self
        return self.filter(principal.membership_filter(roles=EDITING_ROLES))

    def owned_by(self, principal: Principal) -> AccountQuerySet:
        if not principal.is_authenticated:
            return self.none()
        if principal.is_staff:
            return self
        return self.filter(principal.membership_filter(roles=(Role.OWNER,)))


class Account(models.Model):
    """A customer: what owns federations, sandboxes and credits."""

    class Status(models.TextChoices):
        ACTIVE = "active"
        SUSPENDED = "suspended"
        CLOSED = "closed"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    name = models.CharField(max_length=120)
    slug = models.SlugField(max_length=60, unique=True)
    status = models.CharField(max_length=10, choices=Status.choices, default=Status.ACTIVE)
    # Dunning suspended it, and lets it go on when it has paid; staff's own word is not touched.
    suspended_for_debt = models.BooleanField(default=False, db_default=False)
    time_zone = models.CharField(max_length=64, default="UTC")
    currency = models.CharField(max_length=3, default="EUR")
    locale = models.CharField(max_length=16, default="en")
    legal_name = models.CharField(max_length=200, blank=True)
    address = models.TextField(blank=True)
    tax_id = models.CharField(max_length=40, blank=True)
    # A fraction: 0.19 is 19 %.
    tax_rate = models.DecimalField(max_digits=5, decimal_places=4, default=0)
    # The customer owes the tax where it is: invoices carry none, and say why.
    reverse_charge = models.BooleanField(default=False)
    billing_period = models.CharField(
        max_length=13, choices=[(cadence.value, cadence.value) for cadence in Cadence], default=Cadence.MONTHLY
    )
    created_at = models.DateTimeField(default=timezone.now)
    version = models.PositiveIntegerField(default=1)

    objects = AccountQuerySet.as_manager()

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(status__in=["active", "suspended", "closed"]), name="account_status"),
            models.CheckConstraint(
                condition=Q(suspended_for_debt=False) | Q(status="suspended"), name="account_in_debt_is_suspended"
            ),
            models.CheckConstraint(
                condition=Q(tax_rate__gte=0, tax_rate__lte=1), name="account_tax_rate_is_a_fraction"
            ),
            models.CheckConstraint(
                condition=Q(reverse_charge=False) | (Q(tax_rate=0) & ~Q(tax_id="")),
                name="account_reverse_charge_has_a_tax_id_and_no_tax",
            ),
        ]

    def __str__(self) -> str:
        return self.name


class MembershipQuerySet(models.QuerySet["Membership"]):
    def visible_to(self, principal: Principal) -> MembershipQuerySet:
        return self.filter(account__in=Account.objects.visible_to(principal))


class Membership(models.Model):
    """A person's role in an account."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    account = models.ForeignKey(Account, on_delete=models.CASCADE, related_name="memberships")
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="memberships")
    role = models.CharField(max_length=10, choices=Role.choices)
    created_at = models.DateTimeField(default=timezone.now)

    objects = MembershipQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["account", "user"], name="one_membership_per_person_and_account"),
            models.CheckConstraint(condition=Q(role__in=Role.values), name="membership_role"),
        ]

    def __str__(self) -> str:
        return f"{self.user} in {self.account} ({self.role})"


class ApiKeyQuerySet(models.QuerySet["ApiKey"]):
    def visible_to(self, principal: Principal) -> ApiKeyQuerySet:
        return self.filter(account__in=Account.objects.visible_to(principal))

    def alive(self, now: datetime) -> ApiKeyQuerySet:
        """Neither revoked nor expired."""
        return self.filter(Q(expires_at=None) | Q(expires_at__gt=now), revoked_at=None)


class ApiKey(models.Model):
    """A key of an account. Only its SHA-256 is stored: the key has 256 random bits, so no slow hash is needed."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    account = models.ForeignKey(Account, on_delete=models.CASCADE, related_name="api_keys")
    name = models.CharField(max_length=120)
    digest = models.CharField(max_length=64, unique=True)
    hint = models.CharField(max_length=16)
    scopes = models.JSONField(default=list)
    is_staff = models.BooleanField(default=False)
    rate_limit_per_minute = models.PositiveIntegerField(null=True, blank=True)
    created_by = models.ForeignKey(User, on_delete=models.SET_NULL, null=True, related_name="+")
    created_at = models.DateTimeField(default=timezone.now)
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, blank=True)

    objects = ApiKeyQuerySet.as_manager()

    def __str__(self) -> str:
        return f"{self.name} ({self.hint})"
