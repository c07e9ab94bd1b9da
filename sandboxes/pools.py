"""Opens, changes and closes pools."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.db import IntegrityError, transaction

from billing.models import Account
from sandboxes import engine, lifecycle, live, programs
from sandboxes.limits import InvalidLimits, Limits
from sandboxes.models import Pool, Template

COUNTS = ("starting", "ready", "running", "draining", "failed")


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


def open_pool(*, account: Account, name: str, template: str, by: Any, **sizes: Any) -> Pool:
    """Raises programs.Refused, NameTaken."""
    start = _template(account, template)
    pool = Pool(account=account, name=name, template=start)
    _set(pool, sizes)
    try:
        with transaction.atomic():
            pool.save(force_insert=True)
    except IntegrityError as taken:
        raise NameTaken(name) from taken
    live.pool_changed(pool)
    return pool


@transaction.atomic
def change_pool(*, pool: Pool, changes: Mapping[str, Any], by: Any, version: int | None = None) -> Pool:
    """Raises programs.Refused, NameTaken, BuiltIn, StaleVersion."""
    _check_may_change(pool, by)
    row = Pool.objects.select_for_update(of=("self",)).select_related("account").get(pk=pool.pk)
    if version is not None and version != row.version:
        raise StaleVersion(row.version)
    wanted = dict(changes)
    if "template" in wanted:
        row.template = _template(row.account, wanted.pop("template"))
    row.name = wanted.pop("name", row.name)
    _set(row, wanted)
    row.version += 1
    try:
        with transaction.atomic():
            row.save(force_update=True)
    except IntegrityError as taken:
        raise NameTaken(row.name) from taken
    live.pool_changed(row)
    return row


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


def _template(account: Account | None, name: str) -> Template:
    rows = Template.objects.filter(account=None) if account is None else Template.objects.usable_by(account)
    found = rows.named(name)
    if found is None:
        raise programs.Refused({"template": ["There is no such template."]})
    return found  # type: ignore[no-any-return]


def counts(pool: Pool) -> dict[str, int]:
    """Its sandboxes by state. The node keeps the built-in pools ready; an own pool starts its sandboxes on
    demand, so it has only those that its executions are on. Expects a pool of `with_counts`."""
    own = dict.fromkeys(COUNTS, 0) | {"running": pool.running, "starting": pool.starting}
    if not pool.is_built_in:
        return own
    said = engine.describe()["pools"].get(pool.template.language, {})
    return {state: int(said.get(state, own[state])) for state in COUNTS}
