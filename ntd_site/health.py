"""`GET /health`: is this process alive (it answered), and is everything there that it needs to serve?"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from typing import NamedTuple

import redis
from django.conf import settings
from django.db import Error as DatabaseError
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from django.http import HttpRequest, JsonResponse
from django.views.decorators.http import require_safe

from ntd_site import heartbeats
from sandboxes import engine
from sandboxes.runtimes import E2B, LOCAL


class Part(NamedTuple):
    ok: bool
    detail: str


_migrated = False


@require_safe
def health(request: HttpRequest) -> JsonResponse:
    """200 when every part is ready, else 503; open to all, so it names parts and no addresses."""
    checks = CHECKS | ({"e2b": _e2b} if E2B in engine.names() else {})
    parts = {name: _timed(check) for name, check in checks.items()}
    ready = _is_ready(parts)
    body = {"status": "ok" if ready else "unavailable", "live": True, "ready": ready, "parts": parts}
    return JsonResponse(body, status=200 if ready else 503, headers={"Cache-Control": "no-store"})


def _is_ready(parts: dict[str, dict[str, object]]) -> bool:
    """Everything is there; of the places where code runs, one of those that pools use by default is enough."""
    needed = [part["ok"] for name, part in parts.items() if name not in RUNS.values()]
    places = [parts[RUNS[name]]["ok"] for name in settings.DEFAULT_RUNTIMES if RUNS[name] in parts]
    return all(needed) and any(places)


def _timed(check: Callable[[], Part]) -> dict[str, object]:
    started = time.perf_counter()
    part = check()
    milliseconds = round((time.perf_counter() - started) * 1000, 1)
    return {"ok": part.ok, "detail": part.detail, "milliseconds": milliseconds}


def _database() -> Part:
    try:
        with connection.cursor() as cursor:
            cursor.execute("select 1")
    except DatabaseError:
        return Part(False, "PostgreSQL does not answer.")
    return Part(True, "PostgreSQL answers.")


def _migrations() -> Part:
    """Looked at until they are all applied; they do not come undone under a running process."""
    global _migrated
    if not _migrated:
        try:
            executor = MigrationExecutor(connection)
            waiting = executor.migration_plan(executor.loader.graph.leaf_nodes())
        except DatabaseError:
            return Part(False, "PostgreSQL does not answer.")
        if waiting:
            return Part(False, f"{len(waiting)} migrations wait; run manage.py migrate.")
        _migrated = True
    return Part(True, "All applied.")


def _redis() -> Part:
    try:
        redis.Redis.from_url(settings.REDIS_URL, socket_timeout=1, socket_connect_timeout=1).ping()
    except redis.RedisError:
        return Part(False, "Redis does not answer.")
    return Part(True, "Redis answers.")


def _heard(part: str) -> Callable[[], Part]:
    def check() -> Part:
        try:
            seconds = heartbeats.seconds_since(part)
        except redis.RedisError:
            return Part(False, "Unknown while Redis does not answer.")
        if seconds is None:
            return Part(False, "Not heard in the last hour.")
        return Part(seconds <= heartbeats.SILENT_AFTER_SECONDS, f"Heard {seconds:.0f} s ago.")

    return check


def _sandbox_daemon() -> Part:
    try:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(1)
            client.connect(settings.SANDBOX_SOCKET)
    except OSError:
        return Part(False, "The sandbox daemon does not answer.")
    return Part(True, "The sandbox daemon answers.")


def _e2b() -> Part:
    """What is known of the key, which is asked about once a minute at most."""
    working = engine.is_up(E2B)
    return Part(working, "E2B takes the key." if working else "E2B does not answer, or not as it should.")


# Which part of these says whether code can run on a runtime.
RUNS = {LOCAL: "sandbox_daemon", E2B: "e2b"}
CHECKS: dict[str, Callable[[], Part]] = {
    "database": _database,
    "migrations": _migrations,
    "redis": _redis,
    "workers": _heard("workers"),
    "scheduler": _heard("scheduler"),
    "sandbox_daemon": _sandbox_daemon,
}
