"""What tests of outgoing webhooks need beside the cast: endpoints of a fake receiver, events, and a clock to move."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import transaction
from django.utils import timezone
from standardwebhooks import Webhook

from billing import accounts
from billing.models import Account, OutgoingEvent, Role, User, WebhookDelivery, WebhookEndpoint
from billing.outgoing import courier, endpoints, outbox
from tests import factories
from tests.fake_receiver import Got

_number = itertools.count(1)


def make_endpoint(account: Account, url: str = "https://example.com/hook", **changes: Any) -> WebhookEndpoint:
    wanted: dict[str, Any] = {"events": ["*"], "by": User(), "now": timezone.now()} | changes
    return endpoints.create(account=account, url=url, **wanted)


def tell(account: Account | None, type: str = "credits.low", **changes: Any) -> OutgoingEvent | None:
    wanted: dict[str, Any] = {"data": {"number": next(_number)}, "now": timezone.now()} | changes
    with transaction.atomic():
        return outbox.publish(account_id=account.pk if account else None, type=type, **wanted)


def told(got: Got, secret: str) -> dict[str, Any]:
    """The body of a webhook, if the reference library finds it signed with this secret."""
    return dict(Webhook(secret).verify(got.body, got.headers))


def deliveries(endpoint: WebhookEndpoint) -> list[WebhookDelivery]:
    return list(endpoint.deliveries.order_by("created_at", "pk"))


def outcome(endpoint: WebhookEndpoint) -> tuple[str, int | None, str]:
    only = endpoint.deliveries.get()
    return only.state, only.status, only.error


def types(account: Account) -> list[str]:
    """What was told, oldest first."""
    return list(OutgoingEvent.objects.filter(account=account).order_by("pk").values_list("type", flat=True))


def body(got: Got) -> dict[str, Any]:
    return dict(json.loads(got.body))


class Clock:
    """`timezone.now`, which goes on only by `pass_time`, so that what is due in days is sent at once."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.now = timezone.now()
        patch.setattr(timezone, "now", lambda: self.now)

    def pass_time(self, **how: float) -> datetime:
        self.now += timedelta(**how)
        return self.now


def until_nothing_is_due(clock: Clock, endpoint: WebhookEndpoint, *, then: Callable[[], object] = courier.work) -> int:
    """Wait for each next attempt and make it; returns how many were made."""
    made = 0
    while True:
        due = endpoint.deliveries.filter(state="pending").order_by("due_at").values_list("due_at", flat=True).first()
        if due is None:
            return made
        clock.now = max(clock.now, due)
        then()
        made += 1


def make_staff_of(account: Account) -> User:
    """Somebody of staff who is a member of this account."""
    stella = factories.make_staff()
    accounts.add_member(account=account, user=stella, role=Role.OWNER)
    return stella


def make_account() -> Account:
    return factories.make_account()
