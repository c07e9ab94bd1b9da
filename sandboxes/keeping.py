"""Opens, extends and closes long-lived sandboxes."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction

from billing.keys import KeyPrincipal
from billing.models import Account, User
from sandboxes import bells, engine, executions, lifecycle, lifetimes, live, programs, rent, tasks
from sandboxes.limits import InvalidLimits, Limits
from sandboxes.models import Sandbox, Template
from sandboxes.models.sandboxes import LONGEST
from sandboxes.runtimes import RuntimeLost

USUAL_SECONDS = 300
LONGEST_SECONDS = int(LONGEST.total_seconds())
# What a caller waits for the sandbox by itself; it is opened in milliseconds when there is room.
WAIT_SECONDS = 5.0
CLEAR_SECONDS = 5.0


def open_sandbox(
    *,
    account: Account,
    template: str,
    ttl_seconds: float = USUAL_SECONDS,
    limits: Mapping[str, object] | None = None,
    network: bool = False,
    env: Mapping[str, str] | None = None,
    metadata: Mapping[str, str] | None = None,
    by: Any = None,
    now: datetime,
) -> Sandbox:
    """Have a sandbox opened, with its first minute's credits held. Its time runs from now.

    Raises programs.Refused, programs.TooLarge, executions.NetworkNotAllowed, engine.EngineUnavailable,
    those of ledger.CANNOT_SPEND; then nothing is written.
    """
    checked_env, checked_metadata = programs.check_sandbox(env=env, metadata=metadata)
    start = _template(account, template)
    expires_at = now + _lifetime(ttl_seconds, most=LONGEST)
    executions.check_network(network)
    engine.require()
    sandbox = Sandbox(
        account=account,
        template=start,
        language=start.language,
        created_by=by if isinstance(by, User) else None,
        api_key=by.pk if isinstance(by, KeyPrincipal) else None,
        limits=_limits(limits).as_dict(),
        network=network,
        env=checked_env,
        metadata=checked_metadata,
        ttl_seconds=ttl_seconds,
        created_at=now,
        expires_at=expires_at,
        charged_until=now,
        held_until=now + timedelta(seconds=rent.window_seconds(start=now, expires_at=expires_at)),
    )
    _begin(sandbox, now)
    return sandbox


@transaction.atomic
def _begin(sandbox: Sandbox, now: datetime) -> None:
    # So that it is not deleted at this moment.
    if not Template.objects.hold(sandbox.template):
        raise programs.Refused({"template": ["There is no such template."]})
    sandbox.save(force_insert=True)
    rent.hold(sandbox, now=now)
    live.sandbox_changed(sandbox)
    tasks.open_sandbox.apply_async_on_commit(kwargs={"sandbox_id": str(sandbox.pk)}, queue=tasks.QUEUE)


def wait_until_open(sandbox: Sandbox, *, seconds: float) -> None:
    """Until it is ready or has failed, or the time is over."""
    bells.wait(bells.opened(sandbox.pk), seconds=seconds)


def _template(account: Account, name: str) -> Template:
    found: Template | None = Template.objects.usable_by(account).named(name)
    if found is None:
        raise programs.Refused({"template": ["There is no such template."]})
    if found.state != Template.State.READY:
        raise programs.Refused({"template": [f"It is {found.state}, not ready."]})
    return found


def _limits(asked: Mapping[str, object] | None) -> Limits:
    try:
        return Limits.parse_kept(asked or {})
    except InvalidLimits as invalid:
        raise programs.Refused({f"limits.{name}": said for name, said in invalid.errors.items()}) from invalid


def _lifetime(ttl_seconds: float, *, most: timedelta) -> timedelta:
    lifetime = timedelta(seconds=ttl_seconds)
    if not timedelta(seconds=1) <= lifetime <= most:
        raise programs.Refused({"ttl_seconds": [f"Give a number from 1 to {max(1, int(most.total_seconds()))}."]})
    return lifetime


def extend(*, sandbox: Sandbox, ttl_seconds: float, by: Any, now: datetime) -> Sandbox:
    """It lives at least so many seconds from now. What it has left is never shortened.

    Raises programs.Refused (it lives a day at most, in all), lifetimes.Ended.
    """
    row = _extend(sandbox, ttl_seconds, now)
    if row.state == lifecycle.READY:
        if row.node == engine.node():
            lifetimes.extend_here(row, (row.expires_at - now).total_seconds())
        else:
            tasks.reconcile_sandboxes.apply_async(queue=tasks.queue_of(row.node))
    return row


@transaction.atomic
def _extend(sandbox: Sandbox, ttl_seconds: float, now: datetime) -> Sandbox:
    row = Sandbox.objects.select_for_update(of=("self",), no_key=True).get(pk=sandbox.pk)
    if not row.is_open or row.expires_at <= now:
        raise lifetimes.Ended(row)
    expires_at = now + _lifetime(ttl_seconds, most=row.created_at + LONGEST - now)
    if expires_at > row.expires_at:
        row.expires_at, row.ttl_seconds = expires_at, ttl_seconds
        row.save(update_fields=["expires_at", "ttl_seconds"])
        live.sandbox_changed(row)
    return row


def close(*, sandbox: Sandbox, by: Any, now: datetime) -> None:
    """End it, and return when nothing of it runs any more. Closing it again changes nothing."""
    if not lifetimes.end(sandbox_id=sandbox.pk, state=lifecycle.GONE, now=now):
        return
    row = Sandbox.objects.get(pk=sandbox.pk)
    if row.opened_at is None:
        return
    if row.node == engine.node():
        with suppress(RuntimeLost):
            lifetimes.close_here(row.pk)
        return
    tasks.reconcile_sandboxes.apply_async(queue=tasks.queue_of(row.node))
    bells.wait(bells.cleared(row.pk), seconds=CLEAR_SECONDS)
