"""What `up` does before the product starts."""

from __future__ import annotations

from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection
from django.db.models.signals import pre_migrate

from ntd_site.management.commands.prepare import LOCK

pytestmark = pytest.mark.django_db


def may_migrate_too() -> bool:
    """Whether another machine might begin now."""
    other: Any = type(connection.copy())(connection.settings_dict, "other")
    try:
        with other.cursor() as cursor:
            cursor.execute("select pg_try_advisory_lock(%s)", [LOCK])
            return bool(cursor.fetchone()[0])
    finally:
        other.close()


def test_one_machine_at_a_time_applies_migrations(settings):
    settings.DEBUG = True  # no static files to collect
    seen = set()

    def look(**_: Any) -> None:
        seen.add(may_migrate_too())

    pre_migrate.connect(look)
    try:
        call_command("prepare", "--no-sample", stdout=StringIO())
    finally:
        pre_migrate.disconnect(look)

    assert (seen, may_migrate_too()) == ({False}, True)
