"""Too many failed sign-ins of one e-mail address from one place lock that pair out for a while."""

from __future__ import annotations

import hashlib

from django.core.cache import cache

MOST_FAILURES = 5
FORGOTTEN_AFTER_SECONDS = 15 * 60


class TooManyFailures(Exception):
    """Raised instead of looking at a password again."""

    code = "rate_limited"
    retry_after = FORGOTTEN_AFTER_SECONDS

    def __init__(self) -> None:
        minutes = FORGOTTEN_AFTER_SECONDS // 60
        super().__init__(
            f"Too many failed attempts. Wait {minutes} minutes and try again, or reset your password meanwhile."
        )


def check(*, email: str, address: str) -> None:
    """Raises TooManyFailures once the pair has used up its attempts."""
    if int(cache.get(_key(email, address)) or 0) >= MOST_FAILURES:
        raise TooManyFailures


def failed(*, email: str, address: str) -> None:
    key = _key(email, address)
    cache.add(key, 0, FORGOTTEN_AFTER_SECONDS)
    try:
        cache.incr(key)
    except ValueError:  # it ran out between the two lines
        cache.set(key, 1, FORGOTTEN_AFTER_SECONDS)
    cache.touch(key, FORGOTTEN_AFTER_SECONDS)


def succeeded(*, email: str, address: str) -> None:
    cache.delete(_key(email, address))


def _key(email: str, address: str) -> str:
    return "sign-in-failures:" + hashlib.sha256(f"{email.strip().lower()} {address}".encode()).hexdigest()
