from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from billing.models import Account
from tests import fake_stripe, ledger_cast


@pytest.fixture
def server(settings: Any) -> Iterator[fake_stripe.FakeStripe]:
    with fake_stripe.serving() as server:
        settings.STRIPE_API_KEY, settings.STRIPE_API_URL = fake_stripe.KEY, server.url
        settings.STRIPE_WEBHOOK_SECRETS = [fake_stripe.SECRET]
        yield server


@pytest.fixture
def account(db: None) -> Account:
    return ledger_cast.make_account(credits=0)
