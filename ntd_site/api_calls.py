"""Calls that API keys make, counted as they are served and charged by the minute.

    served -> HASH calls[minute:account:key] + 1 -> the minute is over -> one usage event, committed -> field removed

Redis says which minute it is, to whoever counts as to whoever charges, so nothing is added to a minute that is over.
A crash leaves the field, and the event's key is its name, so it is charged once. Redis away means calls that cost
nothing rather than no service. Off under the test clock, like rate limits.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache
from typing import Any, NamedTuple
from uuid import UUID

import redis
from django.conf import settings
from django.http import HttpRequest, HttpResponse

from billing import metering
from billing.models import Account, ApiKey
from ntd_site import clock

METER = "api_call"
SOURCE = "api-calls"
CALLS = "ntd:api-calls"
# Refused before or instead of being served; those free an Idempotency-Key too.
REFUSED = frozenset({401, 402, 403, 429})
SCRIPT = """
redis.call('HINCRBY', KEYS[1], math.floor(redis.call('TIME')[1] / 60) .. ':' .. ARGV[1], 1)
"""
log = logging.getLogger(__name__)
_mine = threading.local()


class Calls(NamedTuple):
    """How many calls a key made in a minute; `field` is where they are counted."""

    field: str
    minute: int
    account_id: UUID
    key_id: UUID
    count: int


def count(request: HttpRequest, response: HttpResponse) -> None:
    """Count a served call of a key, without waiting for Redis to say that it did.

    Looking at bills and paying them costs nothing; of a customer who may not spend nothing else does either.
    """
    key: ApiKey | None = getattr(request, "api_key", None)
    if key is None or key.account.status != Account.Status.ACTIVE or _is_free(request):
        return
    if response.status_code >= 500 or response.status_code in REFUSED or clock.is_on():
        return
    try:
        _tell("EVAL", SCRIPT, 1, CALLS, f"{key.account_id}:{key.pk}")
    except (redis.RedisError, OSError) as error:
        log.warning("a call was not counted: %s", error)


def _is_free(request: HttpRequest) -> bool:
    func = request.resolver_match.func if request.resolver_match else None
    acts = getattr(func, "actions", None) or {}
    method = str(request.method).lower()
    return is_free(getattr(func, "cls", None), acts.get("get" if method == "head" else method))


def is_free(view: Any, act: str | None) -> bool:
    """Whether a view says that calls of this act of it cost no credits."""
    return bool(getattr(view, "calls_are_free", False)) and act not in getattr(view, "charged_actions", ())


def _tell(*command: object) -> None:
    """Send a command on this thread's own connection, on which Redis does not answer."""
    connection = getattr(_mine, "connection", None)
    if connection is None:
        connection = _client().connection_pool.make_connection()
        connection.connect()
        connection.send_command("CLIENT", "REPLY", "OFF")
    _mine.connection = None  # one that failed is not used again: it would connect anew, and be answered
    connection.send_command(*command, check_health=False)
    _mine.connection = connection


@cache
def _client() -> redis.Redis:
    return redis.Redis.from_url(settings.REDIS_URL, socket_timeout=1, decode_responses=True)


def sweep(*, now: datetime) -> int:
    """Charge for every minute that is over; returns for how many keys and minutes. Twice at once is once."""
    charged = 0
    for calls in list(_over()):
        try:
            charged += _charge(calls, now)
        except (Account.DoesNotExist, metering.EventConflict) as why:
            # The customer is gone; or Redis came back with an older count of what was charged already.
            log.warning("%s calls are not charged: %s", calls.count, why)
        except Exception:
            log.exception("calls could not be charged, and are tried again: %s", calls.field)
            continue
        _client().hdel(CALLS, calls.field)
    return charged


def _over() -> Iterator[Calls]:
    """What was counted in minutes that are over."""
    seconds, _ = _client().time()
    for field, count in _client().hscan_iter(CALLS, count=1000):
        minute, account_id, key_id = field.split(":")
        if int(minute) < seconds // 60:
            yield Calls(field, int(minute), UUID(account_id), UUID(key_id), int(count))


def _charge(calls: Calls, now: datetime) -> bool:
    """As far as there are credits left: the calls were served. False when the account may not be charged any more."""
    if Account.objects.values_list("status", flat=True).get(pk=calls.account_id) != Account.Status.ACTIVE:
        return False
    metering.settle(
        account_id=calls.account_id,
        meter=METER,
        quantity=Decimal(calls.count),
        occurred_at=datetime.fromtimestamp(calls.minute * 60, UTC),
        now=now,
        key=f"{calls.key_id}:{calls.minute}",
        source=SOURCE,
        api_key=str(calls.key_id),
    )
    return True
