"""The templates and pools that exist from the start, on every database, and what scales them.

Run after every migrate (and every flush, so tests have them), as Django does for its permissions.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from django.conf import settings
from django.db import connection, transaction
from django.db.models import Model
from django.utils import timezone

from sandboxes.models import Pool, Template
from sandboxes.runtimes import E2B, LOCAL
from scaling import autoscaler
from scaling.models import Group
from scaling.policy import Policy

PYTHON_PACKAGES = ["numpy", "pandas"]
LEAST_READY = 2
_PACKAGES = {"python": PYTHON_PACKAGES, "node": []}
SCALED = "python"
GROUP = "Python sandboxes"
# People wait for an execution: what is queued should run within seconds, not within the usual half minute.
BACKLOG_SECONDS = 5


@transaction.atomic
def ensure(**_: Any) -> None:
    """This will add the built-in templates and their default pools where they are missing."""
    if not all(_is_migrated(model) for model in (Template, Pool, Group)):
        return  # Somebody migrates only a part, or back.
    most = {LOCAL: settings.MAX_SANDBOXES, E2B: settings.E2B_MAX_SANDBOXES}
    size = sum(most[name] for name in settings.DEFAULT_RUNTIMES)
    for language, packages in _PACKAGES.items():
        template, _created = Template.objects.get_or_create(
            account=None,
            name=language,
            defaults={"language": language, "packages": packages, "state": Template.State.READY},
        )
        pool, is_new = Pool.objects.get_or_create(
            account=None,
            name=language,
            defaults={
                "template": template,
                "min_size": min(LEAST_READY, size),
                "max_size": size,
                "size": size,
            },
        )
        if is_new and language == SCALED:
            _scale(pool)


def _is_migrated(model: type[Model]) -> bool:
    with connection.cursor() as cursor:
        if model._meta.db_table not in connection.introspection.table_names(cursor):
            return False
        there = {column.name for column in connection.introspection.get_table_description(cursor, model._meta.db_table)}
    return {field.column for field in model._meta.local_concrete_fields} <= there


def _scale(pool: Pool) -> None:
    """A group for a pool that has just been made: one that an operator removed later does not come back."""
    wanted = Policy(min=pool.min_size, max=pool.max_size, target_backlog_seconds=BACKLOG_SECONDS)
    with suppress(autoscaler.GroupExists):
        autoscaler.create(name=GROUP, target_type="pool", target_id=str(pool.pk), wanted=wanted, now=timezone.now())
