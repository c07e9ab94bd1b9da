"""Submits, cancels and repeats executions."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import partial
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import Q

from billing import ledger, rating
from billing.keys import KeyPrincipal
from billing.models import Account, User
from sandboxes import cancels, engine, lifecycle, lifetimes, live, programs, sealing, steps, tasks, telling, transcript
from sandboxes.charges import METER, let_go
from sandboxes.limits import InvalidLimits, Limits
from sandboxes.models import Execution, Pool, Sandbox, Template
from sandboxes.runtimes import LOCAL, Needs
from sandboxes.setbacks import WAITS_AT_MOST, WAITS_AT_MOST_HOURS

QUEUE_LIMIT = 10_000
FULL_RETRY_SECONDS = 5
SETTLE_SECONDS = 1.0
# What an execution waits for when nothing is wrong.
TURN = "It waits for its turn in the pool."
PLACES = ("language", "template", "pool", "sandbox")


class NetworkNotAllowed(Exception):
    """Raised when code asks for the network and the operator has not allowed it."""

    code = "network_not_allowed"

    def __init__(self) -> None:
        super().__init__("Sandboxes have no network here. Ask the operator to allow it, or leave out `network`.")


class SandboxIsBusy(Exception):
    """Raised when an execution is sent to a long-lived sandbox that runs another, and does not want to wait."""

    code = "conflict"
    extras = {"state": lifecycle.RUNNING}

    def __init__(self) -> None:
        super().__init__(
            "This sandbox runs another execution. Wait for its end, or send `queue: true` to stand in line."
        )


class QueueFull(Exception):
    """Raised when an account has as many executions waiting as one may have."""

    code = "resource_limit_exceeded"
    retry_after = FULL_RETRY_SECONDS
    extras = {"limit": QUEUE_LIMIT}

    def __init__(self) -> None:
        super().__init__(f"{QUEUE_LIMIT:,} executions are waiting already. Try again when some have run.")


def submit(
    *,
    account: Account,
    code: str,
    language: str | None = None,
    template: str | None = None,
    pool: str | None = None,
    sandbox: str | None = None,
    input: str | bytes | None = None,
    args: Sequence[str] = (),
    env: Mapping[str, str] | None = None,
    sealed_env: Mapping[str, str] | None = None,
    files: Mapping[str, Any] | None = None,
    timeout_seconds: float = 60,
    limits: Mapping[str, object] | None = None,
    network: bool = False,
    metadata: Mapping[str, str] | None = None,
    queue: bool = False,
    by: Any = None,
    now: datetime,
    agent: str = "",
    api_key: str = "",
    rerun_of: Execution | None = None,
) -> Execution:
    """Queue code to run, with its worst-case cost held; in a long-lived sandbox only `queue` waits for another.
    `sealed_env` are variables sealed by `sealing.seal`, opened when the program starts and never shown; `api_key` is
    the key it is for, where that is not `by`.
    Raises programs.Refused, programs.TooLarge, NetworkNotAllowed, engine.EngineUnavailable, QueueFull,
    those of ledger.CANNOT_SPEND, SandboxIsBusy, lifetimes.Ended; then nothing is written.
    """
    program = programs.check(
        code=code, input=input, args=args, env=env, files=files, timeout_seconds=timeout_seconds, metadata=metadata
    )
    place = _place(account, language=language, template=template, pool=pool, sandbox=sandbox)
    allowed = _limits(place, limits)
    has_network = _network(place, network)
    able = _able(place, program, limits=allowed, network=has_network)
    execution = Execution(
        account=account,
        pool=place.pool,
        template=place.template,
        kept_sandbox=place.sandbox,
        sandbox=str(place.sandbox.pk) if place.sandbox else "",
        language=place.template.language,
        limits=allowed.as_dict(),
        network=has_network,
        runtimes=able,
        created_by=by if isinstance(by, User) else None,
        agent=agent,
        rerun_of=rerun_of,
        created_at=now,
        available_at=now,
        **_stored(program, sealed_env or {}),
    )
    api_key = str(by.pk) if isinstance(by, KeyPrincipal) else api_key
    return _queue(execution, now, api_key) if place.sandbox is None else _enter(execution, now, may_wait=queue)


def _stored(program: programs.Program, sealed_env: Mapping[str, str]) -> dict[str, Any]:
    """The fields of an execution that keep its program."""
    return {
        "code": program.code,
        "stdin": program.stdin,
        "args": list(program.args),
        "env": sealing.among(program.env, sealed_env),
        "files": {path: base64.b64encode(content).decode() for path, content in program.files.items()},
        "timeout_seconds": program.timeout_seconds,
        "metadata": dict(program.metadata),
    }


def _queue(execution: Execution, now: datetime, api_key: str) -> Execution:
    held_ucr = max(1, cost_now_ucr(execution.account_id, execution.timeout_seconds, now))
    # Longer than it may wait and run, so that what is held is released or captured, and never expires by itself.
    terms = {"held_ucr": held_ucr, "held_until": now + 2 * WAITS_AT_MOST, "now": now}
    terms |= {"meter": METER, "api_key": api_key}
    while True:
        done = steps.submit(execution, most_waiting=QUEUE_LIMIT, **terms)
        if done.outcome == "no_template":
            raise programs.Refused({"template": ["There is no such template."]})
        if done.outcome == "full":
            raise QueueFull
        if ledger.is_held(
            done.outcome, done.available_ucr, account_id=execution.account_id, key=execution.hold_key,
            amount_ucr=held_ucr, now=now, found=done.refused_by,
        ):  # fmt: skip
            break
    live.execution_changed(execution)
    tasks.run_execution.delay_on_commit(execution_id=str(execution.pk))
    return execution


@transaction.atomic
def _enter(execution: Execution, now: datetime, *, may_wait: bool) -> Execution:
    """Stand in line for a long-lived sandbox, whose own life is what is paid for."""
    # The row's lock makes those who come at once see each other.
    sandbox = Sandbox.objects.select_for_update(of=("self",), no_key=True).get(pk=execution.kept_sandbox_id)
    if not sandbox.is_open or sandbox.expires_at <= now:
        raise lifetimes.Ended(sandbox)
    if execution.account.status != Account.Status.ACTIVE:
        raise ledger.AccountNotActive(execution.account.status)
    unfinished = Q(lease_expires_at__isnull=False) | Q(state=lifecycle.QUEUED)
    if not may_wait and sandbox.executions.filter(unfinished).exists():
        raise SandboxIsBusy
    execution.turn = _turn(execution.account_id)
    execution.save(force_insert=True)
    live.execution_changed(execution)
    if sandbox.state == lifecycle.READY:
        transaction.on_commit(partial(tasks.ring_sandbox, sandbox.node))
    return execution


def cost_now_ucr(account_id: Any, seconds: float, now: datetime) -> int:
    """What so much time in a sandbox would cost the account now."""
    quantity = Decimal(str(round(seconds, 3)))
    return rating.cost_now_ucr(account_id=account_id, meter=METER, quantity=quantity, now=now)


def _turn(account_id: Any) -> int:
    turn = steps.next_turn(account_id, most_waiting=QUEUE_LIMIT)
    if turn is None:
        raise QueueFull
    return turn


@dataclass(frozen=True)
class Place:
    """Where an execution is to run: in a pool, or in a customer's long-lived sandbox."""

    template: Template
    pool: Pool | None = None
    sandbox: Sandbox | None = None


def _place(
    account: Account, *, language: str | None, template: str | None, pool: str | None, sandbox: str | None
) -> Place:
    """The place to wait for; exactly one of the four names it."""
    asked = {"language": language, "template": template, "pool": pool, "sandbox": sandbox}
    given = [name for name in PLACES if asked[name] is not None]
    if len(given) != 1:
        message = "Give exactly one of language, template, pool and sandbox."
        raise programs.Refused({name: [message] for name in given} or {"language": [message]})
    name = given[0]
    if name == "language":
        found = _default_pool(str(language))
        start = found.template if found else None
    elif name == "pool":
        found = Pool.objects.usable_by(account).select_related("template").named(str(pool))
        start = found.template if found else None
    elif name == "template":
        start = Template.objects.usable_by(account).named(str(template))
        found = _default_pool(start.language) if start else None
    else:
        return _own_sandbox(account, str(sandbox))
    if found is None or start is None:
        raise programs.Refused({name: [f"There is no such {name}."]})
    if start.state != Template.State.READY:
        raise programs.Refused({name: [f"Its template is {start.state}, not ready."]})
    return Place(start, pool=found)


def _own_sandbox(account: Account, name: str) -> Place:
    found = Sandbox.objects.filter(account=account).select_related("template").with_id(name)
    if found is None:
        raise programs.Refused({"sandbox": ["There is no such sandbox."]})
    if not found.is_open:
        raise lifetimes.Ended(found)
    return Place(found.template, sandbox=found)


def _default_pool(language: str) -> Pool | None:
    if language not in programs.LANGUAGES:
        return None
    return Pool.objects.built_in(language)


def _limits(place: Place, asked: Mapping[str, object] | None) -> Limits:
    if place.sandbox is not None:
        if asked:
            raise programs.Refused({"limits": ["A long-lived sandbox has its own limits. Leave this out."]})
        return Limits.parse(place.sandbox.limits)
    assert place.pool is not None
    try:
        return Limits.parse({**place.pool.limits, **(asked or {})})
    except InvalidLimits as invalid:
        raise programs.Refused({f"limits.{name}": said for name, said in invalid.errors.items()}) from invalid


def _able(place: Place, program: programs.Program, *, limits: Limits, network: bool) -> list[str]:
    """The runtimes that could run this; raises programs.Refused when none of the pool's is among them, and
    engine.EngineUnavailable when none of those is up. A long-lived sandbox is on a node."""
    if place.pool is None:
        engine.require()
        return [LOCAL]
    needs = Needs(
        language=place.template.language,
        timeout_seconds=program.timeout_seconds,
        limits=limits,
        template=place.template.address,
        network=network,
    )
    objections = engine.objections(needs)
    able = [name for name, said in objections.items() if not said]
    wanted = place.pool.all_runtimes
    here = [name for name in wanted if name in objections]
    if here and not set(here) & set(able):
        raise programs.Refused({field: [sentence] for name in here for field, sentence in objections[name].items()})
    engine.require([name for name in wanted if name in able or name not in objections])
    return able


def _network(place: Place, asked: bool) -> bool:
    if place.sandbox is not None:
        if asked and not place.sandbox.network:
            raise programs.Refused({"network": ["This sandbox was opened without a network."]})
        return bool(place.sandbox.network)
    check_network(asked)
    return asked


def check_network(asked: bool) -> None:
    """Raises NetworkNotAllowed."""
    if asked and not settings.SANDBOX_NETWORK:
        raise NetworkNotAllowed


def why_queued(execution: Execution) -> str:
    """What a waiting execution waits for; nothing when it does not wait."""
    if execution.state != lifecycle.QUEUED:
        return ""
    unavailable = engine.why_not(execution.all_runtimes)
    if unavailable is not None:
        return f"{str(unavailable).rstrip('.')}. It waits until one can, for {WAITS_AT_MOST_HOURS:g} hours at most."
    if execution.attempt:
        return "Its sandbox was lost, and it is tried again on another in a moment."
    return TURN


def cancel(*, execution: Execution, by: Any, now: datetime) -> Execution:
    """Stop an execution in any live state, and return it when its program is dead.

    Raises lifecycle.IllegalMove when it is final; of several who cancel at once, all but one.
    """
    was = _mark_cancelled(execution, now)
    if was != lifecycle.QUEUED:
        cancels.reach(execution)
        transcript.wait_for_end([execution.pk], seconds=SETTLE_SECONDS)
        execution.refresh_from_db()
    return execution


@transaction.atomic
def _mark_cancelled(execution: Execution, now: datetime) -> str:
    """Returns the state it was in."""
    row = Execution.objects.light().select_for_update().get(pk=execution.pk)
    lifecycle.check_move(row.state, lifecycle.CANCELLED)
    Execution.objects.filter(pk=row.pk).update(state=lifecycle.CANCELLED, finished_at=now)
    if row.state == lifecycle.QUEUED:
        let_go(row, now)
        telling.ended(row, now=now)
    else:
        live.execution_changed(row)
    execution.refresh_from_db()
    return str(row.state)


def rerun(*, execution: Execution, by: Any, now: datetime) -> Execution:
    """Submit the same program again, in the same account."""
    env, sealed_env = sealing.apart(execution.env)
    return submit(
        account=execution.account,
        code=execution.code,
        input=None if execution.stdin is None else bytes(execution.stdin),
        args=execution.args,
        env=env,
        sealed_env=sealed_env,
        files=execution.file_contents(),
        timeout_seconds=execution.timeout_seconds,
        limits=None if execution.kept_sandbox_id else execution.limits,
        network=execution.network,
        metadata=execution.metadata,
        by=by,
        now=now,
        agent=execution.agent,
        rerun_of=execution,
        **_same_place(execution),
    )


def _same_place(execution: Execution) -> dict[str, str]:
    if execution.kept_sandbox_id:
        return {"sandbox": str(execution.kept_sandbox_id)}
    if execution.template_id is None:
        raise programs.Refused({"template": ["Its template was deleted. Run the code with another one."]})
    pool = execution.pool
    if pool is not None and not pool.is_built_in and pool.template_id == execution.template_id:
        return {"pool": str(pool.pk)}
    return {"template": str(execution.template_id)}
