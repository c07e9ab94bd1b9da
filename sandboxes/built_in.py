"""The templates and pools that exist from the start, on every database.

Run after every migrate (and every flush, so tests have them), as Django does for its permissions.
"""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.db import connection, transaction

from sandboxes.models import Pool, Template

PYTHON_PACKAGES = ["numpy", "pandas"]
LEAST_READY = 2
_PACKAGES = {"python": PYTHON_PACKAGES, "node": []}


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
        Pool.objects.get_or_create(
            account=None,
            name=language,
            defaults={
                "template": template,
                "min_size": min(LEAST_READY, settings.MAX_SANDBOXES),
                "max_size": settings.MAX_SANDBOXES,
            },
        )
