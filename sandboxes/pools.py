"""Opens, changes, resizes and closes pools, and says what they have to do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import Avg

from billing.models import Account
from sandboxes import engine, lifecycle, live, programs, tasks
from sandboxes.limits import InvalidLimits, Limits
from sandboxes.models import Attempt, Execution, Pool, Template
from sandboxes.runtimes import E2B, LOCAL, NAMES

# What the auto-scaler calls a pool; scaling_target.py registers it.
SCALING_TYPE = "pool"
COUNTS = ("starting", "ready", "running", "draining", "failed")
# What executions take is the mean over the latest of them: this many are looked at, of all pools.
RECENT = 200


class NameTaken(Exception):
    """Raised when the account has a pool of that name already."""

    code = "conflict"

    def __init__(self, name: str) -> None:
        super().__init__(f"There is a pool named {name} already. Choose another name.")


class PoolInUse(Exception):
    """Raised when a pool is to be closed that still has executions to run."""

    code = "conflict"
    extras = {"state": "in_use"}

    def __init__(self) -> None:
        super().__init__("Executions are waiting or running in this pool. Cancel them, or wait for their end.")


class Stranded(Exception):
    """Raised when a pool is to change so that executions which wait in it could never run."""

    code = "conflict"
    extras = {"state": "in_use"}

    def __init__(self) -> None:
        super().__init__(
            "Executions wait in this pool that its new runtimes cannot run. Cancel them, or let them run first."
        )


class StaleVersion(Exception):
    """Raised when somebody else changed the pool since it was read."""

    code = "conflict"

    def __init__(self, version: int) -> None:
        self.extras = {"version": version}
        super().__init__("The pool was changed meanwhile. Read it again, then repeat your change.")


class BuiltIn(Exception):
    """Raised when a customer would change what everybody uses."""

    code = "staff_required"

    def __init__(self) -> None:
        super().__init__("This pool came with the product and serves everybody: only staff may change it.")


@transaction.atomic
def open_pool(*, account: Account, name: str, template: str, by: Any, **sizes: Any) -> Pool:
    """Raises programs.Refused, NameTaken."""
    start = _template(account, template)
    pool = Pool(account=account, name=name, template=start)
    _check_runtimes(sizes.get("runtimes", []), start)
    _set(pool, sizes)
    pool.size = pool.max_size
    try:
        with transaction.atomic():
            pool.save(force_insert=True)
    except IntegrityError as taken:
        raise NameTaken(name) from taken
    live.pool_changed(pool)
    return pool


@transaction.atomic
def change_pool(*, pool: Pool, changes: Mapping[str, Any], by: Any, version: int | None = None) -> Pool:
    """Raises programs.Refused, NameTaken, BuiltIn, StaleVersion, Stranded."""
    _check_may_change(pool, by)
    row = Pool.objects.select_for_update(of=("self",)).select_related("account").get(pk=pool.pk)
    if version is not None and version != row.version:
        raise StaleVersion(row.version)
    wanted = dict(changes)
    if "template" in wanted:
        row.template = _template(row.account, wanted.pop("template"))
    row.name = wanted.pop("name", row.name)
    was_full = row.size == row.max_size
    _check_runtimes(wanted.get("runtimes", row.runtimes), row.template, had=row.runtimes)
    _set(row, wanted)
    _check_nobody_is_stranded(row)
    # At its maximum a pool follows that; between the bounds it stays where the auto-scaler put it.
    row.size = row.max_size if was_full else _bounded(row.size, row)
    row.version += 1
    try:
        with transaction.atomic():
            row.save(force_update=True)
    except IntegrityError as taken:
        raise NameTaken(row.name) from taken
    live.pool_changed(row)
    return row


@transaction.atomic
def resize(*, pool: Pool, to: int) -> int:
    """How many may run at once from now on, as near to `to` as the pool's bounds and the setting allow.

    What runs already goes on, even beyond a smaller size. Raises Pool.DoesNotExist.
    """
    row = Pool.objects.select_for_update().get(pk=pool.pk)
    size = _bounded(min(to, _most(row)), row)
    if size == row.size:
        return size
    Pool.objects.filter(pk=row.pk).update(size=size)
    live.pool_changed(row)
    # Those whose doorbell found the pool full are still waiting.
    for _ in range(min(size - row.size, tasks.MOST_RINGS)):
        tasks.run_execution.delay_on_commit()
    return size


def _bounded(size: int, pool: Pool) -> int:
    return min(max(size, pool.min_size, 1), pool.max_size)


def allowed(pool: Pool) -> int:
    """How many may run in it now: its size, unless the settings for its runtimes allow fewer."""
    return min(pool.size, _most(pool))


def _most(pool: Pool) -> int:
    rooms = engine.rooms()
    return max(1, sum(rooms.get(name, 0) for name in pool.all_runtimes))


@transaction.atomic
def close_pool(*, pool: Pool, by: Any) -> None:
    """Raises BuiltIn, PoolInUse."""
    _check_may_change(pool, by)
    row = Pool.objects.select_for_update().get(pk=pool.pk)
    if row.executions.exclude(state__in=lifecycle.FINAL).exists():
        raise PoolInUse
    live.pool_changed(row)
    row.delete()


def _check_may_change(pool: Pool, by: Any) -> None:
    if pool.is_built_in and not by.is_staff:
        raise BuiltIn


def _set(pool: Pool, sizes: Mapping[str, Any]) -> None:
    for name, value in sizes.items():
        setattr(pool, name, value)
    try:
        Limits.parse(pool.limits)
    except InvalidLimits as invalid:
        raise programs.Refused({f"limits.{name}": said for name, said in invalid.errors.items()}) from invalid
    if pool.min_size > pool.max_size:
        raise programs.Refused({"min_size": [f"It may be at most max_size, which is {pool.max_size}."]})


def _check_runtimes(wanted: Sequence[str], start: Template, had: Sequence[str] = ()) -> None:
    """Raises programs.Refused unless each is known and, where it is new to the pool, can run something now."""
    for name in wanted:
        if name not in NAMES:
            raise programs.Refused({"runtimes": [f"There is no runtime {name}. Give some of {', '.join(NAMES)}."]})
    if len(set(wanted)) < len(wanted):
        raise programs.Refused({"runtimes": ["Name each runtime once."]})
    for name in wanted:
        # This machine's own is where everything runs by default, so it may be named while it is away.
        if name != LOCAL and name not in had and not engine.is_up(name):
            raise programs.Refused({"runtimes": [f"{name} cannot run anything: {' '.join(engine.reasons(name))}"]})
    if list(wanted) == [E2B] and start.address:
        raise programs.Refused({"runtimes": ["Built templates run on this installation's own nodes, not at E2B."]})


def _check_nobody_is_stranded(pool: Pool) -> None:
    """Raises Stranded when something waits that could run on none of the pool's runtimes any more."""
    waiting = pool.executions.filter(state=lifecycle.QUEUED)
    if waiting.exclude(runtimes__overlap=pool.all_runtimes).exists():
        raise Stranded


def _template(account: Account | None, name: str) -> Template:
    rows = Template.objects.filter(account=None) if account is None else Template.objects.usable_by(account)
    found = rows.named(name)
    if found is None or not Template.objects.hold(found):
        raise programs.Refused({"template": ["There is no such template."]})
    return found  # type: ignore[no-any-return]


def counts(pool: Pool) -> dict[str, int]:
    """Its sandboxes by state. What an own pool of an own template has ready, all pools of that template share;
    one of a built-in template has only those that its executions are on, as every pool has in the cloud. Expects a
    pool of `with_counts`."""
    own = dict.fromkeys(COUNTS, 0) | {"running": pool.running, "starting": pool.starting}
    if LOCAL not in pool.all_runtimes:
        return own
    language, said = pool.template.language, engine.describe()["pools"]
    if not pool.is_built_in:
        kept = said.get(f"{language}:{pool.template.address}", {})
        return own | {"ready": int(kept.get("ready", 0))}
    # The node keeps apart those with a network, and those with what numerics need.
    parts = [counted for name, counted in said.items() if name.split("+")[0] == language]
    counted = {state: sum(int(part.get(state, 0)) for part in parts) if parts else own[state] for state in COUNTS}
    # The daemon knows only those of this machine.
    return counted if pool.all_runtimes == [LOCAL] else counted | {"running": pool.running}


@dataclass(frozen=True)
class Work:
    """What a pool has to do: the share of its allowed size that is in use, how many wait, what one takes."""

    busy: float
    queued: int
    seconds_each: float | None


def work(pool: Pool, *, now: datetime) -> Work:
    here = Execution.objects.filter(pool=pool)
    # Ids grow with time, so the newest attempts are the end of an index.
    newest = Attempt.objects.order_by("-pk").values("pk")[:RECENT]
    ended = Attempt.objects.filter(pk__in=newest, execution__pool=pool, outcome=Attempt.Outcome.FINISHED)
    mean_ms = ended.aggregate(mean=Avg("duration_ms"))["mean"]
    return Work(
        # While a smaller size is being drained to, more than all of it is in use: that is just full.
        busy=min(here.live().count() / allowed(pool), 1.0),
        queued=here.waiting(now).count(),
        seconds_each=None if mean_ms is None else mean_ms / 1000,
    )
