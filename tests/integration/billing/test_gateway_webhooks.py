"""Webhooks of gateways: signed or refused, kept as they came, acted on once, tried again when that failed."""

from __future__ import annotations

from datetime import timedelta

import pytest

from billing import gateway_webhooks, settlement
from billing.gateways import BadSignature, Unreadable, registry
from billing.models import GatewayWebhook
from tests import ledger_cast as cast
from tests.payment_cast import SECRET, buy, deliver, effects, event, now, opened, send_webhooks, signed, webhooks

pytestmark = pytest.mark.django_db


@pytest.fixture
def account():
    account = cast.make_account(0)
    yield account
    cast.assert_books_are_right()


@pytest.fixture
def waiting(account):
    return buy(account, 10, "sim_action_required")


def test_a_signed_event_moves_the_payment_and_grants_once_however_often_it_comes(account, waiting):
    said = event(waiting)

    states = [deliver(said).state for _ in range(3)]

    waiting.refresh_from_db()
    assert (waiting.state, cast.available(account, now())) == ("succeeded", 10)
    assert states == ["received", "processed", "processed"]
    assert sorted(row.state for row in webhooks()) == ["duplicate", "duplicate", "processed"]


@pytest.mark.parametrize("named", ["reference", "ref"])
def test_an_event_may_name_the_payment_by_either_side_s_id(account, waiting, named):
    deliver(event(str(waiting.pk) if named == "reference" else waiting.gateway_ref))

    waiting.refresh_from_db()
    assert waiting.state == "succeeded"


def test_an_event_that_comes_before_the_answer_counts_and_the_answer_changes_nothing(account):
    payment = opened(account, 10)
    deliver(event(payment))

    settlement.submit(payment=payment, now=now())

    payment.refresh_from_db()
    assert (payment.state, cast.available(account, now())) == ("succeeded", 10)
    assert payment.gateway_ref
    assert effects(payment)[-1] == ("answer", "succeeded", "ignored")


@pytest.mark.parametrize(
    "how",
    [
        {"secret": SECRET},
        {"late": timedelta(minutes=6)},
        {"late": -timedelta(minutes=6)},
    ],
)
def test_a_bad_signature_or_time_is_refused_and_kept_as_evidence(account, waiting, how):
    if "late" in how:
        how = {"at": now() - how["late"]}

    with pytest.raises(BadSignature):
        deliver(event(waiting), **how)

    waiting.refresh_from_db()
    assert waiting.state == "requires_action"
    assert [(row.state, bool(row.error), row.payment) for row in webhooks()] == [("invalid", True, None)]


def test_a_changed_body_is_refused(waiting):
    headers = signed(b'{"id": "a"}')

    with pytest.raises(BadSignature):
        gateway_webhooks.receive(gateway="simulated", body=b'{"id": "b"}', headers=headers, now=now())


def test_while_a_secret_is_replaced_both_are_good(waiting, settings):
    old = settings.GATEWAY_SECRETS["simulated"][0]
    settings.GATEWAY_SECRETS = {"simulated": [SECRET, old], "http": []}

    assert deliver(event("x"), secret=old).state == "received"
    assert deliver(event("x"), secret=SECRET).state == "received"


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"id": "a"}', b'{"id": 1, "type": "t"}', b"\xff\xfe", b"9" * 99])
def test_a_signed_body_that_says_nothing_is_refused_and_kept(body):
    try:
        headers = signed(body)
    except UnicodeDecodeError:
        headers = signed(b"")

    with pytest.raises((Unreadable, BadSignature)):
        gateway_webhooks.receive(gateway="simulated", body=body, headers=headers, now=now())
    assert [row.state for row in webhooks()] == ["invalid"]


@pytest.mark.parametrize(
    "said", [{"type": "customer.created"}, {"type": "payment.teleported"}, {"data": {}}, {"data": 7}]
)
def test_what_is_not_known_is_taken_without_effect(waiting, said):
    deliver(event(waiting, **said))

    waiting.refresh_from_db()
    assert waiting.state == "requires_action"
    assert [row.state for row in webhooks()] == ["processed"]


def test_an_event_of_another_amount_or_currency_is_not_believed(account, waiting):
    about = {"id": waiting.gateway_ref, "reference": str(waiting.pk), "amount": 9, "currency": "EUR"}
    deliver(event(waiting, data={"payment": about}))
    deliver(event(waiting, data={"payment": {**about, "amount": 10, "currency": "USD"}}))

    waiting.refresh_from_db()
    assert (waiting.state, cast.available(account, now())) == ("requires_action", 0)
    assert [effect for _, _, effect in effects(waiting)][-2:] == ["not_believed", "not_believed"]


def test_an_event_that_gives_a_payment_another_s_id_is_not_believed(account, waiting):
    other = buy(account, 5, "sim_action_required")

    deliver(event(waiting, data={"payment": {"id": "not-known", "reference": str(waiting.pk)}}))
    deliver(event(opened(account, 5), data={"payment": {"id": other.gateway_ref, "reference": str(other.pk)}}))

    waiting.refresh_from_db()
    other.refresh_from_db()
    assert (waiting.state, other.state) == ("requires_action", "succeeded")
    assert effects(waiting)[-1][2] == "not_believed"


def test_late_lower_states_are_recorded_and_ignored(account, waiting):
    deliver(event(waiting))
    for type in ("payment.processing", "payment.requires_action", "payment.failed", "payment.cancelled"):
        deliver(event(waiting, type))

    waiting.refresh_from_db()
    assert (waiting.state, cast.available(account, now())) == ("succeeded", 10)
    assert [effect for _, _, effect in effects(waiting)][-4:] == ["ignored"] * 4


def test_whoever_signs_as_the_simulated_gateway_plays_it(account, waiting):
    deliver(event(waiting))

    from billing import payments

    waiting.refresh_from_db()
    assert payments.refund(payment=waiting, amount=None, key="k", now=now()).state == "succeeded"


def test_what_fails_keeps_its_evidence_and_is_tried_again(account, waiting, monkeypatch):
    def broken(**_):
        raise RuntimeError("the disk is full")

    monkeypatch.setattr(settlement, "record", broken)
    webhook = deliver(event(waiting))
    webhook.refresh_from_db()
    assert (webhook.state, webhook.error, webhook.attempts) == ("failed", "RuntimeError: the disk is full", 1)
    monkeypatch.undo()

    gateway_webhooks.sweep(now=now() + timedelta(seconds=15))
    assert GatewayWebhook.objects.get(pk=webhook.pk).state == "failed"
    gateway_webhooks.sweep(now=now() + timedelta(seconds=25))

    webhook.refresh_from_db()
    waiting.refresh_from_db()
    assert (webhook.state, webhook.attempts, waiting.state) == ("processed", 2, "succeeded")


def test_a_crash_after_a_webhook_was_kept_loses_nothing(waiting, monkeypatch):
    monkeypatch.setattr(gateway_webhooks, "process", lambda **_: None)
    webhook = deliver(event(waiting))
    monkeypatch.undo()

    gateway_webhooks.sweep(now=now() + timedelta(seconds=15))

    webhook.refresh_from_db()
    assert webhook.state == "processed"


def test_nonsense_fills_no_disk(monkeypatch):
    monkeypatch.setattr(gateway_webhooks, "MOST_INVALID", 3)
    for _ in range(5):
        with pytest.raises(BadSignature):
            deliver(event("x"), secret=SECRET)
    assert GatewayWebhook.objects.count() == 3
    with pytest.raises(gateway_webhooks.TooLarge):
        gateway_webhooks.receive(gateway="simulated", body=b"x" * 65537, headers={}, now=now())

    gateway_webhooks.sweep(now=now() + timedelta(days=8))

    assert GatewayWebhook.objects.count() == 0


def test_a_gateway_that_is_not_in_use_has_no_address(settings):
    for name in ("http", "stripe"):
        with pytest.raises(registry.UnknownGateway):
            gateway_webhooks.receive(gateway=name, body=b"{}", headers={}, now=now())


def test_the_simulated_gateway_sends_again_what_a_crash_left_unsent(account, monkeypatch):
    buy(account, 10, "sim_duplicate_webhook")
    monkeypatch.setattr("billing.gateways.simulated_remote.sent", lambda *_, **__: None)
    send_webhooks()
    monkeypatch.undo()

    send_webhooks()

    assert sorted(row.state for row in webhooks()) == ["duplicate"] * 3 + ["processed"]
    assert cast.available(account, now()) == 10
