"""A message that asks for a reply, and whoever waits for it.

A reply is a message to the asker with the request's correlation id, from whom was asked. In time, it is kept beside
the inbox for a caller that waits, who acknowledges it; should the caller have died, the inbox offers it after
`redelivery_seconds`. After the request's time it is refused a place in the inbox and is history (`late_reply`).
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from federation import bus, packs, store
from federation.models import Federation
from federation.packs import Draft, Item, Offer, Receipt

LOOK_SECONDS = 1.0


class NoReply(Exception):
    """Raised when nobody answered while the caller waited."""

    code = "timeout"

    def __init__(self, receipt: Receipt) -> None:
        super().__init__("No reply came in time. The request was accepted; a reply in its own time goes to the inbox.")
        self.extras = {"id": str(receipt.id), "correlation_id": receipt.correlation_id}


def ask(
    *, federation: Federation, draft: Draft, wait_seconds: float, clock: Callable[[], datetime]
) -> tuple[Receipt, Item]:
    """Send a request and wait for its reply. Raises NoReply and what `bus.send` does."""
    now = clock()
    receipt = bus.send(federation=federation, draft=draft._replace(awaited=True), now=now)
    name = f"{draft.sender}:{receipt.correlation_id}"
    with bus.answering():
        reply = _reply(name, wait_seconds, now + timedelta(seconds=draft.reply_timeout_seconds or 0), clock)
        if reply is None:
            raise NoReply(receipt)
        named = [part for pair in packs.masks([reply.id]).items() for part in pair]
        bus.run("acknowledge", federation.pk, clock(), str(draft.sender), *named)
    return receipt, reply


def _reply(name: str, wait_seconds: float, deadline: datetime, clock: Callable[[], datetime]) -> Item | None:
    end = time.monotonic() + wait_seconds
    answers = store.bus_key("answers", name)
    while (left := end - time.monotonic()) > 0 and clock() < deadline:
        found = store.client().xread({answers: "0-0"}, count=1, block=max(int(min(left, LOOK_SECONDS) * 1000), 1))
        if found:
            return _item(found[0][1][0][1])
    # From now on a reply goes to the inbox; one that came in this very moment is found here.
    if store.client().exists(store.bus_key("ask", name)):
        store.client().hset(store.bus_key("ask", name), "awaited", 0)
    found = store.client().xrange(answers, count=1)
    return _item(found[0][1]) if found else None


def _item(fields: dict[bytes, Any]) -> Item:
    offer = Offer(
        pack_id=fields[b"i"].decode(),
        header=json.loads(fields[b"h"]),
        path=json.loads(fields[b"p"]),
        expires_at=packs.moment(fields[b"x"]),
        delivery_count=1,
        to="",
    )
    return next(packs.items(offer, 0, fields[b"b"], b""))
