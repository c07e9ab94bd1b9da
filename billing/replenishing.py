"""Pure. Whether an account buys credits by itself now, and why not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

# After a payment that failed, twice as long after each that fails in a row: banks mind a card that is tried all day.
PAUSE = timedelta(hours=1)
LONGEST_PAUSE = timedelta(hours=24)
# The owner has to do something first: the bank's being asked anew helps nobody.
NEEDS_THE_OWNER = ("authentication_required",)
# More than this looks like a loop, not like work.
MOST = 3
WITHIN = timedelta(minutes=10)


@dataclass(frozen=True)
class Facts:
    available_ucr: int
    threshold_ucr: int
    is_active: bool
    # Another automatic payment whose outcome is open.
    is_open: bool
    paused_until: datetime | None
    # When the latest automatic payments were made.
    made_at: Sequence[datetime]


@dataclass(frozen=True)
class Decision:
    buys: bool
    reason: str


def pause(failed_in_a_row: int, failure_code: str = "") -> timedelta:
    """How long to wait after so many failures, the last one for this: 1 h, 2 h, 4 h .. a day."""
    if failure_code in NEEDS_THE_OWNER:
        return LONGEST_PAUSE
    doubled: int = 2 ** min(failed_in_a_row - 1, 5)
    return min(LONGEST_PAUSE, PAUSE * doubled)


def decide(facts: Facts, *, now: datetime) -> Decision:
    if facts.available_ucr >= facts.threshold_ucr:
        return Decision(False, "enough is left")
    if not facts.is_active:
        return Decision(False, "the account is not active")
    if facts.is_open:
        return Decision(False, "the outcome of the last one is open")
    if facts.paused_until is not None and now < facts.paused_until:
        return Decision(False, "it is paused since the last one failed")
    if sum(1 for made_at in facts.made_at if now - made_at < WITHIN) >= MOST:
        return Decision(False, f"there were {MOST} in ten minutes")
    return Decision(True, "few credits are left")
