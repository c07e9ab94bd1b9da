"""The test clock: with `NTD_TEST_CLOCK=1` (needs DEBUG) `timezone.now()` is shifted in every process.

The shift lives in Redis, so web, workers and the schedule agree. Code takes the time from
`django.utils.timezone.now` through the module, at a door, and passes it on.
"""

from __future__ import annotations

import logging
import time
from datetime import UTC, datetime, timedelta

import redis
from django.conf import settings
from django.utils import timezone

KEY = "ntd:test-clock-seconds"
REREAD_SECONDS = 0.05
# Two who move it at once must not add up: the shift becomes the larger of the two.
RAISE = """
if tonumber(redis.call('GET', KEYS[1]) or 0) > tonumber(ARGV[1]) then return 0 end
redis.call('SET', KEYS[1], ARGV[1])
return 1
"""
log = logging.getLogger(__name__)


class GoesBack(Exception):
    """Raised when the test clock is asked to go back."""

    code = "conflict"

    def __init__(self) -> None:
        super().__init__("The test clock only goes forward.")


class _Shift:
    def __init__(self, url: str) -> None:
        self._redis = redis.Redis.from_url(url)
        self._raise = self._redis.register_script(RAISE)
        self._seconds = 0.0
        self._read_at = 0.0

    def seconds(self) -> float:
        # A little stale is fine: asking Redis on every `now()` would be most of a request's work.
        if time.monotonic() - self._read_at > REREAD_SECONDS:
            self._read_at = time.monotonic()
            try:
                self._seconds = float(self._redis.get(KEY) or 0)
            except redis.RedisError as error:
                log.warning("the test clock keeps its last shift: %s", error)
        return self._seconds

    def raise_to(self, seconds: float) -> None:
        if not self._raise(keys=[KEY], args=[repr(seconds)]):
            raise GoesBack
        self._read_at = 0.0

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


def is_on() -> bool:
    return _shift is not None and bool(settings.NTD_TEST_CLOCK and settings.DEBUG)


def move(*, to: datetime | None = None, seconds: float | None = None) -> datetime:
    """Advance to a moment or by seconds; raises GoesBack. Returns the new time."""
    if _shift is None or not is_on():
        raise RuntimeError("The test clock is off; set NTD_TEST_CLOCK=1 and DEBUG=1.")
    if to is not None:
        _shift.raise_to((to - datetime.now(UTC)).total_seconds())
    elif seconds is not None and seconds >= 0:
        _shift.add(seconds)
    else:
        raise GoesBack
    return timezone.now()
