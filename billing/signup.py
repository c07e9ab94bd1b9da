"""The credits an account starts with: once in its life."""

from __future__ import annotations

from django.conf import settings
from django.utils import timezone

from billing import amounts, ledger
from billing.models import Account, Grant


def give_credits(*, account: Account, credits: int | None = None) -> None:
    """Open the wallet and put the sign-up grant in it (DEFAULT_CREDITS unless told; zero gives none)."""
    ledger.open_wallet(account.pk)
    amount = settings.DEFAULT_CREDITS if credits is None else credits
    if not amount or Grant.objects.filter(account=account, category=Grant.Category.SIGNUP).exists():
        return
    ledger.grant(
        account_id=account.pk,
        amount_ucr=amount * amounts.UCR,
        category=Grant.Category.SIGNUP,
        key="signup",
        source="accounts",
        now=timezone.now(),
        reason="Credits to start with",
    )
