"""The background tasks of payments: what is near is done in the sweep, what is far is only rung for."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from billing import auto_top_ups, methods, settlement, tasks
from billing.gateways.http import HttpGateway
from billing.models import AutoTopUp, Payment
from tests import fake_gateway
from tests import ledger_cast as cast
from tests.ledger_cast import UCR
from tests.payment_cast import SECRET, buy, deliver, event, now, opened

pytestmark = [pytest.mark.django_db, pytest.mark.allow_hosts(["127.0.0.1"])]


@pytest.fixture
def account():
    account = cast.make_account(0)
    yield account
    cast.assert_books_are_right()


@pytest.fixture
def rung(monkeypatch):
    rings: list[float] = []
    monkeypatch.setattr(tasks.speak_to_gateways, "apply_async", lambda *, expires: rings.append(expires))
    return rings


@pytest.fixture
def later(monkeypatch):
    """A minute passes."""
    moment = timezone.now() + timedelta(minutes=1)
    monkeypatch.setattr(timezone, "now", lambda: moment)
    return moment


def test_an_idle_product_rings_for_nobody(account, rung):
    buy(account, 10)

    tasks.sweep_payments()

    assert rung == []


def test_the_simulated_gateway_is_asked_in_the_sweep_itself(account, rung, request):
    payment = buy(account, 10, "sim_unknown")
    request.getfixturevalue("later")

    tasks.sweep_payments()

    payment.refresh_from_db()
    assert (payment.state, rung) == ("succeeded", [])


def test_credits_are_bought_in_the_sweep_itself(account, rung):
    method = methods.add(account=account, token="sim_ok", now=now())
    auto_top_ups.set_up(account=account, threshold_ucr=UCR, credits_ucr=5 * UCR, method=method, now=now())

    tasks.sweep_payments()

    assert (cast.available(account, now()), rung) == (5, [])


def test_a_failed_webhook_is_tried_again_in_the_sweep(account, rung, monkeypatch, request):
    payment = buy(account, 10, "sim_action_required")

    def broken(**_):
        raise RuntimeError("the disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(settlement, "record", broken)
        deliver(event(payment))
    request.getfixturevalue("later")

    tasks.sweep_payments()

    payment.refresh_from_db()
    assert payment.state == "succeeded"


def test_a_gateway_far_away_is_rung_for_and_spoken_to_elsewhere(account, rung, settings, request):
    """The whole way of a payment through the HTTP gateway whose first answer is lost."""
    with fake_gateway.serving(SECRET) as server:
        settings.PAYMENT_GATEWAY_URL = server.url
        settings.GATEWAY_SECRETS = {**settings.GATEWAY_SECRETS, "http": [SECRET]}
        kept = methods.add(account=account, token="pay_lost", gateway="http", now=now())
        payment = buy(account, 10, str(kept.pk))
        assert (payment.gateway, payment.state) == ("http", "unknown")
        request.getfixturevalue("later")

        tasks.sweep_payments()
        payment.refresh_from_db()
        assert (payment.state, rung) == ("unknown", [5])
        tasks.speak_to_gateways()

    payment.refresh_from_db()
    assert (payment.state, payment.gateway_ref) == ("succeeded", "pay_1")
    assert cast.available(account, now()) == 10


def test_what_is_only_authorized_is_captured(account, settings, monkeypatch):
    with fake_gateway.serving(SECRET) as server:
        settings.PAYMENT_GATEWAY_URL = server.url
        settings.GATEWAY_SECRETS = {**settings.GATEWAY_SECRETS, "http": [SECRET]}
        methods.add(account=account, token="pay_ok", gateway="http", now=now())
        create = HttpGateway.create
        monkeypatch.setattr(HttpGateway, "create", lambda self, order: create(self, _held(order)))

        payment = buy(account, 10, None)

    assert (payment.state, payment.captured) == ("succeeded", 10)
    assert [line.partition(" ")[2] for line in server.requests] == ["/payments", "/payments/pay_1/capture"]


def _held(order):
    from dataclasses import replace

    return replace(order, capture=False)


def test_no_one_speaks_to_a_gateway_that_is_gone(account, settings, rung, request):
    payment = opened(account, 10)
    Payment.objects.filter(pk=payment.pk).update(ask_at=now())
    request.getfixturevalue("later")
    settings.SIMULATED_GATEWAY = False

    tasks.send_simulated_webhooks()
    tasks.sweep_payments()

    payment.refresh_from_db()
    assert (payment.asked_times, AutoTopUp.objects.count()) == (1, 0)
