"""Pure. The steps of dunning: reminders after an invoice's due date, and with the last of them the account stops."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta

# Days after the due date.
STEPS = (0, 3, 7, 14)
SUSPENDS = STEPS[-1]


def reached(due_at: datetime, *, now: datetime, done: Collection[int] = ()) -> list[int]:
    """Steps whose day has come and that were not made, the earliest first."""
    return [days for days in STEPS if days not in done and now >= due_at + timedelta(days=days)]
