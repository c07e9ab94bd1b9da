"""Invitations to an account: sent, accepted, revoked.

open -> accepted
     -> revoked
(too old is no state: `expires_at` says it)
"""

from __future__ import annotations

import hashlib
import secrets
from datetime import datetime, timedelta

from django.conf import settings
from django.core.mail import send_mail
from django.db import IntegrityError, transaction
from django.urls import reverse

from billing import accounts
from billing.models import Account, Invitation, Membership, User

LIFETIME = timedelta(days=7)
MOST_OPEN = 200


class NoLongerOpen(Exception):
    """Raised when an invitation was accepted or revoked before, or is too old."""

    code = "gone"

    def __init__(self) -> None:
        super().__init__("This invitation no longer works. Ask an owner of the account for a new one.")


class TooManyInvitations(Exception):
    """Raised when an account has more open invitations than anyone needs."""

    code = "resource_limit_exceeded"
    extras = {"limit": MOST_OPEN}
    retry_after = 3600

    def __init__(self) -> None:
        super().__init__(f"This account has {MOST_OPEN} open invitations. Revoke some first.")


class MemberAlready(Exception):
    """Raised when the person to invite is a member."""

    code = "conflict"
    extras = {"state": "member"}

    def __init__(self, email: str) -> None:
        super().__init__(f"{email} is a member already. Change the role instead.")


def invite(*, account: Account, email: str, role: str, by: User | None, now: datetime) -> Membership | Invitation:
    """Bring a person in: somebody who has a login here becomes a member at once, anybody else gets a link by mail.

    An open invitation of the same address is replaced. Raises MemberAlready, TooManyInvitations.
    """
    email = email.strip().lower()
    if Membership.objects.filter(account=account, user__email=email).exists():
        raise MemberAlready(email)
    user = User.objects.filter(email=email, is_active=True).first()
    if user is None:
        return _invite_stranger(account=account, email=email, role=role, by=by, now=now)
    with transaction.atomic():
        _revoke_open(account=account, email=email, now=now)
        membership = _join(account=account, user=user, role=role)
        link = f"{settings.BASE_URL}{reverse('overview', args=[account])}"
        _mail(email, f"You are a member of {account.name}", f"You can act as {role} now:\n{link}\n")
    return membership


def _join(*, account: Account, user: User, role: str) -> Membership:
    try:
        with transaction.atomic():
            return Membership.objects.create(account=account, user=user, role=role)
    except IntegrityError as raced:
        raise MemberAlready(user.email) from raced


@transaction.atomic
def _invite_stranger(*, account: Account, email: str, role: str, by: User | None, now: datetime) -> Invitation:
    # One at a time per account, so that two invitations of one address replace each other and do not collide.
    Account.objects.select_for_update().get(pk=account.pk)
    _revoke_open(account=account, email=email, now=now)
    if account.invitations.open().filter(expires_at__gt=now).count() >= MOST_OPEN:
        raise TooManyInvitations
    token = secrets.token_urlsafe(32)
    invitation = Invitation.objects.create(
        account=account,
        email=email,
        role=role,
        digest=_digest(token),
        invited_by=by,
        created_at=now,
        expires_at=now + LIFETIME,
    )
    link = settings.BASE_URL + reverse("invitation", args=[token])
    who = f"{by} invites you" if by else "You are invited"
    _mail(email, f"Join {account.name}", f"{who} to {account.name} as {role}. Accept within 7 days:\n{link}\n")
    return invitation


def _revoke_open(*, account: Account, email: str, now: datetime) -> None:
    Invitation.objects.open().filter(account=account, email=email).update(revoked_at=now)


def _mail(email: str, subject: str, text: str) -> None:
    transaction.on_commit(lambda: send_mail(subject, text, None, [email]), robust=True)


def find(token: str, *, now: datetime) -> Invitation | None:
    """The invitation a link stands for, while it can be accepted."""
    open_ones = Invitation.objects.open().select_related("account", "invited_by")
    return open_ones.filter(digest=_digest(token), expires_at__gt=now).first()


@transaction.atomic
def accept(*, invitation: Invitation, user: User, now: datetime) -> Membership:
    """Join; a member keeps the role held. Raises NoLongerOpen."""
    _take(invitation, now=now)
    held = Membership.objects.filter(account=invitation.account_id, user=user).first()
    return held or accounts.add_member(account=invitation.account, user=user, role=invitation.role)


@transaction.atomic
def accept_as_new(*, invitation: Invitation, name: str, password: str, now: datetime) -> User:
    """Make a login for the invited address and join. Raises NoLongerOpen."""
    _take(invitation, now=now)
    user: User = User.objects.create_user(invitation.email, password, name=name)
    accounts.add_member(account=invitation.account, user=user, role=invitation.role)
    return user


def _take(invitation: Invitation, *, now: datetime) -> None:
    if not Invitation.objects.open().filter(pk=invitation.pk, expires_at__gt=now).update(accepted_at=now):
        raise NoLongerOpen


def revoke(*, invitation: Invitation, now: datetime) -> bool:
    """Withdraw an open invitation; False when it was not open any more."""
    return bool(Invitation.objects.open().filter(pk=invitation.pk).update(revoked_at=now))


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
