"""Webhooks on their way: to servers that take them, refuse them, and do their worst."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from datetime import timedelta

import pytest
from django.core import mail
from django.db import connection, transaction
from django.utils import timezone
from standardwebhooks import Webhook, WebhookVerificationError

from billing.models import OutgoingEvent, WebhookAttempt, WebhookDelivery
from billing.outgoing import backoff, courier, endpoints, outbox, wire
from tests import outgoing_cast as cast
from tests.fake_receiver import Receiver, receiving

pytestmark = pytest.mark.django_db


@pytest.fixture
def receiver(settings: object) -> Iterator[Receiver]:
    settings.WEBHOOK_PRIVATE_NETWORKS = ["127.0.0.0/8"]  # type: ignore[attr-defined]
    with receiving() as found:
        yield found


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> cast.Clock:
    return cast.Clock(monkeypatch)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same, with less time to answer."""
    monkeypatch.setattr(wire.send, "__kwdefaults__", {"deadline": 0.15})


def test_what_is_sent_is_signed_as_the_standard_says(receiver: Receiver) -> None:
    account = cast.make_account()
    endpoint = cast.make_endpoint(account, f"{receiver.url}/ok")
    event = cast.tell(account, data={"available": "9.500000"})

    assert courier.work() == 1

    (got,) = receiver.got
    assert event is not None
    assert cast.told(got, endpoint.secret) == {
        "id": event.message_id,
        "type": "credits.low",
        "timestamp": event.created_at.isoformat().replace("+00:00", "Z"),
        "account": str(account.pk),
        "data": {"available": "9.500000"},
    }
    assert got.headers["webhook-id"] == event.message_id
    assert got.headers["content-type"] == "application/json"
    assert cast.outcome(endpoint) == ("delivered", 200, "")
    attempt = WebhookAttempt.objects.get()
    assert (attempt.number, attempt.status, attempt.excerpt, attempt.error) == (1, 200, "Thank you.", "")


def test_while_a_secret_is_replaced_both_sign_and_then_only_the_new_one(receiver: Receiver, clock: cast.Clock) -> None:
    account = cast.make_account()
    endpoint = cast.make_endpoint(account, f"{receiver.url}/ok")
    old = endpoint.secret
    endpoints.rotate(endpoint=endpoint, now=clock.now, overlap=timedelta(hours=2))
    cast.tell(account)
    courier.work()
    clock.pass_time(hours=2)
    cast.tell(account)
    courier.work()

    first, second = receiver.got
    assert old != endpoint.secret
    assert cast.told(first, old) == cast.told(first, endpoint.secret)
    assert len(first.headers["webhook-signature"].split()) == 2
    assert len(second.headers["webhook-signature"].split()) == 1
    with pytest.raises(WebhookVerificationError):
        Webhook(old).verify(second.body, {**second.headers, "webhook-timestamp": first.headers["webhook-timestamp"]})


@pytest.mark.parametrize(
    ("path", "status", "error"),
    [
        ("/fail", 500, ""),
        ("/redirect", 307, "Redirects are not followed."),
        ("/slow", None, "No answer within 0.15 seconds."),
        ("/drip", None, "No answer within 0.15 seconds."),
        ("/hang-up", None, "(RemoteProtocolError|ReadError): .*"),
    ],
)
def test_what_does_not_answer_well_is_tried_again_in_seconds(
    receiver: Receiver, clock: cast.Clock, impatient: None, path: str, status: int | None, error: str
) -> None:
    account = cast.make_account()
    endpoint = cast.make_endpoint(account, receiver.url + path)
    cast.tell(account)

    courier.work()

    waiting = endpoint.deliveries.get()
    assert (waiting.state, waiting.status) == ("pending", status)
    assert re.fullmatch(error, waiting.error)
    assert waiting.due_at is not None
    assert timedelta(seconds=4.4) < waiting.due_at - clock.now < timedelta(seconds=5.6)
    assert [got.path for got in receiver.got] == [path]
    receiver.released.set()


def test_an_answer_without_end_is_read_only_to_its_beginning(receiver: Receiver) -> None:
    account = cast.make_account()
    endpoint = cast.make_endpoint(account, f"{receiver.url}/flood")
    cast.tell(account)

    courier.work()

    assert cast.outcome(endpoint) == ("delivered", 200, "")
    assert WebhookAttempt.objects.get().excerpt == "x" * wire.EXCERPT_BYTES


def test_a_busy_receiver_is_given_the_time_it_asks_for(receiver: Receiver, clock: cast.Clock) -> None:
    account = cast.make_account()
    endpoint = cast.make_endpoint(account, f"{receiver.url}/busy")
    cast.tell(account)

    courier.work()

    assert endpoint.deliveries.get().due_at == clock.now + timedelta(hours=2)


def test_one_that_is_gone_is_switched_off_at_once_and_the_owner_told(
    receiver: Receiver, django_capture_on_commit_callbacks: object
) -> None:
    account = cast.make_account()
    endpoint = cast.make_endpoint(account, f"{receiver.url}/gone")
    cast.tell(account)
    cast.tell(account)

    with django_capture_on_commit_callbacks(execute=True):  # type: ignore[operator]
        courier.work()

    endpoint.refresh_from_db()
    assert endpoint.off == "gone"
    assert {each.state for each in cast.deliveries(endpoint)} == {"failed"}
    assert [sent.subject for sent in mail.outbox] == [f"A webhook endpoint was switched off: {account.name}"]
    assert endpoint.url in mail.outbox[0].body


def test_after_ten_attempts_in_three_days_it_is_given_up_and_the_endpoint_switched_off(
    receiver: Receiver, clock: cast.Clock
) -> None:
    account = cast.make_account()
    endpoint = cast.make_endpoint(account, f"{receiver.url}/fail")
    cast.tell(account)

    assert cast.until_nothing_is_due(clock, endpoint) == backoff.MOST_ATTEMPTS

    endpoint.refresh_from_db()
    assert (endpoint.deliveries.get().state, endpoint.off) == ("failed", "failing")
    assert len({got.headers["webhook-id"] for got in receiver.got}) == 1
    assert len({got.body for got in receiver.got}) == 1


def test_one_success_ends_a_series_of_failures(receiver: Receiver, clock: cast.Clock) -> None:
    account = cast.make_account()
    endpoint = cast.make_endpoint(account, f"{receiver.url}/fail")
    cast.tell(account)
    courier.work()
    endpoint.refresh_from_db()
    assert endpoint.failing_since == clock.now

    endpoints.change(endpoint=endpoint, url=f"{receiver.url}/ok")
    cast.until_nothing_is_due(clock, endpoint)

    endpoint.refresh_from_db()
    assert (endpoint.failing_since, endpoint.deliveries.get().state) == (None, "delivered")


def test_a_slow_endpoint_holds_up_nobody_else(receiver: Receiver) -> None:
    account = cast.make_account()
    slow = cast.make_endpoint(account, f"{receiver.url}/slow")
    quick = cast.make_endpoint(account, f"{receiver.url}/ok")
    for _ in range(30):
        cast.tell(account)

    def is_time() -> bool:
        """Let go only when the other has everything, and this one as much as it may have at once."""
        return len(receiver.at("/ok")) == 30 and len(receiver.at("/slow")) >= courier.AT_ONCE

    watch = threading.Thread(target=_release_when, args=(receiver, is_time))
    watch.start()

    courier.work()
    watch.join()

    assert {each.state for each in cast.deliveries(quick)} == {"delivered"}
    assert {each.state for each in cast.deliveries(slow)} == {"delivered"}
    assert receiver.held_when_released == courier.AT_ONCE  # type: ignore[attr-defined]


def _release_when(receiver: Receiver, is_time: object) -> None:
    ends = threading.Event()
    for _ in range(400):
        if is_time():  # type: ignore[operator]
            break
        ends.wait(0.02)
    receiver.held_when_released = len(receiver.at("/slow"))  # type: ignore[attr-defined]
    receiver.released.set()


def test_what_a_crash_leaves_under_way_is_sent_again_when_its_lease_ends(receiver: Receiver, clock: cast.Clock) -> None:
    account = cast.make_account()
    endpoint = cast.make_endpoint(account, f"{receiver.url}/ok")
    cast.tell(account)

    assert len(courier.claim(room=10, busy=[], is_failing=False)) == 1  # and then it dies
    assert courier.work() == 0
    clock.pass_time(seconds=courier.LEASE.total_seconds())
    assert courier.work() == 1

    assert cast.outcome(endpoint) == ("delivered", 200, "")


def test_a_crash_after_the_answer_tells_it_twice_under_one_id(
    receiver: Receiver, clock: cast.Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    account = cast.make_account()
    endpoint = cast.make_endpoint(account, f"{receiver.url}/ok")
    cast.tell(account)
    with monkeypatch.context() as patch:
        patch.setattr(courier, "record", _dies)
        with pytest.raises(RuntimeError):
            courier.work()

    clock.pass_time(seconds=courier.LEASE.total_seconds())
    courier.work()

    assert len(receiver.got) == 2
    assert len({got.headers["webhook-id"] for got in receiver.got}) == 1
    assert cast.outcome(endpoint)[0] == "delivered"


def _dies(*_: object) -> None:
    raise RuntimeError("killed")


def test_what_is_removed_while_it_is_sent_is_forgotten(receiver: Receiver) -> None:
    account = cast.make_account()
    endpoint = cast.make_endpoint(account, f"{receiver.url}/ok")
    cast.tell(account)
    (claimed,) = courier.claim(room=10, busy=[], is_failing=False)
    endpoints.remove(endpoint=endpoint)

    courier.record(claimed, wire.Answer(200, 5))

    assert not WebhookAttempt.objects.exists()


def test_a_delivery_that_succeeds_although_the_endpoint_was_switched_off_is_delivered() -> None:
    account = cast.make_account()
    endpoint = cast.make_endpoint(account)
    cast.tell(account)
    (claimed,) = courier.claim(room=10, busy=[], is_failing=False)
    endpoints.switch_off(endpoint=endpoint, why="owner", now=timezone.now())
    assert cast.outcome(endpoint)[0] == "failed"

    courier.record(claimed, wire.Answer(200, 5))

    assert cast.outcome(endpoint)[0] == "delivered"


def test_endpoints_that_fail_share_a_part_of_the_room() -> None:
    now = timezone.now()
    for _ in range(3):
        account = cast.make_account()
        for _ in range(11):
            cast.make_endpoint(account)
        account.webhook_endpoints.update(failing_since=now)
        cast.tell(account)
        cast.tell(account)

    first = courier.claim(room=courier.ROOM_FOR_FAILING, busy=[], is_failing=True)

    assert len(first) == courier.ROOM_FOR_FAILING
    assert len({each.endpoint_id for each in first}) == courier.ROOM_FOR_FAILING
    assert courier.claim(room=64, busy=[], is_failing=False) == []


@pytest.mark.django_db(transaction=True)
def test_two_couriers_do_not_work_at_once(receiver: Receiver) -> None:
    account = cast.make_account()
    endpoint = cast.make_endpoint(account, f"{receiver.url}/slow")
    cast.tell(account)
    first = threading.Thread(target=_work_and_leave)
    first.start()
    _release_when(receiver, lambda: bool(receiver.at("/slow")) and _second_is_refused(account))
    first.join()

    assert len(receiver.got) == 1 + 1
    assert {each.state for each in cast.deliveries(endpoint)} == {"delivered"}


def _second_is_refused(account: object) -> bool:
    cast.tell(account)  # type: ignore[arg-type]
    assert courier.is_due()
    assert courier.work() == 0
    return True


def _work_and_leave() -> None:
    try:
        courier.work()
    finally:
        connection.close()


def test_it_is_written_with_what_it_tells_or_not_at_all() -> None:
    account = cast.make_account()
    cast.make_endpoint(account)

    with pytest.raises(RuntimeError), transaction.atomic():
        cast.tell(account) and _dies()

    assert not OutgoingEvent.objects.exists()
    assert not WebhookDelivery.objects.exists()


def test_where_nobody_listens_it_costs_one_query_and_looks_nothing_up(
    django_assert_num_queries: object,
) -> None:
    account = cast.make_account()
    cast.make_endpoint(account, events=["invoice.paid"])

    with transaction.atomic(), django_assert_num_queries(1):  # type: ignore[operator]
        assert outbox.publish(account_id=account.pk, type="credits.low", data=_dies, now=timezone.now()) is None


def test_an_event_of_one_key_is_told_once() -> None:
    account = cast.make_account()
    endpoint = cast.make_endpoint(account)
    other = cast.make_account()
    cast.make_endpoint(other)

    assert cast.tell(account, key="execution:1")
    assert cast.tell(account, key="execution:1") is None
    assert cast.tell(other, key="execution:1")

    assert endpoint.deliveries.count() == 1


def test_what_no_account_owns_goes_to_endpoints_of_staff_alone() -> None:
    account = cast.make_account()
    customers = cast.make_endpoint(account)
    operators = cast.make_endpoint(account, by=cast.make_staff_of(account))

    cast.tell(None, "node.unhealthy")
    cast.tell(account)

    assert [each.event.type for each in cast.deliveries(customers)] == ["credits.low"]
    assert [each.event.type for each in cast.deliveries(operators)] == ["node.unhealthy", "credits.low"]


def test_what_staff_add_for_a_customer_hears_of_no_machine() -> None:
    account = cast.make_account()
    added = cast.make_endpoint(account, by=cast.factories.make_staff())

    cast.tell(None, "node.unhealthy")

    assert not added.is_operator
    assert not added.deliveries.exists()
    with pytest.raises(endpoints.BadEvents):
        cast.make_endpoint(account, by=cast.factories.make_staff(), events=["node.unhealthy"])


def test_old_events_are_forgotten_but_not_what_still_waits() -> None:
    account = cast.make_account()
    endpoint = cast.make_endpoint(account)
    now = timezone.now()
    cast.tell(account, now=now - outbox.KEPT - timedelta(days=1))
    waits = cast.tell(account, now=now - outbox.KEPT - timedelta(days=1))
    young = cast.tell(account)
    done = {"state": "delivered", "due_at": None, "finished_at": now}
    endpoint.deliveries.exclude(event=waits).update(**done)

    assert outbox.forget(now=now) == 1

    assert set(OutgoingEvent.objects.all()) == {waits, young}
