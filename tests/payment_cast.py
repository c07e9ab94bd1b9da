"""What tests of payments need beside the cast: payments at some point of their way, and webhooks as gateways sign them."""

from __future__ import annotations

import contextlib
import itertools
import json
from datetime import datetime
from typing import Any

from django.conf import settings
from django.utils import timezone

from billing import gateway_webhooks, intents, methods, payments, settlement, tasks
from billing.gateways import AnswerLost, registry, signatures
from billing.models import Account, GatewayWebhook, Payment
from tests.ledger_cast import UCR

SECRET = "whsec_bnRkLXRlc3Qtc2VjcmV0LW9mLXRoaXJ0eS1ieXRlcw=="
_number = itertools.count(1)


def now() -> datetime:
    return timezone.now()


def buy(
    account: Account, credits: int, method: str | None = "sim_ok", *, key: str = "", at: datetime | None = None
) -> Payment:
    return payments.top_up(
        account=account, credits_ucr=credits * UCR, method=method, key=key or f"key {next(_number)}", now=at or now()
    )


def opened(account: Account, credits: int, method: str = "sim_ok", *, key: str = "") -> Payment:
    """A payment whose sender died before it sent anything."""
    chosen = methods.choose(account=account, named=method)
    said = {"account": account, "credits_ucr": credits * UCR, "chosen": chosen, "now": now()}
    return intents.open_top_up(key=key or f"key {next(_number)}", **said)[0]


def send_and_crash(payment: Payment) -> None:
    """The gateway does its part, and we die before its answer is written down."""
    with contextlib.suppress(AnswerLost):
        registry.of(payment.gateway).create(settlement.order(payment))


def send_webhooks() -> None:
    """What the simulated gateway has to say, arrives."""
    tasks.send_simulated_webhooks()


def webhooks() -> list[GatewayWebhook]:
    return list(GatewayWebhook.objects.order_by("received_at", "pk"))


def effects(payment: Payment) -> list[tuple[str, str, str]]:
    return [(event.source, event.state, event.effect) for event in payment.events.order_by("created_at", "pk")]


def event(payment: Payment | str, type: str = "payment.succeeded", **changes: Any) -> dict[str, Any]:
    about = str(payment.pk) if isinstance(payment, Payment) else payment
    made = {"id": f"evt_{next(_number)}", "type": type, "created_at": now().isoformat(), "data": {"payment": about}}
    return made | changes


def signed(body: bytes, *, secret: str = "", at: datetime | None = None, id: str = "msg") -> dict[str, str]:
    return signatures.sign(body, secret=secret or settings.GATEWAY_SECRETS["simulated"][0], id=id, now=at or now())


def deliver(said: dict[str, Any], **how: Any) -> GatewayWebhook:
    body = json.dumps(said).encode()
    return gateway_webhooks.receive(gateway="simulated", body=body, headers=signed(body, **how), now=now())
