from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.test import Client

from tests import factories, ledger_cast, page_cast


@pytest.fixture
def alice(client: Client) -> Iterator[Client]:
    """On the pages of her account, which has 1,000 credits; whatever she does, the books are right."""
    yield page_cast.signed_in(client, ledger_cast.make_account(1000))
    ledger_cast.assert_books_are_right()


@pytest.fixture
def stella(alice: Client) -> Client:
    """On the pages of Alice's account."""
    alice.force_login(factories.make_staff())
    return alice
