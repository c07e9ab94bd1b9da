"""Requests and replies: the reply that comes in time is the answer, the one that comes late is history."""

import threading
from datetime import timedelta

import pytest
from django.utils import timezone

from federation import bus, history, requests
from federation.models import DeadLetter, Message
from tests import factories

pytestmark = pytest.mark.django_db
NOW = timezone.now()


def after(seconds):
    return NOW + timedelta(seconds=seconds)


@pytest.fixture
def federation():
    return factories.make_federation(redelivery_seconds=5)


@pytest.fixture
def pair(federation):
    return factories.make_agent(federation, "one"), factories.make_agent(federation, "two")


def send(federation, sender, recipient, now=NOW, **changes):
    draft = bus.Draft(sender.pk, recipient.pk, **changes)
    return bus.send(federation=federation, draft=draft, now=now)


def receive(agent, now=NOW):
    return bus.receive(agent=agent, most=10, clock=lambda: now)


def ask(federation, sender, recipient, wait=0.05, now=NOW, **changes):
    draft = bus.Draft(sender.pk, recipient.pk, reply_timeout_seconds=10, **changes)
    return requests.ask(federation=federation, draft=draft, wait_seconds=wait, clock=lambda: now)


def accounts(federation, now=NOW):
    found = bus.accounting(federation=federation, now=now)
    assert found.balances
    return (found.accepted, found.delivered, found.expired, found.dead, found.queued)


@pytest.fixture
def answering(monkeypatch):
    """Lets somebody answer a request the moment it is sent, with what `reply` says of the receipt."""

    def answer(reply):
        sent, asked = bus.send, []

        def send_and_answer(**given):
            receipt = sent(**given)
            if given["draft"].reply_timeout_seconds and not asked:
                asked.append(receipt)
                reply(receipt)
            return receipt

        monkeypatch.setattr(bus, "send", send_and_answer)

    return answer


def test_who_waits_gets_the_reply_and_the_inbox_does_not(federation, pair, answering):
    one, two = pair
    answering(lambda receipt: send(federation, two, one, correlation_id=receipt.correlation_id, payload=42))

    receipt, reply = ask(federation, one, two)

    assert reply.message["payload"] == 42
    assert reply.message["correlation_id"] == receipt.correlation_id == str(receipt.id)
    assert receive(one, after(60)) == []
    assert accounts(federation) == (2, 1, 0, 0, 1)


def test_the_request_carries_its_correlation_id(federation, pair):
    one, two = pair
    send(federation, one, two, reply_timeout_seconds=10)

    (item,) = receive(two)

    assert item.message["correlation_id"] == item.id


def test_nobody_answers_in_time(federation, pair):
    with pytest.raises(requests.NoReply) as refused:
        ask(federation, *pair)

    assert refused.value.code == "timeout"
    assert refused.value.extras["correlation_id"] == refused.value.extras["id"]
    assert accounts(federation) == (1, 0, 0, 0, 1)


def test_a_reply_in_its_time_but_after_the_caller_went_is_in_the_inbox(federation, pair):
    one, two = pair
    with pytest.raises(requests.NoReply) as refused:
        ask(federation, one, two, wait=0.01)

    send(federation, two, one, now=after(9), correlation_id=refused.value.extras["correlation_id"], payload="slow")

    assert [item.message["payload"] for item in receive(one, after(9))] == ["slow"]


def test_a_late_reply_is_history_and_counts_as_expired(federation, pair):
    one, two = pair
    receipt = send(federation, one, two, reply_timeout_seconds=10)

    late = send(federation, two, one, now=after(11), correlation_id=receipt.correlation_id)
    history.flush_all(now=after(11))

    assert receive(one, after(11)) == []
    assert accounts(federation, after(11)) == (2, 0, 1, 0, 1)
    assert Message.objects.get(pk=late.id).outcome == "late_reply"
    assert not DeadLetter.objects.exists()


def test_a_caller_that_dies_leaves_the_reply_to_its_inbox(federation, pair, answering, monkeypatch):
    one, two = pair
    answering(lambda receipt: send(federation, two, one, correlation_id=receipt.correlation_id, payload="kept"))
    monkeypatch.setattr(requests, "_reply", lambda *given: None)
    with pytest.raises(requests.NoReply):
        ask(federation, one, two)

    assert receive(one) == []
    assert [item.message["payload"] for item in receive(one, after(6))] == ["kept"]


def test_only_who_was_asked_answers(federation, pair):
    one, two = pair
    three = factories.make_agent(federation, "three")
    receipt = send(federation, one, two, reply_timeout_seconds=10, awaited=True)

    send(federation, three, one, correlation_id=receipt.correlation_id, payload="not asked")

    assert [item.message["payload"] for item in receive(one)] == ["not asked"]


def test_the_same_request_again_gets_the_same_reply(federation, pair, answering):
    one, two = pair
    answering(lambda receipt: send(federation, two, one, correlation_id=receipt.correlation_id, payload=42))

    first = ask(federation, one, two, message_id="m")
    again = ask(federation, one, two, message_id="m")

    assert (first[0], first[1].id) == (again[0], again[1].id)
    assert accounts(federation) == (2, 1, 0, 0, 1)


def test_waiting_ends_the_moment_the_reply_is_there(federation, pair):
    one, two = pair
    receipt = send(federation, one, two, reply_timeout_seconds=10, correlation_id="c", message_id="m")
    timer = threading.Timer(0.05, lambda: bus.run("send", federation.pk, NOW, *_reply_call(federation, two, one)))
    timer.start()

    found = ask(federation, one, two, wait=5, correlation_id="c", message_id="m")

    timer.join()
    assert found[0] == receipt
    assert found[1].message["payload"] == "soon"


def _reply_call(federation, sender, recipient):
    """The arguments of a reply's script: another thread has no part in this test's transaction."""
    shared = f'{{"from": "{sender.pk}", "to": "{recipient.pk}"}}'
    pack = ["0197f0e2-1234-7abc-8def-012345678", 1, str(sender.pk), shared, '["custom","soon","c"]']
    rest = [int((NOW + timedelta(seconds=60)).timestamp() * 1000), 5, "c", "", "", 1, "", "", 0]
    return [100, 0, 1, *pack, *rest, 1, str(recipient.pk), "", "[]", ""]
