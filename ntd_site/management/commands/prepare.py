"""What `up` does before the product starts: checks, migrations, static files, the first operator, the sample.

Prints one JSON line: who signs in and how. Safe to run again at any time.
"""

from __future__ import annotations

import json
from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.conf import settings
from django.core.checks import Error, run_checks
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from django.db import OperationalError, connection

from ntd_site import first_run

LOCK = 0x6D696772  # "migr"


class Command(BaseCommand):
    help = __doc__ or ""
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--no-sample", action="store_true")
        parser.add_argument("--only-check", action="store_true", help="change nothing: for a worker's machine")

    def handle(self, *args: Any, no_sample: bool, only_check: bool, **options: Any) -> None:
        errors = [message for message in run_checks() if isinstance(message, Error) and not message.is_silenced()]
        if errors:
            self.stdout.write("\n".join(f"{error.msg} {error.hint or ''}".strip() for error in errors))
            raise SystemExit(1)
        self._reach_database()
        if only_check:
            self.stdout.write("{}")
            return
        with _alone():
            call_command("migrate", verbosity=0, interactive=False)
        if not settings.DEBUG:
            call_command("collectstatic", verbosity=0, interactive=False)
        self.stdout.write(json.dumps(first_run.ensure(sample=not no_sample)))

    def _reach_database(self) -> None:
        try:
            connection.ensure_connection()
        except OperationalError as error:
            reason = str(error).strip().splitlines()[0]
            self.stdout.write(f"Cannot reach the PostgreSQL of DATABASE_URL: {reason}. Correct it, or unset it.")
            raise SystemExit(1) from error
        if connection.pg_version < 150000:
            raise CommandError("ntd needs PostgreSQL 15 or newer.")


@contextmanager
def _alone() -> Iterator[None]:
    """Who comes second waits, and finds nothing left to do. A lock of this session, so nobody waits for the dead."""
    with connection.cursor() as cursor:
        cursor.execute("select pg_advisory_lock(%s)", [LOCK])
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute("select pg_advisory_unlock(%s)", [LOCK])
