"""`manage.py create_account NAME --email E`: an account with a member, a sign-in link and keys. Asks nothing."""

from __future__ import annotations

import json
import os
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.core.validators import validate_email
from django.db import transaction
from django.utils import timezone

from billing import accounts, keys
from billing.models import Account, ApiKey, Membership, Role, User
from ntd_site import running

KEY_NAME = "create_account"


class Command(BaseCommand):
    help = (
        "Make an account with its first member, or add a member to the account of that name. Run again, it changes "
        "nothing but prints a fresh sign-in link and fresh keys, since old ones cannot be shown again."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", metavar="NAME", help="name or slug of the account")
        parser.add_argument("--email", required=True, help="the member's e-mail address")
        parser.add_argument("--role", choices=Role.values, help="owner unless said; a member keeps the role held")
        parser.add_argument("--staff", action="store_true", help="the member runs the machines and sees every account")
        parser.add_argument("--credits", type=int, help="credits of a new account instead of DEFAULT_CREDITS")
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *args: Any, **options: Any) -> None:
        made = create(
            name=_checked_name(options["name"]),
            email=_checked_email(options["email"]),
            role=options["role"],
            staff=options["staff"],
            credits=_checked_credits(options["credits"]),
        )
        if options["json"]:
            self.stdout.write(json.dumps(made))
            return
        for name, value in made.items():
            self.stdout.write(f"{name:<14}{value}")


def _checked_name(text: str) -> str:
    name = text.strip()
    if not name or len(name) > 120:
        raise CommandError("NAME must have 1 to 120 characters.")
    return name


def _checked_email(text: str) -> str:
    email = text.strip().lower()
    try:
        validate_email(email)
    except ValidationError as wrong:
        raise CommandError(f"{text} is no e-mail address.") from wrong
    return email


def _checked_credits(credits: int | None) -> int | None:
    if credits is not None and credits < 0:
        raise CommandError("--credits must not be negative.")
    return credits


def _here(link: str) -> str:
    """At the product that is up in this home, which may have been given a port of its own."""
    status = None if "NTD_BASE_URL" in os.environ else running.read(settings.PLACE)
    return status["url"] + link.removeprefix(settings.BASE_URL) if status else link


@transaction.atomic
def create(*, name: str, email: str, role: str | None, staff: bool, credits: int | None) -> dict[str, str]:
    user = _user(email, staff=staff)
    account = _account(name) or accounts.open_account(name=name, credits=credits)
    _membership(account, user, role)
    api_key, e2b_key = _keys(account, user)
    return {
        "account": str(account.pk),
        "email": user.email,
        "sign_in_url": _here(accounts.sign_in_url(user)),
        "api_key": api_key,
        "e2b_api_key": e2b_key,
    }


def _user(email: str, *, staff: bool) -> User:
    user: User | None = User.objects.filter(email=email).first()
    if user is None:
        user = User.objects.create_user(email, name=email.partition("@")[0])
    if staff and not (user.is_staff and user.is_superuser):
        user.is_staff = user.is_superuser = True
        user.save(update_fields=["is_staff", "is_superuser"])
    return user


def _account(name: str) -> Account | None:
    by_name = Account.objects.filter(name=name).order_by("created_at", "pk").first()
    return by_name or Account.objects.filter(slug=name).first()


def _membership(account: Account, user: User, role: str | None) -> None:
    held = Membership.objects.filter(account=account, user=user).exists()
    if role or not held:
        try:
            accounts.add_member(account=account, user=user, role=role or Role.OWNER)
        except accounts.LastOwner as refused:
            raise CommandError(str(refused)) from refused


def _keys(account: Account, user: User) -> tuple[str, str]:
    now = timezone.now()
    said = {"account": account, "name": KEY_NAME, "scopes": keys.SCOPES, "now": now, "is_staff": user.is_staff}
    made = [keys.create(by=None, prefix=prefix, **said) for prefix in (keys.PREFIX, keys.E2B_PREFIX)]
    ApiKey.objects.filter(pk__in=[key.pk for key, _ in made]).update(created_by=user)
    return made[0][1], made[1][1]
