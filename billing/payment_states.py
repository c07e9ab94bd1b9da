"""Pure. The states of payments and refunds: what a gateway's word changes, when to ask again, what is taken back.

    created -> unknown -> requires_action -> processing -> failed | cancelled -> succeeded

Words come late, twice and in any order, so a state only ever moves to the right, skipping any. Even a payment that
failed succeeds when the gateway says that it took the money after all: the customer paid, and gets the credits.
Only a bank transfer whose line was matched wrongly goes back, from succeeded to processing (bank_undoing.py).
`unknown` is ours alone: the request was sent and its answer lost, so nobody may assume either.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum
from fractions import Fraction

from billing import amounts


class State(StrEnum):
    CREATED = "created"
    UNKNOWN = "unknown"
    REQUIRES_ACTION = "requires_action"
    PROCESSING = "processing"
    FAILED = "failed"
    CANCELLED = "cancelled"
    SUCCEEDED = "succeeded"


class RefundState(StrEnum):
    CREATED = "created"
    UNKNOWN = "unknown"
    PROCESSING = "processing"
    FAILED = "failed"
    SUCCEEDED = "succeeded"


LIVE = (State.CREATED, State.UNKNOWN, State.REQUIRES_ACTION, State.PROCESSING)
FINAL = (State.FAILED, State.CANCELLED, State.SUCCEEDED)
REFUND_LIVE = (RefundState.CREATED, RefundState.UNKNOWN, RefundState.PROCESSING)
RANK = {
    State.CREATED: 0,
    State.UNKNOWN: 1,
    State.REQUIRES_ACTION: 2,
    State.PROCESSING: 3,
    State.FAILED: 4,
    State.CANCELLED: 4,
    State.SUCCEEDED: 5,
}
# A request has been given up by then (gateways.DEADLINE_SECONDS), so whoever sent it has its answer or is dead.
SENT_BY = timedelta(seconds=30)
FIRST_ASK = timedelta(seconds=5)
LONGEST_ASK = timedelta(hours=1)
# A gateway that has never heard of a payment for so long will not hear of it any more.
NEVER_ARRIVED = timedelta(minutes=10)
# Nobody comes back to confirm after this long.
ACTION_LAPSES = timedelta(hours=24)


def moves(current: str, said: str) -> bool:
    """Whether what a gateway says changes a payment."""
    return RANK[State(said)] > RANK[State(current)]


def refund_moves(current: str, said: str) -> bool:
    """A refund's final states stay: the credits were given back, or the money was."""
    order = list(RefundState)
    return current in REFUND_LIVE and order.index(RefundState(said)) > order.index(RefundState(current))


def ask_after(times: int) -> timedelta:
    """How long to wait after asking so many times: 5 s, 10 s, 20 s .. an hour."""
    doubled: timedelta = FIRST_ASK * 2 ** min(times, 12)
    return min(doubled, LONGEST_ASK)


def never_arrived(*, created_at: datetime, now: datetime) -> bool:
    return now - created_at >= NEVER_ARRIVED


def action_lapsed(*, created_at: datetime, now: datetime) -> bool:
    return now - created_at >= ACTION_LAPSES


def credits_back(*, credits_ucr: int, captured: int, refunded: int, taken_ucr: int) -> int:
    """What a refund takes back: with it `refunded` of the money is back, and before it `taken_ucr` of the credits were.

    In proportion, and in all exactly what was bought.
    """
    return max(0, amounts.half_even(Fraction(credits_ucr) * refunded / captured) - taken_ucr)
