"""Look at everything the product needs on this machine and say what is wrong and what to do."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import redis
from django.conf import settings
from django.core.checks import ERROR, run_checks
from django.core.management.base import BaseCommand
from django.db import DatabaseError, connection
from django.db.migrations.executor import MigrationExecutor

from federation import vectors
from ntd_site import embedded, running

LEAST_FREE_BYTES = 1_000_000_000


class Sick(Exception):
    """Raised by an examination: what is wrong, and what to do."""


class Command(BaseCommand):
    help = __doc__ or ""
    requires_system_checks: list[str] = []

    def handle(self, *args: Any, **options: Any) -> None:
        results = [self._examine(name, look) for name, look in EXAMINATIONS.items()]
        if not all(results):
            raise SystemExit(1)

    def _examine(self, name: str, look: Callable[[], str]) -> bool:
        try:
            self.stdout.write(f"ok    {name:<12} {look()}")
        except Sick as found:
            self.stdout.write(f"WRONG {name:<12} {found}")
            return False
        return True


def _settings() -> str:
    errors = [message for message in run_checks() if message.level >= ERROR]
    if errors:
        raise Sick(" ".join(f"{error.msg} {error.hint or ''}".strip() for error in errors))
    return f"environment {settings.NTD_ENV}, state in {settings.NTD_HOME}"


def _running() -> str:
    status = running.read(settings.PLACE)
    if status is None:
        raise Sick("The product is not up: python3 manage.py up")
    down = [part["name"] for part in status["parts"] if not part["pid"]]
    if down:
        raise Sick(f"Not running: {', '.join(down)}. See: manage.py logs {down[0]}")
    return f"{len(status['parts'])} parts at {status['url']}"


def _database() -> str:
    try:
        connection.ensure_connection()
        executor = MigrationExecutor(connection)
        pending = executor.migration_plan(executor.loader.graph.leaf_nodes())
    except DatabaseError as error:
        where = "the embedded one runs with `manage.py up`" if settings.EMBEDDED_POSTGRES else "correct DATABASE_URL"
        raise Sick(f"PostgreSQL does not answer ({str(error).strip().splitlines()[0]}); {where}.") from error
    if connection.pg_version < 150000:
        raise Sick(f"PostgreSQL {connection.pg_version // 10000} is too old; use 15 or newer.")
    if pending:
        raise Sick(f"{len(pending)} migrations are not applied: manage.py migrate")
    return f"PostgreSQL {connection.pg_version // 10000}, {'embedded' if settings.EMBEDDED_POSTGRES else 'external'}"


def _vectors() -> str:
    """No sickness: only searching the memory of agents needs it."""
    try:
        found = vectors.version()
    except DatabaseError as error:
        raise Sick("Cannot be asked while PostgreSQL does not answer.") from error
    return f"pgvector {found}" if found else vectors.advice()


def _redis() -> str:
    client = redis.Redis.from_url(settings.REDIS_URL, socket_timeout=3)
    try:
        found = client.info("server")
        policy = client.config_get("maxmemory-policy").get("maxmemory-policy", "noeviction")
    except redis.RedisError as error:
        where = "the embedded one runs with `manage.py up`" if settings.EMBEDDED_REDIS else "correct REDIS_URL"
        raise Sick(f"Redis does not answer ({error}); {where}.") from error
    if policy != "noeviction":
        raise Sick(f"Redis evicts ({policy}), which loses messages; set maxmemory-policy to noeviction.")
    return f"{found.get('server_name', 'redis')} {found.get('valkey_version', found['redis_version'])}"


def _disk() -> str:
    free = shutil.disk_usage(settings.NTD_HOME).free
    if free < LEAST_FREE_BYTES:
        raise Sick(f"Only {free / 1e6:.0f} MB are free for {settings.NTD_HOME}; make room.")
    return f"{free / 1e9:.0f} GB free"


def _servers() -> str:
    try:
        return f"{embedded.postgres_programs()}, {embedded.valkey_program()}"
    except embedded.CannotStart as error:
        raise Sick(str(error)) from error


def _sandboxes() -> str:
    command = [sys.executable, "-m", "sandboxes.daemon", "--check"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode:
        raise Sick(f"No engine isolates sandboxes here: {(done.stdout or done.stderr).strip()}")
    return done.stdout.strip().splitlines()[0]


EXAMINATIONS: dict[str, Callable[[], str]] = {
    "settings": _settings,
    "programs": _servers,
    "disk": _disk,
    "running": _running,
    "database": _database,
    "vectors": _vectors,
    "redis": _redis,
    "sandboxes": _sandboxes,
}
