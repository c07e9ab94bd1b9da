from __future__ import annotations

import asyncio
from typing import Any

import pytest
from rest_framework.test import APIClient

from federation import consumers, store
from tests import factories
from tests.transports import Here, Rest, Socket


class Caller:
    """An API client that says what it did in few words."""

    def __init__(self, secret: str) -> None:
        self.client = APIClient()
        self.client.credentials(HTTP_AUTHORIZATION=f"Bearer {secret}")

    def get(self, path: str, **query: Any) -> Any:
        return self.client.get(f"/api/v1/{path}", query)

    def post(self, path: str, body: Any = None, **headers: Any) -> Any:
        return self.client.post(f"/api/v1/{path}", body or {}, format="json", headers=headers)

    def patch(self, path: str, body: Any, **headers: Any) -> Any:
        return self.client.patch(f"/api/v1/{path}", body, format="json", headers=headers)

    def delete(self, path: str) -> Any:
        return self.client.delete(f"/api/v1/{path}")


@pytest.fixture(autouse=True)
def _no_old_messages():
    store.client().delete(store.bus_key("history"))


@pytest.fixture
def account():
    return factories.make_account()


@pytest.fixture
def api(account):
    """Alice's key."""
    return Caller(factories.make_key(account)[1])


@pytest.fixture
def charlie():
    """A key of somebody else's account."""
    return Caller(factories.make_key(factories.make_account(factories.make_user("Charlie")))[1])


@pytest.fixture
def federation(account):
    return factories.make_federation(account)


@pytest.fixture
def as_agent():
    return lambda token: Caller(token)


@pytest.fixture
def loop(monkeypatch):
    """Where sockets live; their work is done in this thread and this transaction."""
    monkeypatch.setattr(consumers, "executor", Here())
    monkeypatch.setattr(consumers, "close_old_connections", lambda: None)
    found = asyncio.new_event_loop()
    yield found
    found.run_until_complete(asyncio.sleep(0))
    found.close()


@pytest.fixture(params=["rest", "websocket"])
def join(request, federation, loop):
    """Makes a remote agent and connects it, over each of the two transports."""
    connected = []

    def make(name="anna", **changes):
        agent, token = factories.make_agent_with_token(federation, name, **changes)
        connected.append(Rest(agent, token) if request.param == "rest" else Socket(agent, token, loop))
        return agent, connected[-1]

    yield make
    for each in connected:
        each.close()


@pytest.fixture
def socket(federation, loop):
    """Alice's agent at the socket."""
    agent, token = factories.make_agent_with_token(federation)
    found = Socket(agent, token, loop)
    yield found
    found.close()
