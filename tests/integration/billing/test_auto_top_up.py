"""Credits bought before they run out: when, how often, and what happens when the payment fails."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest
from django.core import mail
from django.db import IntegrityError, connection, transaction

from billing import auto_top_ups, janitor, methods, restocking
from billing.models import AutoTopUp, Payment
from tests import ledger_cast as cast
from tests.ledger_cast import UCR
from tests.payment_cast import buy, now

pytestmark = pytest.mark.django_db


def set_up(account, token="sim_ok", threshold=100, credits=500):
    method = methods.add(account=account, token=token, now=now())
    said = {"threshold_ucr": threshold * UCR, "credits_ucr": credits * UCR, "method": method, "now": now()}
    return auto_top_ups.set_up(account=account, **said)


@pytest.fixture
def account():
    account = cast.make_account(150)
    yield account
    cast.assert_books_are_right()


def bought():
    return list(Payment.objects.filter(purpose="auto_top_up").order_by("created_at", "pk"))


def test_nothing_is_bought_while_enough_is_left(account):
    set_up(account)
    cast.charge(account, 50, now=now())

    assert restocking.sweep(now=now()) == 0


def test_credits_are_bought_when_fewer_than_the_threshold_are_left(account):
    set_up(account)
    cast.charge(account, 51, now=now())

    assert restocking.sweep(now=now()) == 1
    assert restocking.sweep(now=now()) == 0

    assert [(payment.state, payment.actor) for payment in bought()] == [("succeeded", "auto")]
    assert cast.available(account, now()) == 599


def test_what_is_on_hold_is_not_left_and_what_may_be_overdrawn_is_not_owned(account):
    from billing import ledger

    ledger.set_overdraft(account_id=account.pk, overdraft_ucr=1000 * UCR)
    set_up(account)
    cast.hold(account, 51, now=now(), expires_at=now() + timedelta(hours=1))

    assert restocking.sweep(now=now()) == 1


def test_three_in_ten_minutes_are_the_most(account):
    set_up(account, credits=1)
    cast.charge(account, 150, now=now())
    began = now()

    counts = [restocking.sweep(now=began + timedelta(minutes=minute)) for minute in (0, 1, 2, 3, 9, 10)]

    assert counts == [1, 1, 1, 0, 0, 1]


def test_a_decline_pauses_ever_longer_and_the_owner_gets_an_e_mail(account, django_capture_on_commit_callbacks):
    set_up(account, "sim_declined")
    cast.charge(account, 100, now=now())
    began = now()

    with django_capture_on_commit_callbacks(execute=True):
        counts = [restocking.sweep(now=began + timedelta(minutes=minute)) for minute in (0, 1, 59, 60)]

    assert counts == [1, 0, 0, 1]
    assert [message.subject for message in mail.outbox] == ["The automatic top-up failed: Acme Capital"] * 2
    assert "The card was declined." in mail.outbox[0].body
    assert mail.outbox[0].to == [account.memberships.get().user.email]
    auto = auto_top_ups.of(account)
    assert auto.last_error == "The card was declined."
    assert auto.paused_until == began + timedelta(minutes=180)
    assert "in an hour at" in mail.outbox[0].body
    assert "in 2 hours at" in mail.outbox[1].body


def test_setting_it_up_again_ends_the_pause(account):
    set_up(account, "sim_declined")
    cast.charge(account, 100, now=now())
    restocking.sweep(now=now())

    set_up(account, "sim_ok")

    assert restocking.sweep(now=now()) == 1
    assert bought()[-1].state == "succeeded"


def test_no_second_is_bought_while_the_outcome_of_the_first_is_open(account):
    set_up(account, "sim_unknown")
    cast.charge(account, 100, now=now())
    began = now()

    assert [restocking.sweep(now=began + timedelta(minutes=minute)) for minute in (0, 1, 30)] == [1, 0, 0]
    janitor.sweep(now=began + timedelta(minutes=31))

    assert [payment.state for payment in bought()] == ["succeeded"]
    assert cast.available(account, now()) == 550


def test_when_the_bank_wants_the_owner_the_owner_hears_of_it(account, django_capture_on_commit_callbacks):
    set_up(account, "sim_action_required")
    cast.charge(account, 100, now=now())

    with django_capture_on_commit_callbacks(execute=True):
        restocking.sweep(now=now())

    assert [message.subject for message in mail.outbox] == ["The automatic top-up needs you: Acme Capital"]
    assert str(bought()[0].pk) in mail.outbox[0].body


def test_payments_people_make_pause_nothing(account):
    set_up(account)
    buy(account, 10, "sim_declined")

    assert auto_top_ups.of(account).paused_until is None


def test_a_suspended_account_buys_nothing_by_itself(account):
    set_up(account)
    cast.charge(account, 100, now=now())
    account.status = "suspended"
    account.save(update_fields=["status"])

    assert restocking.sweep(now=now()) == 0


def test_ended_it_buys_nothing_and_its_method_can_go(account):
    auto = set_up(account)
    cast.charge(account, 100, now=now())
    with pytest.raises(methods.StillNeeded):
        methods.remove(method=auto.method, now=now())

    assert auto_top_ups.end(account=account) is True
    assert auto_top_ups.end(account=account) is False
    assert restocking.sweep(now=now()) == 0
    assert methods.remove(method=auto.method, now=now()) is True


def test_another_account_s_method_buys_nothing(account):
    other = methods.add(account=cast.make_account(0), token="sim_ok", now=now())

    with pytest.raises(auto_top_ups.BadAutoTopUp):
        auto_top_ups.set_up(account=account, threshold_ucr=UCR, credits_ucr=UCR, method=other, now=now())


def test_the_database_lets_no_two_be_open_and_none_be_zero(account):
    set_up(account, "sim_unknown")
    cast.charge(account, 100, now=now())
    restocking.sweep(now=now())
    second = Payment.objects.get(account=account)
    second.pk, second.key, second.gateway_ref = None, "other", None

    with pytest.raises(IntegrityError), transaction.atomic():
        second.save(force_insert=True)
    with pytest.raises(IntegrityError), transaction.atomic():
        AutoTopUp.objects.update(threshold_ucr=0)


def test_who_read_it_before_another_failed_and_paused_it_buys_nothing(account):
    auto = set_up(account, "sim_declined")
    cast.charge(account, 100, now=now())
    AutoTopUp.objects.update(last_bought_at=now())
    (read_before,) = restocking._low(now(), ["simulated"])

    AutoTopUp.objects.filter(pk=auto.pk).update(paused_until=now() + timedelta(hours=1))

    assert not restocking._buy(read_before, now())
    assert bought() == []


@pytest.mark.django_db(transaction=True)
def test_sweeps_at_once_buy_once():
    account = cast.make_account(150)
    set_up(account)
    cast.charge(account, 100, now=now())
    start = threading.Barrier(5)

    def sweep():
        try:
            start.wait()
            restocking.sweep(now=now())
        finally:
            connection.close()

    threads = [threading.Thread(target=sweep) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)

    assert [payment.state for payment in bought()] == ["succeeded"]
    cast.assert_books_are_right()
