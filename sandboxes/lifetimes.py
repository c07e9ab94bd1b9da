"""The life of a long-lived sandbox on its node: opened, paid for, compared with what the daemon has, ended.

    row creating --a worker claims it--> open on that worker's daemon --> row ready
    row ready    --reconcile, every second--> extended, closed, or lost like the daemon's
    row ended    --reconcile--> whatever of it is left in the daemon is closed

The row is the truth, and the daemon follows; only that a sandbox has died is the daemon's to say.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models import F, Q
from django.db.models.functions import Now

from billing import ledger
from billing.models import Account
from sandboxes import bells, engine, leases, lifecycle, live, rent, setbacks, stock
from sandboxes.leases import Clock
from sandboxes.limits import Limits
from sandboxes.models import Sandbox
from sandboxes.runtimes import InvalidRequest, Opening, RuntimeLost, RuntimeUnavailable, SandboxGone

# Longer than the runtime takes to say that it could not.
OPENING_LEASE = timedelta(seconds=45)
# A node that was full is asked again only through this many messages, most of which reach others if there are any.
MOST_TRIES = 12
AGAIN_SECONDS = 0.2
# Unopened by then it is given up: its doorbells were lost, or every worker that took it died.
OPENS_WITHIN = timedelta(minutes=10)
# A sweep comes every two seconds, and a living node is heard every second.
MOST_UNHEARD = 30
PAID = ["window", "charged_until", "held_until", "cost_ucr"]
# The daemon's clock and ours may differ by what an answer takes.
CLOCKS_DIFFER_SECONDS = 2.0
BATCH = 200
log = logging.getLogger(__name__)


class Ended(Exception):
    """Raised when a sandbox is asked for something after its end."""

    code = "gone"

    def __init__(self, sandbox: Sandbox) -> None:
        # Past its time it has ended, even while nobody has written that down yet.
        self.extras = {"state": lifecycle.GONE if sandbox.is_open else str(sandbox.state)}
        why = sandbox.why_ended or "Its time-to-live is over."
        super().__init__(f"This sandbox has ended. {why} Its files are gone: open another one.")


# --- opening


def open_here(*, sandbox_id: UUID | str, clock: Clock) -> float | None:
    """Open it on this node, if nobody else does; seconds until somebody should try again, or None."""
    sandbox = _claim(sandbox_id, clock())
    if sandbox is None:
        return None
    if sandbox.node in sandbox.refusals:
        return _refuse(sandbox, sandbox.refusals[sandbox.node], now=clock())
    address = sandbox.template.address
    if address and not stock.has(address):
        return _wait_for_template(sandbox, stock.fetch(address), now=clock())
    try:
        engine.runtime(sandbox.runtime).open(_opening(sandbox, clock()))
    except InvalidRequest as invalid:
        _give_up(sandbox, str(invalid), clock())
        return None
    except (RuntimeUnavailable, RuntimeLost, SandboxGone) as refused:
        engine.forget(sandbox.runtime)
        reasons = refused.reasons if isinstance(refused, RuntimeUnavailable) else [str(refused)]
        return _refuse(sandbox, " ".join(reasons), now=clock())
    if not _opened(sandbox, clock()):
        # It was closed meanwhile.
        with suppress(RuntimeLost):
            engine.runtime(sandbox.runtime).close(str(sandbox.pk))
    return None


def _claim(sandbox_id: UUID | str, now: datetime) -> Sandbox | None:
    waiting = Sandbox.objects.filter(pk=sandbox_id, state=lifecycle.CREATING, expires_at__gt=now)
    free = waiting.exclude(lease_expires_at__gt=now)
    claim = {"claimed_by": leases.ME, "lease_expires_at": now + OPENING_LEASE, "tries": F("tries") + 1}
    if not free.update(**claim, node=engine.node(), runtime=engine.LOCAL):
        return None
    return Sandbox.objects.select_related("template").get(pk=sandbox_id)


def _wait_for_template(sandbox: Sandbox, problem: str | None, *, now: datetime) -> float | None:
    """This node has not got what it starts from yet: whoever hears next looks again, as if nobody had claimed it."""
    if problem:
        return _refuse(sandbox, problem, now=now)
    _mine(sandbox).update(tries=F("tries") - 1, lease_expires_at=None, claimed_by="", node="")
    return setbacks.TEMPLATE_SECONDS


def _opening(sandbox: Sandbox, now: datetime) -> Opening:
    return Opening(
        id=str(sandbox.pk),
        language=sandbox.language,
        template=sandbox.template.address,
        expires_in_seconds=max(0.1, (sandbox.expires_at - now).total_seconds()),
        env=sandbox.env,
        limits=Limits.parse_kept(sandbox.limits),
        network=sandbox.network,
    )


def _mine(sandbox: Sandbox) -> Any:
    return Sandbox.objects.filter(pk=sandbox.pk, state=lifecycle.CREATING, claimed_by=leases.ME)


def _refuse(sandbox: Sandbox, reason: str, *, now: datetime) -> float | None:
    """This node cannot; after enough tries nobody can."""
    refusals = sandbox.refusals | {sandbox.node: reason}
    if sandbox.tries >= MOST_TRIES:
        _give_up(sandbox, " ".join(f"{node}: {said}." for node, said in sorted(refusals.items())), now)
        return None
    _mine(sandbox).update(refusals=refusals, lease_expires_at=None, claimed_by="", node="")
    return AGAIN_SECONDS


def _give_up(sandbox: Sandbox, reason: str, now: datetime) -> None:
    end(sandbox_id=sandbox.pk, state=lifecycle.FAILED, error=f"It could not be opened. {reason}", now=now)
    bells.ring(bells.opened(sandbox.pk))


@transaction.atomic
def _opened(sandbox: Sandbox, now: datetime) -> bool:
    row = _mine(sandbox).select_for_update(no_key=True).first()
    if row is None:
        return False
    rent.begin(row, now=now)
    row.state, row.opened_at, row.heard_at, row.lease_expires_at = lifecycle.READY, now, Now(), None
    row.save(update_fields=["state", "opened_at", "heard_at", "lease_expires_at", *PAID])
    live.sandbox_changed(row)
    transaction.on_commit(partial(bells.ring, bells.opened(row.pk)))
    return True


# --- its end


@transaction.atomic
def end(*, sandbox_id: UUID | str, state: str, now: datetime, error: str = "", is_charged: bool = True) -> bool:
    """Close its books and fail what waits for it; False when it had ended before.

    What runs in it is ended by its node, at the latest when that compares what it has with the rows.
    """
    row = Sandbox.objects.open().select_for_update(no_key=True).filter(pk=sandbox_id).first()
    if row is None:
        return False
    _close_books(row, now, is_charged=is_charged)
    row.state, row.ended_at, row.error, row.lease_expires_at = state, now, error[: setbacks.ERROR_LENGTH], None
    row.save(update_fields=["state", "ended_at", "error", "lease_expires_at", *PAID])
    setbacks.fail_waiting(sandbox=row, error=f"Its sandbox ended before it could run. {row.why_ended}", now=now)
    live.sandbox_changed(row)
    return True


def _close_books(row: Sandbox, now: datetime, *, is_charged: bool) -> None:
    """Charge up to its end; but nobody knows when one ended whose node was silent, so that is not charged."""
    until: datetime | None = None
    if is_charged and row.opened_at and Sandbox.objects.heard().filter(pk=row.pk).exists():
        until = min(now, row.expires_at)
        try:
            rent.renew(row, until=until, now=now)
        except ledger.CANNOT_SPEND:
            until = None
    rent.settle(row, until=until, now=now)


def lose(*, sandbox_id: UUID | str, reason: str, now: datetime) -> bool:
    """It died, by no wish of its customer's: the window it was in costs nothing."""
    error = f"The sandbox was lost. {reason}"
    return end(sandbox_id=sandbox_id, state=lifecycle.FAILED, error=error, now=now, is_charged=False)


# --- what the daemon has


def reconcile(*, said: Mapping[str, Any], known: set[str], now: datetime) -> None:
    """Make this node's daemon and its rows agree. `known` are the rows that were ready before the daemon was asked."""
    kept = said.get("kept")
    if kept is None:
        return
    there = {each["id"]: each for each in kept["sandboxes"]}
    for missing in known - there.keys():
        _note_death(missing, kept["ended"].get(missing, "Its sandbox daemon has been restarted."), now)
    # Asked after the daemon was: what is in neither is nobody's.
    rows = {str(row.pk): row for row in Sandbox.objects.open().filter(node=engine.node())}
    for stranger in there.keys() - rows.keys():
        close_here(stranger)
    ready = {pk for pk, row in rows.items() if row.state == lifecycle.READY} & there.keys()
    for pk in ready:
        _extend_here(rows[pk], there[pk]["expires_in_seconds"], now)
    Sandbox.objects.filter(pk__in=ready, unheard__gt=0).update(unheard=0, heard_at=Now())


def ready_here() -> set[str]:
    return {str(pk) for pk in Sandbox.objects.ready_on(engine.node()).values_list("pk", flat=True)}


def _note_death(sandbox_id: str, reason: str, now: datetime) -> None:
    row = Sandbox.objects.open().filter(pk=sandbox_id).first()
    if row is None:
        return
    if row.expires_at <= now + timedelta(seconds=CLOCKS_DIFFER_SECONDS):
        end(sandbox_id=sandbox_id, state=lifecycle.GONE, now=max(now, row.expires_at))
    else:
        lose(sandbox_id=sandbox_id, reason=reason, now=now)


def close_here(sandbox_id: UUID | str) -> None:
    """This will leave nothing of it in this node's daemon, and wake who waits for that."""
    try:
        engine.runtime().close(str(sandbox_id))
    except RuntimeLost as lost:
        log.warning("sandbox %s could not be closed now, it is tried again: %s", sandbox_id, lost)
        return
    bells.ring(bells.cleared(sandbox_id))


def _extend_here(row: Sandbox, expires_in_seconds: float, now: datetime) -> None:
    wanted = (row.expires_at - now).total_seconds()
    if wanted > expires_in_seconds + CLOCKS_DIFFER_SECONDS:
        extend_here(row, wanted)


def extend_here(row: Sandbox, seconds: float) -> None:
    """Tell this node's daemon; that one has died meanwhile is found by the next comparison."""
    try:
        engine.runtime(row.runtime).extend(str(row.pk), seconds)
    except (RuntimeLost, InvalidRequest, SandboxGone) as refused:
        log.warning("sandbox %s was not extended: %s", row.pk, refused)


# --- time passes


def sweep(*, now: datetime) -> None:
    """What no node does by itself: ends by time and by money, and gives up what nobody opened or hears of."""
    too_late = Q(created_at__lt=now - OPENS_WITHIN) | Q(expires_at__lte=now)
    for pk in _keys(Sandbox.objects.filter(too_late, state=lifecycle.CREATING)):
        error = "It could not be opened. No node took it in time."
        end(sandbox_id=pk, state=lifecycle.FAILED, error=error, now=now)
        bells.ring(bells.opened(pk))
    for pk in _keys(Sandbox.objects.expired(now)):
        end(sandbox_id=pk, state=lifecycle.GONE, now=now)
    for pk in _keys(Sandbox.objects.open().exclude(account__status=Account.Status.ACTIVE)):
        end(sandbox_id=pk, state=lifecycle.GONE, error="It was closed because its account is not active.", now=now)
    _count_silence(now)
    for pk in _keys(Sandbox.objects.heard().filter(state=lifecycle.READY, held_until__lte=now)):
        renew(sandbox_id=pk, now=now)


def _keys(rows: Any) -> list[UUID]:
    return list(rows.order_by("created_at", "pk").values_list("pk", flat=True)[:BATCH])


def _count_silence(now: datetime) -> None:
    """Counted in sweeps and not in seconds: while nobody swept, nobody could be heard either."""
    ready = Sandbox.objects.filter(state=lifecycle.READY)
    ready.update(unheard=F("unheard") + 1)
    for pk in _keys(ready.filter(unheard__gt=MOST_UNHEARD)):
        lose(sandbox_id=pk, reason="Its node has not been heard of for a minute.", now=now)


@transaction.atomic
def renew(*, sandbox_id: UUID, now: datetime) -> bool:
    """Charge what is over and hold what comes; a sandbox that nothing is held for is ended. False then."""
    row = Sandbox.objects.select_for_update(no_key=True).filter(pk=sandbox_id, state=lifecycle.READY).first()
    if row is None:
        return False
    refused = None
    try:
        rent.renew(row, until=now, now=now)
    except ledger.CANNOT_SPEND as no_money:
        refused = no_money
    row.save(update_fields=PAID)
    if refused is None:
        live.sandbox_changed(row)
        return True
    error = f"It was closed because its next minute could not be paid. {refused}"
    end(sandbox_id=sandbox_id, state=lifecycle.GONE, error=error, now=now, is_charged=False)
    return False


def to_open(*, now: datetime) -> list[UUID]:
    """Those that wait to be opened and that nobody is opening: their doorbells may be lost."""
    return _keys(Sandbox.objects.filter(state=lifecycle.CREATING).exclude(lease_expires_at__gt=now))
