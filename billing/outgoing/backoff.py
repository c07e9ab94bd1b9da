"""Pure. When a delivery that failed is tried again, and when an endpoint has failed for so long that it is given up.

The waits are those of the Standard Webhooks: ten attempts over three days, each a little off so that endpoints that
failed together are not all tried at one moment. A receiver that says when (`Retry-After`) is waited for, within limits.
"""

from __future__ import annotations

from datetime import datetime, timedelta

WAITS = tuple(timedelta(seconds=seconds) for seconds in (5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400))
MOST_ATTEMPTS = len(WAITS) + 1
JITTER = 0.1
LONGEST_WAIT = timedelta(days=1)
# The whole way of one delivery is a little longer, so one that stays away loses one event before it is switched off.
FAILING_FOR = timedelta(days=3)
GONE = 410
BUSY = (429, 503)


def next_wait(attempts: int, *, chance: float, retry_after: float | None = None) -> timedelta | None:
    """How long to wait after so many attempts; None when it was the last. `chance` is 0..1, `retry_after` seconds."""
    if attempts >= MOST_ATTEMPTS:
        return None
    wait = WAITS[max(0, attempts - 1)] * (1 + JITTER * (2 * chance - 1))
    asked = timedelta(seconds=min(retry_after or 0, LONGEST_WAIT.total_seconds()))
    return max(wait, asked)


def is_success(status: int | None) -> bool:
    return status is not None and 200 <= status < 300


def has_failed_for_days(failing_since: datetime, *, now: datetime) -> bool:
    return now - failing_since >= FAILING_FOR


def retry_after(status: int | None, said: str) -> float | None:
    """The seconds that a busy receiver asks for; dates are not understood, and count as nothing said."""
    if status not in BUSY or not (said.isascii() and said.isdecimal()) or len(said) > 9:
        return None
    return float(said)
