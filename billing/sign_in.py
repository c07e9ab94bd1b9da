"""One-time sign-in links: the token dies with its first use and after `settings.PASSWORD_RESET_TIMEOUT`."""

from __future__ import annotations

from datetime import datetime

from django.contrib.auth.tokens import PasswordResetTokenGenerator
from django.core.exceptions import ValidationError
from django.utils import timezone
from django.utils.http import urlsafe_base64_decode

from billing.models import User


class SignInTokens(PasswordResetTokenGenerator):
    """Signed over the last sign-in, so the sign-in it grants ends it; no row is needed."""

    key_salt = "billing.sign_in"

    def _make_hash_value(self, user: User, timestamp: int) -> str:
        # With microseconds, unlike Django's: two uses within one second must not both work.
        last = user.last_login.isoformat() if user.last_login else ""
        return f"{user.pk}{user.password}{last}{timestamp}{user.email}{user.is_active}"

    def _now(self) -> datetime:
        return timezone.now().replace(tzinfo=None)


tokens = SignInTokens()


def redeem(*, uidb64: str, token: str, now: datetime) -> User | None:
    """The person the link signs in, once; None when it is wrong, used or too old."""
    user = _user_of(uidb64)
    if user is None or not tokens.check_token(user, token):
        return None
    # Of two who open the link at the same moment the second updates no row.
    won = User.objects.filter(pk=user.pk, last_login=user.last_login, is_active=True).update(last_login=now)
    user.last_login = now
    return user if won else None


def _user_of(uidb64: str) -> User | None:
    try:
        return User.objects.filter(pk=urlsafe_base64_decode(uidb64).decode(), is_active=True).first()
    except (ValueError, ValidationError):
        return None
