"""Rate limits: a sliding minute per key, person or address, counted in Redis by one atomic script.

Two fixed minutes are kept; the past one counts by how much of it the sliding minute still covers.
Redis away means no limit rather than no service. Off under the test clock, whose jumps would mean nothing here.
"""

from __future__ import annotations

import logging
import time
from typing import Any, NamedTuple

import redis
from django.conf import settings
from django.http import HttpRequest
from rest_framework import throttling
from rest_framework.request import Request

from ntd_site.problems import Problem

log = logging.getLogger(__name__)
WINDOW_SECONDS = 60
# Refused calls are not counted, so a client that waits as told gets through.
SCRIPT = """
local now = redis.call('TIME')
local seconds = tonumber(now[1]) + tonumber(now[2]) / 1000000
local window, limit = tonumber(ARGV[1]), tonumber(ARGV[2])
local minute = math.floor(seconds / window)
local into = seconds - minute * window
local this, past = KEYS[1] .. minute, KEYS[1] .. (minute - 1)
local used = tonumber(redis.call('GET', this) or 0)
local before = tonumber(redis.call('GET', past) or 0)
local count = used + before * (window - into) / window
if count + 1 > limit then
  local wait = (count + 1 - limit) * window / math.max(before, 1)
  if used + 1 > limit then wait = window - into + window * (1 - (limit - 1) / used) end
  return {0, 0, tostring(wait), tostring((minute + 1) * window)}
end
redis.call('INCR', this)
redis.call('EXPIRE', this, window * 2)
return {1, math.floor(limit - count - 1), '0', tostring((minute + 1) * window)}
"""


class Rate(NamedTuple):
    """How one caller stands: `reset` is the Unix time at which this minute ends."""

    allowed: bool
    limit: int
    remaining: int
    reset: int
    wait: float


_script: Any = None


def take(identity: str, *, limit: int) -> Rate:
    """Count one call of `identity`, unless it is over its limit."""
    global _script
    free = Rate(True, limit, limit, int(time.time()) + WINDOW_SECONDS, 0.0)
    if settings.NTD_TEST_CLOCK and settings.DEBUG:
        return free
    if _script is None:
        _script = redis.Redis.from_url(settings.REDIS_URL, socket_timeout=1).register_script(SCRIPT)
    try:
        allowed, remaining, wait, reset = _script(keys=[f"ntd:rate:{identity}:"], args=[WINDOW_SECONDS, limit])
    except redis.RedisError as error:
        log.warning("rate limits are off: %s", error)
        return free
    return Rate(bool(allowed), limit, int(remaining), int(float(reset)), float(wait))


def refuse_beyond(request: HttpRequest, identity: str, *, limit: int) -> None:
    """Count this request once and raise `rate_limited` when the caller is over the limit."""
    rate = request.rate = take(identity, limit=limit)
    if not rate.allowed:
        raise Problem("rate_limited", f"More than {limit} calls in a minute.", retry_after=rate.wait)


def refuse_stranger(request: HttpRequest) -> None:
    """Count a call without valid credentials against its address, so that keys cannot be guessed at speed."""
    refuse_beyond(request, f"address:{address(request)}", limit=settings.RATE_LIMIT_PER_MINUTE)


def address(request: HttpRequest) -> str:
    """Where the request comes from; behind our proxy the last hop that proxy saw."""
    forwarded = request.META.get("HTTP_X_FORWARDED_FOR", "")
    if settings.NTD_BEHIND_PROXY and forwarded:
        return str(forwarded).rsplit(",", 1)[-1].strip()
    return str(request.META.get("REMOTE_ADDR") or "local")


class PerMinuteThrottle(throttling.BaseThrottle):
    """Calls per key (or person, or agent) and minute; a key may have its own number."""

    def allow_request(self, request: Request, view: Any) -> bool:
        principal = request.user
        if not getattr(principal, "is_authenticated", False):
            refuse_stranger(request._request)
            return True
        own = getattr(getattr(principal, "key", None), "rate_limit_per_minute", None)
        identity = f"{type(principal).__name__}:{getattr(principal, 'pk', principal)}"
        refuse_beyond(request._request, identity, limit=own or settings.RATE_LIMIT_PER_MINUTE)
        return True
