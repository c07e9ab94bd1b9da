"""`Idempotency-Key` for every POST of the API.

    key unknown          -> row inserted (running), the view runs, its answer is stored (answered)
    key known, answered  -> same request: the stored answer, `Idempotent-Replayed: true`; other request: 422
    key known, running   -> 409 with Retry-After, while its runner lives; then a repeat takes over
    answer 5xx, 401-403, 402, 429 -> not kept: the key is free again

`Gate` is asked by DRF last of all before the view (in the place of a throttle), so whoever repeats a
request is authenticated and allowed anew. `IdempotencyMiddleware` stores what came out.

A runner holds an advisory lock of its database session as long as it runs. When its process dies, the database
closes the session and the lock is free that moment; a process that is only slow, or stopped, still holds it.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import Error, connection
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from rest_framework import exceptions, throttling
from rest_framework.request import Request
from uuid_utils.compat import uuid7

from billing.models import IdempotencyRecord
from ntd_site.problems import Problem

KEY = re.compile(r"[\x21-\x7e]{1,255}")
# For whoever the database cannot see die, as when its machine lost the network. Longer than the longest `?wait=`.
LEASE = timedelta(seconds=120)
RETRY_SECONDS = 1
KEPT = timedelta(hours=48)
NOT_KEPT = frozenset({401, 402, 403, 429})
KEPT_HEADERS = ("Location", "ETag", "Retry-After", "PAYMENT-RESPONSE")
SECRET = re.compile(r"(ntd|nta|ntn|e2b|whsec)_[A-Za-z0-9_\-+/=]{16,}")
Respond = Callable[[HttpRequest], HttpResponse]


@dataclass(frozen=True)
class Claim:
    """This request's right to answer for a key."""

    record: UUID
    runner: UUID
    secret_fields: tuple[str, ...]


class Replayed(exceptions.APIException):
    """Raised instead of running the view: the answer is here already."""

    def __init__(self, record: IdempotencyRecord) -> None:
        super().__init__()
        headers = {**record.headers, "Idempotent-Replayed": "true"}
        # problems.py returns it as it is.
        self.answer = HttpResponse(
            bytes(record.body or b""), status=record.status, content_type=record.content_type, headers=headers
        )


class Gate(throttling.BaseThrottle):
    """Lets the first request of a key through and raises for every other."""

    def allow_request(self, request: Request, view: Any) -> bool:
        if request.method != "POST":
            return True
        key = request.headers.get("Idempotency-Key")
        if key is None:
            if is_required(view):
                raise _invalid("This request needs an Idempotency-Key header.")
            return True
        if not KEY.fullmatch(key):
            raise _invalid("Must be 1 to 255 visible ASCII characters.")
        http = request._request
        address = _address(http, key=key)
        claim = _claim(http, address=address, secret_fields=tuple(getattr(view, "secret_fields", ())))
        http.idempotency = claim
        return True


def is_required(view: Any) -> bool:
    """`idempotency_required` of a view: for all its acts, or a set of action names."""
    required = getattr(view, "idempotency_required", False)
    return required if isinstance(required, bool) else getattr(view, "action", None) in required


def _invalid(sentence: str) -> exceptions.ValidationError:
    return exceptions.ValidationError({"Idempotency-Key": [sentence]})


def _address(request: HttpRequest, *, key: str) -> str:
    account = getattr(request, "account", None)
    # Staff without an account, or an agent: the scope is whoever asks.
    scope = f"account {account.pk}" if account else f"principal {getattr(request.user, 'pk', '')}"
    return _digest(scope, str(request.method), request.path_info, key)


def request_hash(request: HttpRequest) -> str:
    """One value for equal requests: canonical JSON, and the query without `wait` and `account`."""
    try:
        body = json.dumps(json.loads(request.body or b"null"), sort_keys=True, separators=(",", ":"))
    except (ValueError, RecursionError):
        body = hashlib.sha256(request.body).hexdigest()
    query = sorted((name, values) for name, values in request.GET.lists() if name not in ("wait", "account"))
    return _digest(body, json.dumps(query))


def _digest(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode("utf-8", "surrogatepass")).hexdigest()


def _claim(request: HttpRequest, *, address: str, secret_fields: tuple[str, ...]) -> Claim:
    now, hashed = timezone.now(), request_hash(request)
    claim = Claim(record=uuid7(), runner=uuid7(), secret_fields=secret_fields)
    if _is_first(claim, address=address, path=request.path_info, hashed=hashed, now=now):
        return claim
    try:
        record = _met(address=address, hashed=hashed, runner=claim.runner, now=now)
    except BaseException:
        _unlock(claim.runner)
        raise
    return replace(claim, record=record.pk)


def _is_first(claim: Claim, *, address: str, path: str, hashed: str, now: datetime) -> bool:
    """One statement locks the runner and inserts its row, so that nobody sees the row of a runner without its lock."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            with living as materialized (select pg_advisory_lock(%s))
            insert into billing_idempotencyrecord
                (id, address, path, request_hash, state, runner, leased_until, content_type, headers, created_at)
            select %s, %s, %s, %s, 'running', %s, %s, '', '{}', %s from living
            on conflict (address) do nothing
            """,
            [_lock_of(claim.runner), claim.record, address, path, hashed, claim.runner, now + LEASE, now],
        )
        return bool(cursor.rowcount)


def _lock_of(runner: UUID) -> int:
    """Its 62 random bits, as the signed number that the database locks."""
    return int.from_bytes(runner.bytes[8:], "big", signed=True)


def _unlock(runner: UUID) -> None:
    # A session that broke took its lock along.
    with suppress(Error), connection.cursor() as cursor:
        cursor.execute("select pg_advisory_unlock(%s)", [_lock_of(runner)])


def _is_dead(runner: UUID) -> bool:
    with connection.cursor() as cursor:
        cursor.execute("select pg_try_advisory_lock(%s)", [_lock_of(runner)])
        (is_free,) = cursor.fetchone()
    if is_free:
        _unlock(runner)
    return bool(is_free)


def _met(*, address: str, hashed: str, runner: UUID, now: datetime) -> IdempotencyRecord:
    """What to do with a key that exists: replay, refuse, or take over from a runner that died."""
    record = IdempotencyRecord.objects.filter(address=address).first()
    if record is None:  # its first request failed and freed the key this very moment
        raise _still_running()
    if record.request_hash != hashed:
        raise Problem("idempotency_key_reused", "This Idempotency-Key was used with another request.")
    if record.state == IdempotencyRecord.State.ANSWERED:
        raise Replayed(record)
    if record.leased_until > now and not _is_dead(record.runner):
        raise _still_running()
    taken = IdempotencyRecord.objects.filter(pk=record.pk, runner=record.runner, state=IdempotencyRecord.State.RUNNING)
    if not taken.update(runner=runner, leased_until=now + LEASE):
        raise _still_running()
    return record


def _still_running() -> Problem:
    return Problem(
        "conflict",
        "The first request with this Idempotency-Key is still running.",
        retry_after=RETRY_SECONDS,
        state="running",
    )


class IdempotencyMiddleware:
    """Stores the answer of a claimed key, or frees the key when the answer must not be kept."""

    def __init__(self, get_response: Respond) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        try:
            response = self.get_response(request)
            if (claim := getattr(request, "idempotency", None)) is not None:
                _settle(claim, response)
            return response
        finally:
            if (claim := getattr(request, "idempotency", None)) is not None:
                _unlock(claim.runner)


def _settle(claim: Claim, response: HttpResponse) -> None:
    held = IdempotencyRecord.objects.filter(pk=claim.record, runner=claim.runner)
    if response.status_code >= 500 or response.status_code in NOT_KEPT or response.streaming:
        held.delete()
        return
    held.update(
        state=IdempotencyRecord.State.ANSWERED,
        status=response.status_code,
        content_type=response.headers.get("Content-Type", ""),
        headers={name: response.headers[name] for name in KEPT_HEADERS if name in response.headers},
        body=without_secrets(response.content, fields=claim.secret_fields),
    )


def without_secrets(content: bytes, *, fields: tuple[str, ...]) -> bytes:
    """The answer with null in place of each secret: by the view's `secret_fields`, and by how ours look."""
    if not fields and not SECRET.search(content.decode("utf-8", "replace")):
        return content
    try:
        return json.dumps(_cleaned(json.loads(content), fields)).encode()
    except ValueError:
        return content


def _cleaned(value: Any, fields: tuple[str, ...]) -> Any:
    if isinstance(value, dict):
        return {name: None if name in fields else _cleaned(inner, fields) for name, inner in value.items()}
    if isinstance(value, list):
        return [_cleaned(inner, fields) for inner in value]
    return None if isinstance(value, str) and SECRET.fullmatch(value) else value


def sweep(*, now: datetime) -> int:
    """Forget answers older than we promise to keep them."""
    return IdempotencyRecord.objects.filter(created_at__lt=now - KEPT).delete()[0]
