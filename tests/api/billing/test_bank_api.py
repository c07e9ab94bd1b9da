"""The HTTP promises about the bank's lines: staff's alone, and a wrong match is undone once."""

from __future__ import annotations

import pytest

from billing import bank_matching
from tests import bank_cast, payment_cast

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def bank_account(settings):
    settings.BANK_IBAN = bank_cast.IBAN


def test_staff_see_lines_and_undo_a_match_once(alice, stella):
    payment = payment_cast.buy(alice.account, 500, "bank_transfer")
    line = bank_cast.make_line(700)
    said = {"line_id": line.pk, "reference": payment.gateway_ref, "amount": None, "now": payment_cast.now()}
    match = bank_matching.match(actor="system", **said)
    assert alice.get("bank/lines").status_code == 403
    assert alice.post(f"bank/matches/{match.pk}/undo", {"reason": "mine"}).status_code == 403
    (found,) = stella.get("bank/lines", waiting="true").json()["results"]
    assert (found["left"], found["matches"][0]["payment"]) == ({"amount": "2.00", "currency": "EUR"}, str(payment.pk))

    first = stella.post(f"bank/matches/{match.pk}/undo", {"reason": "Bob's"})
    again = stella.post(f"bank/matches/{match.pk}/undo", {"reason": "Bob's"})

    assert (first.status_code, again.status_code, first.json()) == (201, 200, again.json())
    assert (first.json()["payment"], first.json()["reason"]) == (str(payment.pk), "Bob's")
    assert alice.get(f"payments/{payment.pk}").json()["state"] == "processing"
    shown = stella.get(f"bank/lines/{line.pk}").json()
    assert (shown["left"]["amount"], shown["matches"][0]["undo"]) == ("7.00", first.json())


@pytest.mark.parametrize("body", [{}, {"reason": ""}, {"reason": "x" * 301}, {"reason": "a\nb"}, {"why": "x"}])
def test_an_undoing_says_why(stella, body):
    match = bank_cast.make_return().match

    answer = stella.post(f"bank/matches/{match.pk}/undo", body)

    assert (answer.status_code, answer.json()["code"]) == (400, "validation_error")


def test_what_cannot_be_undone_says_so(stella):
    back = bank_cast.make_return()
    assert stella.post("bank/matches/0198c0de-0000-7000-8000-000000000000/undo", {"reason": "x"}).status_code == 404
    back.state, back.sent_at = "sent", payment_cast.now()
    back.save()

    answer = stella.post(f"bank/matches/{back.match_id}/undo", {"reason": "x"})

    assert (answer.status_code, answer.json()["state"]) == (409, "sent")
