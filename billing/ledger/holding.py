"""Holds: credits set aside, then captured up to the amount, released, or expired by the clock."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from django.db import connection
from uuid_utils.compat import uuid7

from billing import calls, live
from billing.ledger import granting, refusals, spending
from billing.models import Hold

HOLD = "select outcome, hold, available from billing_hold(%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)"
END = "select outcome, transaction, overdraft from billing_end_hold(%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)"
SWEEP_BATCH = 500


def hold(
    *, account_id: UUID, amount_ucr: int, key: str, expires_at: datetime, now: datetime, purpose: str = "",
    meter: str = "", agent: str = "", api_key: str = "",
) -> Hold:  # fmt: skip
    """Set credits aside. The same key again answers the same hold.

    `meter`, `agent` and `api_key` say on which budgets it counts, and what is captured of it; that keeps the key too.
    """
    refusals.check_amount(amount_ucr)
    asked = [account_id, uuid7(), key, amount_ucr, purpose, expires_at, now, meter, agent, api_key]
    outcome, found, available_ucr = calls.row(HOLD, asked)
    if not is_held(outcome, available_ucr, account_id=account_id, key=key, amount_ucr=amount_ucr, now=now, found=found):
        return hold(
            account_id=account_id,
            amount_ucr=amount_ucr,
            key=key,
            expires_at=expires_at,
            now=now,
            purpose=purpose,
            meter=meter,
            agent=agent,
            api_key=api_key,
        )
    if outcome == "replay":
        return Hold.objects.get(pk=found)
    fields = ("id", "account_id", "key", "purpose", "state", "amount_ucr", "captured_ucr", "expires_at", "created_at")
    values = (found, account_id, key, purpose, Hold.State.ACTIVE, amount_ucr, 0, expires_at, now)
    # What is not given here is read when somebody asks for it.
    new: Hold = Hold.from_db(connection.alias, fields, values)
    return new


def is_held(
    outcome: str, available_ucr: int, *, account_id: UUID, key: str, amount_ucr: int, now: datetime,
    found: UUID | None = None,
) -> bool:  # fmt: skip
    """What billing_hold answered, also to a statement of another app's that calls it: True when the credits are held.

    False when credits past their expiry had to be booked first: it may be asked again now. `found` is the row it
    named. Raises those of CANNOT_SPEND, KeyReused.
    """
    if outcome == "expire_first":
        granting.expire_wallet(account_id=account_id, now=now)
        return False
    if outcome not in ("ok", "replay"):
        raise spending.refusal(
            outcome, account_id=account_id, key=key, needed_ucr=amount_ucr, available_ucr=available_ucr, found=found
        )
    if outcome == "ok":
        live.credits_changed(account_id)
    return True


def capture(
    *,
    hold_key: str,
    amount_ucr: int,
    key: str,
    source: str,
    now: datetime,
    meter: str = "other",
    description: str = "",
    actor: str = "",
    request_id: str = "",
) -> spending.Receipt:
    """Take up to the held amount and let the rest go; the same key again answers the first receipt."""
    refusals.check_amount(amount_ucr)
    given = spending.fingerprint("capture", hold_key, amount_ucr, meter)
    arguments = [hold_key, "captured", calls.new_ids(4), f"revenue:{meter}", amount_ucr]
    arguments += [source, key, given, description, actor, request_id, now]
    outcome, found, overdraft_ucr = calls.row(END, arguments)
    if outcome == "too_much":
        raise refusals.AmountOutOfRange(amount_ucr, "More than the hold has set aside cannot be captured.")
    if outcome not in ("ok", "replay"):
        raise _refusal(outcome)
    if outcome == "ok":
        _tell(hold_key)
    return spending.Receipt(found, amount_ucr, overdraft_ucr, replayed=outcome == "replay")


def release(*, key: str, now: datetime) -> Hold:
    """Let all of a hold go; releasing it again changes nothing."""
    outcome, _, _ = calls.row(END, [key, "released", calls.new_ids(0), "", 0, "", "", "", "", "", "", now])
    if outcome not in ("ok", "replay"):
        raise _refusal(outcome)
    if outcome == "ok":
        _tell(key)
    return Hold.objects.get(key=key)


def key_of(*, hold_key: str) -> str:
    """The API key that asked for what a hold is for, as budgets name it; empty when none did. Raises UnknownHold."""
    for (found,) in Hold.objects.filter(key=hold_key).values_list("api_key"):
        return str(found or "")
    raise refusals.UnknownHold


def expire_holds(*, now: datetime) -> int:
    """Free what holds past their time had set aside; returns how many there were."""
    due = Hold.objects.filter(state=Hold.State.ACTIVE, expires_at__lte=now).order_by("expires_at", "pk")
    keys = list(due.values_list("key", flat=True)[:SWEEP_BATCH])
    return sum(1 for key in keys if expire_hold(key=key, now=now))


def expire_hold(*, key: str, now: datetime) -> bool:
    """Free one hold past its time; False when it had ended before."""
    outcome, _, _ = calls.row(END, [key, "expired", calls.new_ids(0), "", 0, "", "", "", "", "", "", now])
    if outcome == "ok":
        _tell(key)
    return outcome == "ok"


def _refusal(outcome: str) -> Exception:
    return refusals.UnknownHold() if outcome == "no_hold" else refusals.HoldEnded(outcome)


def _tell(hold_key: str) -> None:
    live.credits_changed(Hold.objects.values_list("account_id", flat=True).get(key=hold_key))
