from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from django.test import Client

from billing.models import Account
from tests import factories, ledger_cast

_number = itertools.count(1)


class Caller:
    """A client of the API with one key; POSTs carry an idempotency key of their own."""

    def __init__(self, account: Account, **key: Any) -> None:
        self.account = account
        _, secret = factories.make_key(account, **key)
        self._client = Client(headers={"Authorization": f"Bearer {secret}"})

    def get(self, path: str, **query: Any) -> Any:
        return self._client.get(f"/api/v1/{path}", query)

    def post(self, path: str, body: Any = None, *, key: str = "", headers: dict[str, str] | None = None) -> Any:
        headers = {"Idempotency-Key": key or f"key-{next(_number)}", **(headers or {})}
        return self._client.post(f"/api/v1/{path}", json.dumps(body or {}), "application/json", headers=headers)

    def patch(self, path: str, body: Any, **headers: str) -> Any:
        return self._client.patch(f"/api/v1/{path}", json.dumps(body), "application/json", headers=headers)


@pytest.fixture
def alice(db: None) -> Caller:
    return Caller(ledger_cast.make_account(1000))


@pytest.fixture
def charlie(db: None) -> Caller:
    return Caller(ledger_cast.make_account(1000))


@pytest.fixture
def stella(db: None) -> Caller:
    return Caller(ledger_cast.make_account(0), is_staff=True)
