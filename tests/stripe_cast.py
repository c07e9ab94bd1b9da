"""What tests of Stripe need beside the cast: credits paid with one of its cards, and its webhooks."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from billing import gateway_webhooks, methods
from billing.models import Account, Payment
from tests.fake_stripe import FakeStripe
from tests.payment_cast import buy, now


def pay(account: Account, token: str = "pm_card_visa", credits: int = 100) -> Payment:
    return buy(account, credits, str(methods.add(account=account, token=token, gateway="stripe", now=now()).pk))


def deliver(server: FakeStripe, arrange: Callable[[list[Any]], Iterable[Any]] = list) -> None:
    """Its webhooks arrive, arranged so."""
    for body, headers in arrange(list(server.webhooks())):
        gateway_webhooks.receive(gateway="stripe", body=body, headers=headers, now=now())
