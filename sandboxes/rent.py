"""What a long-lived sandbox costs: its seconds, in windows of a minute, each set aside before it begins.

    held [charged_until, held_until) --its end--> charged, and the next one held     no credits: the sandbox is ended
                                     --the sandbox's end--> charged to that moment, the rest let go

Each window has a key of its own, so none is charged twice; row and charge are one transaction, so none is lost.
Everything here expects the sandbox's row locked, and to be inside a transaction.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime, timedelta
from decimal import Decimal

from billing import ledger, metering, rating
from sandboxes.charges import METER, SOURCE
from sandboxes.models import Sandbox
from sandboxes.models.sandboxes import LONGEST

WINDOW = timedelta(minutes=1)


def window_seconds(*, start: datetime, expires_at: datetime) -> float:
    return min(WINDOW, expires_at - start).total_seconds()


def hold(sandbox: Sandbox, *, now: datetime) -> None:
    """Set the present window's credits aside. Raises those of ledger.CANNOT_SPEND."""
    lasts = Decimal(str(round((sandbox.held_until - sandbox.charged_until).total_seconds(), 3)))
    price_ucr = rating.cost_now_ucr(account_id=sandbox.account_id, meter=METER, quantity=lasts, now=now)
    ledger.hold(
        account_id=sandbox.account_id,
        amount_ucr=max(1, price_ucr),
        key=sandbox.hold_key,
        # Charged or let go long before, and never expired by itself.
        expires_at=now + 2 * LONGEST,
        now=now,
        purpose="sandbox",
        meter=METER,
        api_key=str(sandbox.api_key or ""),
    )


def begin(sandbox: Sandbox, *, now: datetime) -> None:
    """It is open: the window that was set aside begins now."""
    lasts = sandbox.held_until - sandbox.charged_until
    sandbox.charged_until, sandbox.held_until = now, now + lasts


def renew(sandbox: Sandbox, *, until: datetime, now: datetime) -> None:
    """Charge every window that is over by `until` and set the next one aside, as far as the sandbox's time goes.

    Raises those of ledger.CANNOT_SPEND; what is over is charged then all the same.
    """
    while sandbox.held_until <= until and sandbox.held_until < sandbox.expires_at:
        _charge(sandbox, until=sandbox.held_until, now=now)
        start = sandbox.held_until
        lasts = window_seconds(start=start, expires_at=sandbox.expires_at)
        sandbox.window += 1
        sandbox.charged_until, sandbox.held_until = start, start + timedelta(seconds=lasts)
        hold(sandbox, now=now)


def settle(sandbox: Sandbox, *, until: datetime | None, now: datetime) -> None:
    """Charge the present window up to a moment and let the rest go; with None nothing of it is charged."""
    if until is None or sandbox.opened_at is None or until <= sandbox.charged_until:
        # Where the hold was refused there is none.
        with suppress(ledger.HoldEnded, ledger.UnknownHold):
            ledger.release(key=sandbox.hold_key, now=now)
        return
    _charge(sandbox, until=min(until, sandbox.held_until), now=now)


def _charge(sandbox: Sandbox, *, until: datetime, now: datetime) -> None:
    seconds = (until - sandbox.charged_until).total_seconds()
    record = metering.capture(
        hold_key=sandbox.hold_key,
        meter=METER,
        quantity=Decimal(max(1, round(seconds * 1000))) / 1000,
        occurred_at=until,
        now=now,
        key=sandbox.hold_key,
        source=SOURCE,
        properties={"sandbox": str(sandbox.pk)},
    )
    sandbox.cost_ucr += record.cost_ucr
