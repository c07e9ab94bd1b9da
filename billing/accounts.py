"""Accounts and their members: opened, joined."""

from __future__ import annotations

from django.db import IntegrityError, transaction
from django.utils.text import slugify

from billing import signup
from billing.models import Account, Membership, Role, User


@transaction.atomic
def open_account(*, name: str, owner: User | None = None, credits: int | None = None) -> Account:
    """Open an account under a free slug made from its name, with its sign-up credits."""
    account = Account.objects.create(name=name, slug=_free_slug(name))
    if owner is not None:
        add_member(account=account, user=owner, role=Role.OWNER)
    signup.give_credits(account=account, credits=credits)
    return account


def _free_slug(name: str) -> str:
    stem = slugify(name)[:50] or "account"
    taken = set(Account.objects.filter(slug__startswith=stem).values_list("slug", flat=True))
    if stem not in taken:
        return stem
    return next(slug for number in range(2, 100_000) if (slug := f"{stem}-{number}") not in taken)


def add_member(*, account: Account, user: User, role: str) -> Membership:
    """Give a person a role; a person who is a member already keeps the membership and gets the role."""
    try:
        with transaction.atomic():
            return Membership.objects.create(account=account, user=user, role=role)
    except IntegrityError:
        membership = Membership.objects.get(account=account, user=user)
        membership.role = role
        membership.save(update_fields=["role"])
        return membership
