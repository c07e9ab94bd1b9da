"""What tests of billing's pages do: somebody signed in looks at a page of an account, acts on it, and reads."""

from __future__ import annotations

from typing import Any

from django.test import Client
from django.urls import reverse

from billing.models import Account


def signed_in(client: Client, account: Account) -> Client:
    """As the account's owner, on its pages."""
    client.force_login(account.memberships.get().user)
    client.account = account  # type: ignore[attr-defined]
    return client


def address(client: Client, name: str, /, *args: Any) -> str:
    return reverse(f"billing:{name}", args=[client.account, *args])  # type: ignore[attr-defined]


def page(client: Client, name: str, /, *args: Any, **query: Any) -> Any:
    return client.get(address(client, name, *args), query)


def act(client: Client, name: str, /, *args: Any, **given: Any) -> Any:
    """Press the button, and see where that leads."""
    return client.post(address(client, name, *args), given, follow=True)


def text(answer: Any) -> str:
    """As it reads: white space is one space."""
    return " ".join(answer.content.decode().split())
