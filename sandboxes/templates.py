"""Makes, deletes and rebuilds templates."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from django.db import IntegrityError, transaction

from billing.models import Account
from sandboxes import engine, lifecycle, live, packages, programs, tasks
from sandboxes.models import Build, Execution, Template

MOST = 100


class NameTaken(Exception):
    """Raised when the account has a template of that name already."""

    code = "conflict"

    def __init__(self, name: str) -> None:
        super().__init__(f"There is a template named {name} already. Choose another name.")


class TooMany(Exception):
    """Raised when an account has as many templates as one may have."""

    code = "resource_limit_exceeded"
    retry_after = 60
    extras = {"limit": MOST}

    def __init__(self) -> None:
        super().__init__(f"There are {MOST} templates already. Delete one that is no longer used.")


class TemplateInUse(Exception):
    """Raised when a template is to be deleted that something still starts from."""

    code = "conflict"
    extras = {"state": "in_use"}

    def __init__(self, users: Sequence[str]) -> None:
        super().__init__(f"It is in use by {', '.join(users)}. Close or cancel these first.")


class BuiltIn(Exception):
    """Raised when a customer would take away what everybody uses."""

    code = "staff_required"

    def __init__(self) -> None:
        super().__init__("This template came with the product and serves everybody: only staff may delete it.")


class NotFailed(Exception):
    """Raised when a template is to be built again that did not fail."""

    code = "conflict"

    def __init__(self, state: str) -> None:
        self.extras = {"state": state}
        super().__init__(f"It is {state}. Only a template whose build failed can be built again.")


def create_template(
    *, account: Account, name: str, language: str, packages_asked: Sequence[object], by: Any, now: datetime
) -> Template:
    """A template of exactly these packages, which is built unless somebody's was built already.

    Raises programs.Refused, NameTaken, TooMany, engine.EngineUnavailable.
    """
    if language not in programs.LANGUAGES:
        raise programs.Refused({"language": [f"Give one of {', '.join(programs.LANGUAGES)}."]})
    if not name.strip():
        raise programs.Refused({"name": ["Give a name."]})
    wanted = packages.check(language, packages_asked)
    _check_can_be_built(language, wanted)
    if Template.objects.filter(account=account).count() >= MOST:
        raise TooMany
    return _create(account, name, language, wanted, now)


def _check_can_be_built(language: str, wanted: list[str]) -> None:
    engine.require()
    reason = engine.describe().get("builds", {}).get(language, "")
    if reason and wanted:
        raise programs.Refused({"language": [f"Packages of {language} cannot be installed here: {reason}."]})


@transaction.atomic
def _create(account: Account, name: str, language: str, wanted: list[str], now: datetime) -> Template:
    address = packages.address(language, wanted)
    fresh = {"language": language, "packages": wanted, "created_at": now}
    Build.objects.get_or_create(address=address, defaults=fresh)
    build = Build.objects.select_for_update().get(address=address)
    if build.state == Build.State.FAILED:
        _start_again(build)
    row = Template(account=account, name=name, language=language, packages=wanted, build=build)
    row.state, row.address = build.state, address
    row.created_at = now
    try:
        with transaction.atomic():
            row.save(force_insert=True)
    except IntegrityError as taken:
        raise NameTaken(name) from taken
    live.template_changed(row)
    if build.state == Build.State.BUILDING:
        tasks.build_template.delay_on_commit(build_id=str(build.pk))
    return row


def _start_again(build: Build) -> None:
    build.state, build.log, build.error, build.attempt, build.finished_at = Build.State.BUILDING, "", "", 0, None
    build.save(update_fields=["state", "log", "error", "attempt", "finished_at"])
    build.templates.update(state=Build.State.BUILDING)
    live.build_changed(build)


@transaction.atomic
def rebuild(*, template: Template, by: Any, now: datetime) -> Template:
    """Try again what failed. Raises NotFailed, engine.EngineUnavailable."""
    engine.require()
    build = Build.objects.select_for_update().filter(pk=template.build_id).first()
    if build is None or build.state != Build.State.FAILED:
        raise NotFailed(build.state if build else template.state)
    _start_again(build)
    tasks.build_template.delay_on_commit(build_id=str(build.pk))
    template.refresh_from_db()
    return template


@transaction.atomic
def delete_template(*, template: Template, by: Any) -> None:
    """Raises BuiltIn, TemplateInUse. What is on the nodes goes when no other template starts from it."""
    if template.is_built_in and not by.is_staff:
        raise BuiltIn
    row = Template.objects.select_for_update(of=("self",)).select_related("build").get(pk=template.pk)
    users = _users(row)
    if users:
        raise TemplateInUse(users)
    live.template_changed(row)
    build = row.build
    row.delete()
    if build is not None and not build.templates.exists():
        build.delete()


def _users(template: Template) -> list[str]:
    """In words, what still starts from it."""
    users = [f"the pool {name}" for name in template.pools.order_by("name").values_list("name", flat=True)[:10]]
    waiting = Execution.objects.filter(template=template).exclude(state__in=lifecycle.FINAL).count()
    if waiting:
        users.append("1 execution" if waiting == 1 else f"{waiting} executions")
    return users
