"""Accounts and their members: opened, joined."""

from __future__ import annotations

from django.conf import settings
from django.db import IntegrityError, transaction
from django.utils import timezone
from django.utils.text import slugify

from billing import amounts, ledger
from billing.models import Account, Grant, Membership, Role, User


@transaction.atomic
def open_account(*, name: str, owner: User | None = None, credits: int | None = None) -> Account:
    """Open an account under a free slug made from its name, with its sign-up credits (DEFAULT_CREDITS)."""
    account = Account.objects.create(name=name, slug=_free_slug(name))
    if owner is not None:
        add_member(account=account, user=owner, role=Role.OWNER)
    give_signup_credits(account=account, credits=settings.DEFAULT_CREDITS if credits is None else credits)
    return account


def give_signup_credits(*, account: Account, credits: int) -> None:
    """Once in an account's life; zero credits give none."""
    ledger.open_wallet(account.pk)
    if not credits or Grant.objects.filter(account=account, category=Grant.Category.SIGNUP).exists():
        return
    ledger.grant(
        account_id=account.pk,
        amount_ucr=credits * amounts.UCR,
        category=Grant.Category.SIGNUP,
        key="signup",
        source="accounts",
        now=timezone.now(),
        reason="Credits to start with",
    )


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
