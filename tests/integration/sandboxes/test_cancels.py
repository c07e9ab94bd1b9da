"""Cancelling what runs in another process, and ending what a dead one left in the cloud."""

from __future__ import annotations

import threading
import uuid

import pytest
import redis
from django.utils import timezone

from sandboxes import cancels, claims, executions, leases, orphans, setbacks, tasks
from sandboxes.models import Execution
from tests import factories
from tests.integration.sandboxes.daemons import eventually

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("runtime")]


@pytest.fixture
def listening():
    cancels.watch.start()
    cancels.watch.start()
    client = cancels._redis()
    assert eventually(lambda: dict(client.pubsub_numsub(cancels.CHANNEL))[cancels.CHANNEL.encode()] > 0)
    yield
    client.close()
    cancels.watch.stop()


def held(runtime) -> leases.Held:
    factories.make_execution()
    execution = claims.claim(now=timezone.now())
    return leases.Held(execution, runtime, timezone.now)


@pytest.mark.usefixtures("listening")
def test_the_worker_that_has_it_hears_of_it(runtime):
    item = held(runtime)
    runtime.running.clear()

    with leases.kept(item.execution, runtime, timezone.now):
        cancels.reach(item.execution)
        assert eventually(lambda: runtime.cancelled.count(item.execution.request_id) == 2)


@pytest.mark.usefixtures("listening")
def test_what_runs_elsewhere_is_not_this_workers_to_end(runtime):
    first, second = held(runtime), held(runtime)

    with leases.kept(second.execution, runtime, timezone.now):
        cancels.reach(first.execution)
        cancels.reach(second.execution)
        assert eventually(lambda: runtime.cancelled.count(second.execution.request_id) == 2)

    assert runtime.cancelled.count(first.execution.request_id) == 1


def test_what_the_runtime_knows_here_needs_no_telling(runtime, monkeypatch):
    item = held(runtime)
    runtime.running.add(item.execution.request_id)
    monkeypatch.setattr(cancels, "_redis", lambda: pytest.fail("nobody had to be told"))

    cancels.reach(item.execution)

    assert runtime.cancelled == [item.execution.request_id]


def test_without_redis_it_is_only_slower(runtime, settings, caplog):
    item = held(runtime)
    settings.REDIS_URL = "unix:///nowhere/valkey.sock"

    cancels.reach(item.execution)

    assert "was not told" in caplog.text


def test_a_listener_without_redis_tries_again(settings, monkeypatch):
    tried = threading.Event()

    def fail() -> redis.Redis:
        tried.set()
        raise redis.ConnectionError("away")

    monkeypatch.setattr(cancels, "_redis", fail)
    cancels.watch.start()

    assert tried.wait(5)
    cancels.watch.stop()


def test_one_whose_cancel_nobody_heard_is_ended_when_its_lease_is_renewed(runtime):
    item = held(runtime)
    Execution.objects.filter(pk=item.execution.pk).update(state="cancelled", finished_at=timezone.now())

    leases.renew([item])

    assert runtime.cancelled == [item.execution.request_id]
    assert Execution.objects.get(pk=item.execution.pk).lease_expires_at is not None


def test_a_cancel_of_what_ran_on_a_runtime_that_is_gone_is_no_error(runtime):
    item = held(runtime)
    Execution.objects.filter(pk=item.execution.pk).update(runtime="e2b")
    item.execution.refresh_from_db()

    cancelled = executions.cancel(execution=item.execution, by=None, now=timezone.now())

    assert cancelled.state == "cancelled"


# --- orphans


def test_a_sandbox_whose_attempt_is_waited_for_is_left_alone(e2b):
    item = held(e2b)
    e2b.left = {"i1": item.execution.request_id}

    assert orphans.end() == 0
    assert e2b.killed == []


def test_one_whose_attempt_is_over_is_ended(e2b):
    item = held(e2b)
    e2b.left = {"i1": item.execution.request_id}
    setbacks.expire_leases(now=timezone.now() + leases.LEASE * 2)

    assert orphans.end() == 1
    assert e2b.killed == ["i1"]


def test_one_of_an_earlier_attempt_is_ended_while_the_present_one_goes_on(e2b):
    item = held(e2b)
    Execution.objects.filter(pk=item.execution.pk).update(attempt=2)
    e2b.left = {"old": f"{item.execution.pk}-1", "new": f"{item.execution.pk}-2"}

    tasks.end_orphans()

    assert e2b.killed == ["old"]


def test_those_of_another_installation_are_none_of_ours(e2b):
    e2b.left = {"i1": f"{uuid.uuid4()}-1", "i2": "something", "i3": ""}

    assert orphans.end() == 0
    assert e2b.killed == []


def test_a_cloud_that_cannot_be_asked_is_asked_the_next_time(e2b):
    e2b.reasons = ["away"]

    assert orphans.end() == 0


def test_without_a_cloud_there_is_nothing_to_ask():
    assert orphans.end() == 0
