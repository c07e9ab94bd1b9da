"""Accounts and their members: opened, joined, changed, left."""

from __future__ import annotations

from django.conf import settings
from django.db import IntegrityError, transaction
from django.urls import reverse
from django.utils.encoding import force_bytes
from django.utils.http import urlsafe_base64_encode
from django.utils.text import slugify

from billing import alerts, sign_in, signup
from billing.models import Account, Membership, Role, User


class LastOwner(Exception):
    """Raised when an account would be left without an owner."""

    code = "conflict"
    extras = {"state": "last_owner"}

    def __init__(self) -> None:
        super().__init__("An account needs an owner. Make somebody else an owner first.")


@transaction.atomic
def open_account(*, name: str, owner: User | None = None, credits: int | None = None) -> Account:
    """Open an account under a free slug made from its name, with its sign-up credits."""
    account = _create(name)
    if owner is not None:
        add_member(account=account, user=owner, role=Role.OWNER)
    signup.give_credits(account=account, credits=credits)
    alerts.watch_balance(account=account, threshold_ucr=alerts.USUAL_LOW_UCR)
    return account


def _create(name: str) -> Account:
    """Two who open accounts of one name at once get different slugs."""
    for _ in range(10):
        try:
            with transaction.atomic():
                return Account.objects.create(name=name, slug=_free_slug(name))
        except IntegrityError:
            continue
    raise RuntimeError(f"no free slug for {name!r}")


def _free_slug(name: str) -> str:
    stem = slugify(name)[:50].strip("-") or "account"
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
        membership = Membership.objects.select_related("account").get(account=account, user=user)
        return change_role(membership=membership, role=role)


@transaction.atomic
def change_role(*, membership: Membership, role: str) -> Membership:
    """Raises LastOwner."""
    if role != Role.OWNER:
        _require_another_owner(membership)
    membership.role = role
    membership.save(update_fields=["role"])
    return membership


@transaction.atomic
def remove_member(*, membership: Membership) -> None:
    """Ends a membership; the person's keys of the account stay, since they are the account's. Raises LastOwner."""
    _require_another_owner(membership)
    Membership.objects.filter(pk=membership.pk).delete()


def _require_another_owner(membership: Membership) -> None:
    # The lock makes two owners who leave at once take turns, so one of them stays.
    Account.objects.select_for_update().get(pk=membership.account_id)
    owners = Membership.objects.filter(account=membership.account_id, role=Role.OWNER)
    if owners.filter(pk=membership.pk).exists() and not owners.exclude(pk=membership.pk).exists():
        raise LastOwner


def sign_in_url(user: User) -> str:
    """A link that signs the person in once, within a day."""
    uidb64 = urlsafe_base64_encode(force_bytes(user.pk))
    return settings.BASE_URL + reverse("sign-in", args=[uidb64, sign_in.tokens.make_token(user)])
