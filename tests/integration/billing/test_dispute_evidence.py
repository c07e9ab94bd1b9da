"""Evidence for a dispute: handed in once, decided by, found again after a lost answer; on staff's page and in the API."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import IntegrityError, transaction
from django.urls import reverse
from django.utils import timezone

from billing import evidence, evidence_texts, janitor, ledger, payments, tasks
from billing.gateways import AnswerLost, Refused
from billing.gateways.simulated import SimulatedGateway
from billing.models import Account, Dispute, DisputeEvidence
from billing.payment_states import SENT_BY
from tests import factories, ledger_cast, payment_cast

pytestmark = pytest.mark.django_db
GOOD = {"access_activity_log": "2026-11-25: 14 runs.\n2026-11-26: 3 runs.", "customer_name": "Alice"}
WEAK = {"uncategorized_text": "We would rather keep it."}


@pytest.fixture
def account() -> Account:
    return ledger_cast.make_account(0)


@pytest.fixture
def dispute(account: Account) -> Dispute:
    payment_cast.buy(account, 100, "sim_disputed")
    payment_cast.send_webhooks()
    return Dispute.objects.get()


@pytest.fixture(autouse=True)
def _the_books_stay_right(db: None) -> Any:
    yield
    ledger_cast.assert_books_are_right()


def give(dispute: Dispute, texts: dict[str, str] | None = None, *, key: str = "k") -> DisputeEvidence:
    return payments.give_evidence(dispute=dispute, texts=texts or GOOD, key=key, now=timezone.now(), actor="user:1")


@pytest.mark.parametrize(("texts", "state", "left"), [(GOOD, "won", 100), (WEAK, "lost", 0)])
def test_the_simulated_bank_decides_by_the_evidence(
    account: Account, dispute: Dispute, texts: dict[str, str], state: str, left: int
) -> None:
    assert dispute.evidence_due_at is not None

    made = give(dispute, texts)

    dispute.refresh_from_db()
    assert (made.state, made.texts, dispute.state) == ("accepted", texts, "under_review")
    payment_cast.send_webhooks()
    dispute.refresh_from_db()
    assert (dispute.state, ledger_cast.available(account, timezone.now())) == (state, left)


def test_the_same_key_again_is_the_same_evidence(dispute: Dispute) -> None:
    assert give(dispute).pk == give(dispute).pk
    with pytest.raises(ledger.KeyReused):
        give(dispute, WEAK)


def test_once_it_is_decided_no_evidence_is_taken(dispute: Dispute) -> None:
    payments.play_dispute(dispute=dispute, word="won", now=timezone.now())

    with pytest.raises(evidence.NotDisputed):
        give(dispute)
    assert not DisputeEvidence.objects.exists()


def test_what_the_gateway_refuses_says_why_and_may_be_handed_in_anew(
    dispute: Dispute, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise Refused("too_late", "It was due yesterday.")

    with monkeypatch.context() as patched:
        patched.setattr(SimulatedGateway, "give_evidence", refuse)
        assert (give(dispute).state, give(dispute).detail) == ("refused", "It was due yesterday.")

    assert give(dispute, key="again").state == "accepted"


def lose_answers(patched: pytest.MonkeyPatch) -> None:
    real = SimulatedGateway.give_evidence

    def lost(*said: Any, **how: Any) -> Any:
        real(*said, **how)
        raise AnswerLost("The line is dead.")

    patched.setattr(SimulatedGateway, "give_evidence", lost)


def test_a_lost_answer_is_unknown_until_it_is_told_again(dispute: Dispute, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        lose_answers(patched)
        made = give(dispute)
    assert made.state == "unknown"
    with pytest.raises(evidence.NotDisputed):
        give(dispute, WEAK, key="other")

    janitor.sweep(now=timezone.now() + SENT_BY)

    made.refresh_from_db()
    assert (made.state, made.ask_at) == ("accepted", None)


def test_a_gateway_that_forgot_the_key_still_says_that_it_has_the_evidence(
    dispute: Dispute, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        lose_answers(patched)
        made = give(dispute)

        def forgot(*_: Any, **__: Any) -> Any:
            raise Refused("evidence_given", "No more evidence is taken.")

        patched.setattr(SimulatedGateway, "give_evidence", forgot)
        janitor.sweep(now=timezone.now() + SENT_BY)

    made.refresh_from_db()
    assert made.state == "accepted"


def test_a_sender_that_died_before_it_spoke_is_made_up_for(dispute: Dispute) -> None:
    made, _ = evidence.open_evidence(dispute=dispute, texts=GOOD, key="k", now=timezone.now() - SENT_BY)

    tasks.sweep_payments()

    made.refresh_from_db()
    assert made.state == "accepted"


def test_the_database_lets_one_be_under_way(dispute: Dispute) -> None:
    now = timezone.now()
    evidence.open_evidence(dispute=dispute, texts=GOOD, key="k", now=now)

    with pytest.raises(IntegrityError), transaction.atomic():
        DisputeEvidence.objects.create(dispute=dispute, texts=GOOD, key="l", request_hash="x", created_at=now)


def test_staff_hand_it_in_on_the_page_once_however_often_they_press(
    client: Any, account: Account, dispute: Dispute
) -> None:
    client.force_login(factories.make_staff())
    address = reverse("billing:dispute", args=[account, dispute.pk])
    shown = client.get(address)
    key = str(shown.context["form"].initial["key"])
    assert "It is due" in shown.content.decode()

    bad = client.post(f"{address}evidence/", {"key": key})
    assert (bad.status_code, "Say at least one thing" in bad.content.decode()) == (422, True)
    for _ in range(2):
        done = client.post(f"{address}evidence/", {"key": key, **GOOD}, follow=True)
        assert "The evidence is handed in." in done.content.decode()

    assert DisputeEvidence.objects.get().texts == {name: GOOD[name] for name in evidence_texts.FIELDS if name in GOOD}
    assert "14 runs." in client.get(address).content.decode()
    client.force_login(account.memberships.get().user)
    seen = client.get(address).content.decode()
    assert "14 runs." not in seen
    assert "Hand it in" not in seen
    assert client.post(f"{address}evidence/", {"key": key, **GOOD}).status_code == 403
