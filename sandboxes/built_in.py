"""The templates and pools that exist from the start, on every database, and what scales them.

Run after every migrate (and every flush, so tests have them), as Django does for its permissions.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from django.conf import settings
from django.db import connection, transaction
from django.utils import timezone

from sandboxes.models import Pool, Template
from scaling import autoscaler
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
    if Pool._meta.db_table not in connection.introspection.table_names():
        return  # Somebody migrates only a part, or back.
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
                "min_size": min(LEAST_READY, settings.MAX_SANDBOXES),
                "max_size": settings.MAX_SANDBOXES,
                "size": settings.MAX_SANDBOXES,
            },
        )
        if is_new and language == SCALED:
            _scale(pool)


def _scale(pool: Pool) -> None:
    """A group for a pool that has just been made: one that an operator removed later does not come back."""
    wanted = Policy(min=pool.min_size, max=pool.max_size, target_backlog_seconds=BACKLOG_SECONDS)
    with suppress(autoscaler.GroupExists):
        autoscaler.create(name=GROUP, target_type="pool", target_id=str(pool.pk), wanted=wanted, now=timezone.now())
