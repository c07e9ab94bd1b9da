"""Runs a command of manage.py; what it needs and is away is a sentence, not a traceback."""

from __future__ import annotations

import sys

from django.core.management import execute_from_command_line

AWAY = (
    "{what} does not answer: {why}\n"
    "Start the product first (manage.py up). If it runs, name its home or servers as it does: "
    "NTD_HOME, DATABASE_URL, REDIS_URL."
)


def run(argv: list[str]) -> None:
    """Exits with 1 where the database or Redis cannot be reached; --traceback shows how."""
    try:
        execute_from_command_line(argv)
    except Exception as error:
        what = _away(error)
        if what is None or "--traceback" in argv:
            raise
        sys.exit(AWAY.format(what=what, why=str(error).strip().partition("\n")[0]))


def _away(error: Exception) -> str | None:
    """What cannot be reached; None when it answered, and refused."""
    # Most commands need neither, so they are not loaded for every one.
    import psycopg
    import redis
    from django.db import OperationalError

    if isinstance(error, redis.ConnectionError):
        return "Redis"
    is_away = isinstance(error, OperationalError) and isinstance(error.__cause__, psycopg.OperationalError)
    return "The database" if is_away and error.__cause__.sqlstate is None else None
