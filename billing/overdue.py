"""Pure. The steps of dunning: reminders after an invoice's due date, and with the last of them the account stops."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

# Days after the due date.
STEPS = (0, 3, 7, 14)
SUSPENDS = STEPS[-1]


def reached(due_at: datetime, *, now: datetime, done: Collection[int] = ()) -> list[int]:
    """Steps whose day has come and that were not made, the earliest first."""
    return [days for days in STEPS if days not in done and now >= due_at + timedelta(days=days)]


@dataclass(frozen=True)
class Reminder:
    """One step: when it is to be sent, when it was, and whether the account stops with it."""

    days: int
    at: datetime
    sent_at: datetime | None

    @property
    def suspends(self) -> bool:
        return self.days == SUSPENDS


def plan(due_at: datetime, *, sent: Mapping[int, datetime], is_open: bool) -> list[Reminder]:
    """Every step that was made (days -> when), and of an open invoice those to come, the earliest first."""
    steps = [days for days in sorted({*STEPS, *sent}) if is_open or days in sent]
    return [Reminder(days, due_at + timedelta(days=days), sent.get(days)) for days in steps]
