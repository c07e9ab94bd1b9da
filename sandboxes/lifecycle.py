"""Pure. The states of an execution and of a sandbox, and the moves between them.

queued -> starting -> running -> succeeded | failed | timed_out | cancelled
   ^         |           |
   +---------+-----------+   its sandbox was lost: again on a fresh one, up to MOST_ATTEMPTS times

creating -> ready -> reserved -> running -> gone      a sandbox serves one execution
creating -> ready <-> running                         unless it is a customer's own, which is kept until it ends:
    |         |          |
  failed    gone       failed, gone
"""

from __future__ import annotations

from datetime import datetime, timedelta

QUEUED = "queued"
STARTING = "starting"
RUNNING = "running"
SUCCEEDED = "succeeded"
FAILED = "failed"
TIMED_OUT = "timed_out"
CANCELLED = "cancelled"

EXECUTION_STATES = (QUEUED, STARTING, RUNNING, SUCCEEDED, FAILED, TIMED_OUT, CANCELLED)
LIVE = (STARTING, RUNNING)
FINAL = (SUCCEEDED, FAILED, TIMED_OUT, CANCELLED)

CREATING = "creating"
READY = "ready"
GONE = "gone"

SANDBOX_OPEN = (CREATING, READY)
# What people see of a customer's own.
KEPT_STATES = (CREATING, READY, RUNNING, FAILED, GONE)
SANDBOX_STATES = ("creating", "ready", "reserved", "running", "resetting", "failed", "gone")

MOST_ATTEMPTS = 3
FIRST_WAIT_SECONDS = 2.0
LONGEST_WAIT_SECONDS = 30.0

EXECUTION_MOVES: dict[str, tuple[str, ...]] = {
    QUEUED: (STARTING, FAILED, CANCELLED),
    STARTING: (RUNNING, QUEUED, *FINAL),
    RUNNING: (QUEUED, *FINAL),
    **dict.fromkeys(FINAL, ()),
}
SANDBOX_MOVES: dict[str, tuple[str, ...]] = {
    "creating": ("ready", "failed", "gone"),
    "ready": ("reserved", "running", "failed", "gone"),
    "reserved": ("running", "ready", "failed", "gone"),
    "running": ("resetting", "failed", "gone"),
    "resetting": ("ready", "failed", "gone"),
    "failed": ("gone",),
    "gone": (),
}


class IllegalMove(Exception):
    """Raised when a thing is asked to go where it cannot go from its present state."""

    code = "conflict"

    def __init__(self, state: str, wanted: str) -> None:
        self.state = state
        super().__init__(f"It is {state.replace('_', ' ')}, so it cannot become {wanted.replace('_', ' ')}.")

    @property
    def extras(self) -> dict[str, str]:
        return {"state": self.state}


def check_move(old: str, new: str) -> None:
    """This will raise IllegalMove unless an execution may go from `old` to `new`."""
    if new not in EXECUTION_MOVES[old]:
        raise IllegalMove(old, new)


def sources_of(new: str) -> tuple[str, ...]:
    """The states an execution may come from to reach `new`: what a guarded update asks for."""
    return tuple(old for old, targets in EXECUTION_MOVES.items() if new in targets)


def ending(*, exit_code: int | None, breach: str | None, cancelled: bool) -> str:
    """The final state of a program that ended by itself, by a limit or by a person."""
    if cancelled:
        return CANCELLED
    if breach == "timeout":
        return TIMED_OUT
    return SUCCEEDED if exit_code == 0 and breach is None else FAILED


def retry_wait(*, attempt: int, chance: float) -> float:
    """Seconds until the next attempt: doubling, capped, and spread by `chance` (0..1) over its upper half."""
    longest: float = min(FIRST_WAIT_SECONDS * 2 ** (attempt - 1), LONGEST_WAIT_SECONDS)
    return longest * (0.5 + chance / 2)


def is_idle(*, ready_at: datetime, now: datetime, idle_timeout: timedelta) -> bool:
    """Whether a ready sandbox has been waiting longer than its pool lets it."""
    return now - ready_at > idle_timeout
