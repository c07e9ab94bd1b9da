"""What an empty installation gets: the first operator, a demo account, the sample federation."""

from __future__ import annotations

from typing import Any

from django.utils import timezone

from billing import accounts
from billing.models import Account, User
from federation import showcase

EMAIL = "operator@localhost"


def ensure(*, sample: bool) -> dict[str, Any]:
    """Make what is missing; returns who signs in and the one-time link."""
    first = User.objects.filter(is_staff=True).order_by("created_at").first()
    if first is None:
        first = User.objects.create_user(EMAIL, None, name="Operator", is_staff=True, is_superuser=True)
    if not Account.objects.exists():
        account = accounts.open_account(name="Demo", owner=first)
        if sample:
            showcase.load(account=account, now=timezone.now())
    return {"email": first.email, "sign_in_url": accounts.sign_in_url(first)}
