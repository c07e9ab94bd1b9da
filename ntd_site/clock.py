"""The test clock: with `NTD_TEST_CLOCK=1` (needs DEBUG) `timezone.now()` is shifted in every process.

The shift lives in Redis, so web, workers and the schedule agree. Code takes the time from
`django.utils.timezone.now` through the module, at a door, and passes it on.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import redis
from django.conf import settings
from django.utils import timezone

KEY = "ntd:test-clock-seconds"
REREAD_SECONDS = 0.05


class GoesBack(Exception):
    """Raised when the test clock is asked to go back."""

    code = "conflict"

    def __init__(self) -> None:
        super().__init__("The test clock only goes forward.")


class _Shift:
    def __init__(self, url: str) -> None:
        self._redis = redis.Redis.from_url(url)
        self._seconds = 0.0
        self._read_at = 0.0

    def seconds(self) -> float:
        if time.monotonic() - self._read_at > REREAD_SECONDS:
            self._seconds = float(self._redis.get(KEY) or 0)
            self._read_at = time.monotonic()
        return self._seconds

    def add(self, seconds: float) -> None:
        self._redis.incrbyfloat(KEY, seconds)
        self._read_at = 0.0


_shift: _Shift | None = None


def install() -> None:
    """This will make `timezone.now` the shifted clock, once, when the setting asks for it."""
    global _shift
    if not (settings.NTD_TEST_CLOCK and settings.DEBUG) or _shift is not None:
        return
    _shift = shift = _Shift(settings.REDIS_URL)
    timezone.now = lambda: datetime.now(UTC) + timedelta(seconds=shift.seconds())


def move(*, to: datetime | None = None, seconds: float | None = None) -> datetime:
    """Advance to a moment or by seconds; raises GoesBack. Returns the new time."""
    if _shift is None:
        raise RuntimeError("The test clock is off; set NTD_TEST_CLOCK=1 and DEBUG=1.")
    step = (to - timezone.now()).total_seconds() if to is not None else float(seconds or 0)
    if step < 0:
        raise GoesBack
    _shift.add(step)
    return timezone.now()
