"""When the scheduler and the workers were last heard, in Redis. Real time: a test clock must not age them."""

from __future__ import annotations

import time

from django.core.cache import cache

SILENT_AFTER_SECONDS = 30


def beat(part: str) -> None:
    cache.set(f"heard:{part}", time.time(), 3600)


def seconds_since(part: str) -> float | None:
    """None when it was never heard, or more than an hour ago."""
    heard = cache.get(f"heard:{part}")
    return None if heard is None else max(0.0, time.time() - float(heard))
