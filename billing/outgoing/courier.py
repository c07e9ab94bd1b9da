"""Sends what is due. One courier works at a time, and sends many deliveries at once.

    claimed (due_at moves ahead, committed)  ->  the request  ->  recorded (committed)

A crash in between leaves a delivery that is due again when its lease ends: told twice perhaps, never lost. Each
endpoint has only a few requests under way, and those that fail share a part of the room, so a slow one holds up
nobody but itself. The requests run in one thread's event loop; the database is spoken to from this one.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import json
import logging
import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from uuid import UUID

from django.db import connection, transaction
from django.utils import timezone

from billing import live
from billing.gateways import signatures
from billing.models import WebhookAttempt, WebhookDelivery, WebhookEndpoint
from billing.outgoing import backoff, endpoints, wire

ROOM = 64
# Of it, for endpoints whose last attempt failed: they are likely to take all of their time.
ROOM_FOR_FAILING = 24
AT_ONCE = 4
LEASE = timedelta(seconds=60)
# While requests are under way, how often to look whether more is due.
LOOK_SECONDS = 0.2
# Then another worker may take over.
SHIFT_SECONDS = 60.0
LOCK = 0x77656268  # "webh"
# The first few that are due of each endpoint that is free; skipping what somebody else is claiming.
CLAIM = """
select d.id from billing_webhookendpoint e cross join lateral (
    select id, due_at from billing_webhookdelivery
     where endpoint_id = e.id and state = 'pending' and due_at <= %s
     order by due_at, id limit %s for update skip locked) d
 where e.off = '' and (e.failing_since is not null) = %s and not e.id = any(%s)
 order by d.due_at limit %s
"""
State = WebhookDelivery.State
log = logging.getLogger(__name__)


@dataclass
class Shift:
    """What is under way: each request with its delivery."""

    loop: asyncio.AbstractEventLoop
    sent: dict[concurrent.futures.Future[wire.Answer], WebhookDelivery] = field(default_factory=dict)

    def busy(self) -> list[UUID]:
        return [each.endpoint_id for each in self.sent.values()]

    def failing(self) -> int:
        return sum(1 for each in self.sent.values() if each.endpoint.failing_since is not None)


def is_due() -> bool:
    waiting = WebhookDelivery.objects.filter(state=State.PENDING, due_at__lte=timezone.now(), endpoint__off="")
    return waiting.exists()


def work(*, shift_seconds: float = SHIFT_SECONDS) -> int:
    """Send until nothing is due, unless another courier does; returns how many requests were made."""
    made = 0
    ends = time.monotonic() + shift_seconds
    # What came due after the last look, while the other still had the lock, is not left lying.
    while is_due() and time.monotonic() < ends:
        with _alone() as is_alone:
            if not is_alone:
                return made
            made += _shift(ends)
    return made


@contextmanager
def _alone() -> Iterator[bool]:
    """A lock of this session: it is free again when the process or its connection dies."""
    with connection.cursor() as cursor:
        cursor.execute("select pg_try_advisory_lock(%s)", [LOCK])
        taken = bool(cursor.fetchone()[0])
    try:
        yield taken
    finally:
        if taken:
            with connection.cursor() as cursor:
                cursor.execute("select pg_advisory_unlock(%s)", [LOCK])


def _shift(ends: float) -> int:
    made = 0
    with _loop() as loop:
        shift = Shift(loop)
        while True:
            if time.monotonic() < ends:
                made += _send_due(shift)
            if not shift.sent:
                return made
            done, _ = concurrent.futures.wait(
                shift.sent, timeout=LOOK_SECONDS, return_when=concurrent.futures.FIRST_COMPLETED
            )
            for each in done:
                record(shift.sent.pop(each), _answer(each))


def _answer(done: concurrent.futures.Future[wire.Answer]) -> wire.Answer:
    try:
        return done.result()
    except Exception as wrong:  # one odd server must not end the deliveries of all others
        log.exception("a webhook could not be sent")
        return wire.Answer(None, 0, error=f"{type(wrong).__name__}: {wrong}"[:300])


@contextmanager
def _loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="webhook-requests", daemon=True)
    thread.start()
    try:
        yield loop
    finally:
        asyncio.run_coroutine_threadsafe(_give_up(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _give_up() -> None:
    """What is still under way when a shift fails; it is due again when its lease ends."""
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for each in left:
        each.cancel()
    await asyncio.gather(*left, return_exceptions=True)


def _send_due(shift: Shift) -> int:
    claimed = claim(room=ROOM - len(shift.sent), busy=shift.busy(), is_failing=False)
    left = min(ROOM - len(shift.sent) - len(claimed), ROOM_FOR_FAILING - shift.failing())
    claimed += claim(room=left, busy=shift.busy(), is_failing=True)
    for each in claimed:
        request = request_of(each)
        shift.sent[asyncio.run_coroutine_threadsafe(wire.send(**request), shift.loop)] = each
    return len(claimed)


@transaction.atomic
def claim(*, room: int, busy: list[UUID], is_failing: bool) -> list[WebhookDelivery]:
    """Take so many that are due, of endpoints that are not busy: until the lease ends nobody else takes them."""
    if room <= 0:
        return []
    now = timezone.now()
    with connection.cursor() as cursor:
        cursor.execute(CLAIM, [now, 1 if is_failing else AT_ONCE, is_failing, busy, room])
        ids = [row[0] for row in cursor.fetchall()]
    if not ids:
        return []
    WebhookDelivery.objects.filter(pk__in=ids).update(due_at=now + LEASE)
    rows = WebhookDelivery.objects.filter(pk__in=ids).select_related("event", "endpoint")
    return list(rows.order_by("created_at", "pk"))


def request_of(delivery: WebhookDelivery) -> dict[str, object]:
    """What is sent: the same body each time, signed anew with every secret that is good now."""
    now, event = timezone.now(), delivery.event
    said = {
        "id": event.message_id,
        "type": event.type,
        "timestamp": event.created_at.isoformat().replace("+00:00", "Z"),
        "account": str(event.account_id) if event.account_id else None,
        "data": event.data,
    }
    body = json.dumps(said, sort_keys=True, separators=(",", ":")).encode()
    each = [
        signatures.sign(body, secret=secret, id=event.message_id, now=now) for secret in delivery.endpoint.secrets(now)
    ]
    both = " ".join(headers[signatures.SIGNATURE] for headers in each)
    fixed = {"Content-Type": "application/json", "User-Agent": "ntd-webhooks/1"}
    return {"url": delivery.endpoint.url, "body": body, "headers": {**each[0], signatures.SIGNATURE: both, **fixed}}


@transaction.atomic
def record(delivery: WebhookDelivery, answer: wire.Answer) -> None:
    """Write down an attempt, and decide what comes of it. What was removed meanwhile is forgotten."""
    now = timezone.now()
    # The endpoint first, as whoever switches it off does.
    endpoint = WebhookEndpoint.objects.select_for_update(no_key=True).filter(pk=delivery.endpoint_id).first()
    row = WebhookDelivery.objects.select_for_update().filter(pk=delivery.pk).first()
    if row is None or endpoint is None:
        return
    row.attempts += 1
    WebhookAttempt.objects.create(
        delivery=row,
        number=row.attempts,
        status=answer.status,
        duration_ms=answer.duration_ms,
        excerpt=answer.excerpt,
        error=answer.error,
        created_at=now,
    )
    row.status, row.error = answer.status, answer.error
    _decide(row, answer)
    row.save(update_fields=["attempts", "status", "error", "state", "due_at", "finished_at"])
    _judge_endpoint(endpoint, answer)
    live.deliveries_changed(endpoint.account_id, endpoint.pk)


def _decide(row: WebhookDelivery, answer: wire.Answer) -> None:
    now = timezone.now()
    if backoff.is_success(answer.status):
        row.state, row.due_at, row.finished_at = State.DELIVERED, None, now
    if row.state != State.PENDING:
        return  # Or it was given up meanwhile.
    asked = backoff.retry_after(answer.status, answer.retry_after)
    wait = backoff.next_wait(row.attempts, chance=random.random(), retry_after=asked)
    if wait is not None:
        row.due_at = now + wait
        return
    row.state, row.due_at, row.finished_at = State.FAILED, None, now


def _judge_endpoint(endpoint: WebhookEndpoint, answer: wire.Answer) -> None:
    """An endpoint that has failed for days is switched off, and so is one that says it is gone."""
    now = timezone.now()
    mine = WebhookEndpoint.objects.filter(pk=endpoint.pk)
    if backoff.is_success(answer.status):
        if endpoint.failing_since is not None:
            mine.update(failing_since=None)
        return
    if answer.status == backoff.GONE:
        endpoints.switch_off(endpoint=endpoint, why=WebhookEndpoint.Off.GONE, now=now)
    elif endpoint.failing_since is None:
        mine.filter(failing_since=None).update(failing_since=now)
    elif backoff.has_failed_for_days(endpoint.failing_since, now=now):
        endpoints.switch_off(endpoint=endpoint, why=WebhookEndpoint.Off.FAILING, now=now)
