"""The HTTP promises about disputes."""

from __future__ import annotations

import pytest

from tests import payment_cast

pytestmark = pytest.mark.django_db


def test_disputes_are_listed_and_shown_to_their_account_alone(alice, charlie):
    payment_cast.buy(alice.account, 100, "sim_disputed")
    payment_cast.send_webhooks()

    (found,) = alice.get("disputes", state="opened").json()["results"]

    assert (found["state"], found["amount"]) == ("opened", {"amount": "1.00", "currency": "EUR"})
    assert (found["credits"], found["taken"]) == ("100.000000", "100.000000")
    assert alice.get(f"disputes/{found['id']}").json() == found
    assert alice.get("disputes", state="won").json()["results"] == []
    assert charlie.get(f"disputes/{found['id']}").status_code == 404
    assert charlie.get("disputes").json()["results"] == []
