"""Conversations with servers elsewhere, all in one thread with an event loop, so that slow ones hold up no worker."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from django.db import close_old_connections

THREADS = 4
log = logging.getLogger(__name__)
_starting = threading.Lock()
_loop: asyncio.AbstractEventLoop | None = None
_after = ThreadPoolExecutor(THREADS, thread_name_prefix="servers")


def talk(conversation: Coroutine[Any, Any, Any], *, then: Callable[[Any], None]) -> None:
    """Have it, and do what follows in a thread that may use the database. Returns at once."""

    async def have() -> None:
        found = await conversation
        await run(then, found)

    future = asyncio.run_coroutine_threadsafe(have(), _running_loop())
    future.add_done_callback(_report)


async def run(work: Callable[..., Any], *given: Any) -> Any:
    """In a thread that may use the database."""
    return await asyncio.get_running_loop().run_in_executor(_after, _with_connection, work, given)


def _with_connection(work: Callable[..., Any], given: tuple[Any, ...]) -> Any:
    try:
        return work(*given)
    finally:
        close_old_connections()


def _report(future: Any) -> None:
    if future.exception() is not None:
        log.error("a conversation was lost", exc_info=future.exception())


def _running_loop() -> asyncio.AbstractEventLoop:
    global _loop
    with _starting:
        if _loop is None:
            _loop = asyncio.new_event_loop()
            threading.Thread(target=_loop.run_forever, name="servers", daemon=True).start()
        return _loop
