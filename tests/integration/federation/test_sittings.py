"""Managed agents sit down to their mail: at least once, in order, settled one by one, and never in the tasks' way."""

import json
from datetime import timedelta

import pytest
from django.db import IntegrityError, transaction
from django.utils import timezone

from billing.models import UsageRecord
from federation import (
    agents,
    bus,
    coordination,
    dispatch,
    history,
    losses,
    mail,
    managed,
    readers,
    sittings,
    store,
    tasks,
    wages,
)
from federation.models import DeadLetter, Sitting, Task
from sandboxes import claims, executions, executor
from sandboxes.models import Execution
from sandboxes.runtimes import Artifact, RuntimeLost
from tests import factories
from tests.scripted import outcome

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("runtime", "empty_mail")]
CODE = "def on_message(message):\n    return None\n"
NOW = timezone.now()


def after(seconds):
    return NOW + timedelta(seconds=seconds)


@pytest.fixture
def empty_mail():
    store.client().delete(store.bus_key("mail"))


@pytest.fixture
def federation():
    return factories.make_federation()


@pytest.fixture
def reader(federation, django_capture_on_commit_callbacks):
    return add(federation, django_capture_on_commit_callbacks)


@pytest.fixture
def peer(federation):
    return factories.make_agent(federation, "peer")


def add(federation, capture, name="reader", code=CODE, **handler):
    wanted = {"code": code, **handler}
    with capture(execute=True):
        return coordination.add_agent(federation=federation, name=name, handler=wanted, by="Alice", now=NOW)[0]


def send(federation, sender, recipient, payload=None, now=NOW, **changes):
    draft = bus.Draft(sender.pk, recipient.pk if recipient else None, payload=payload, **changes)
    return bus.send(federation=federation, draft=draft, now=now)


def lines(*said):
    return (Artifact("mail.jsonl", b"\n".join(json.dumps(each).encode() for each in said)),)


def answering(decide):
    """A program that says of each message what `decide` does: a reply, an exception, or BaseException: it ends."""

    def script(request):
        told = []
        for message in json.loads(request.files["mail.json"])["messages"]:
            told.append({"begin": message["id"]})
            found = decide(message)
            if isinstance(found, SystemExit):
                return outcome(exit_code=1, stderr=b"out of memory\n", artifacts=lines(*told))
            key = "error" if isinstance(found, Exception) else "reply"
            told.append({"id": message["id"], key: str(found) if key == "error" else found})
        return outcome(artifacts=lines(*told))

    return script


def run_all(now=NOW):
    while execution := claims.claim(now=now + timedelta(seconds=60)):
        executor.run(execution=execution, clock=lambda: now)


def work(capture, now=NOW):
    """One round: sit down, run, settle; says the sittings begun."""
    with capture(execute=True):
        begun = sittings.begin_all(now=now)
    run_all(now)
    for sitting in begun:
        with capture(execute=True):
            sittings.advance(execution_id=sitting.execution_id, now=now)
    return begun


def accounts(federation, now=NOW):
    found = bus.accounting(federation=federation, now=now)
    return {"delivered": found.delivered, "dead": found.dead, "queued": found.queued, "expired": found.expired}


def test_many_messages_are_one_execution_and_are_acknowledged_after_success(
    federation, reader, peer, runtime, django_capture_on_commit_callbacks
):
    seen = []
    runtime.script = answering(seen.append)
    for n in range(20):
        send(federation, peer, reader, n)

    (sitting,) = work(django_capture_on_commit_callbacks)

    sitting.refresh_from_db()
    assert [message["payload"] for message in seen] == list(range(20))
    assert (seen[0]["from"], seen[0]["from_name"], seen[0]["delivery_count"]) == (str(peer.pk), "peer", 1)
    assert (sitting.taken, sitting.done, sitting.failed, sitting.messages) == (20, 20, 0, [])
    assert (sitting.execution.agent, sitting.execution.metadata["messages"]) == (str(reader.pk), "20")
    assert accounts(federation) == {"delivered": 20, "dead": 0, "queued": 0, "expired": 0}
    assert readers.due(now=after(3600)) == {}


def test_a_message_calls_its_reader_once_until_it_was_looked_for(federation, reader, peer, monkeypatch):
    called = []
    monkeypatch.setattr(tasks.read_mail, "delay_on_commit", lambda: called.append(1))
    other = factories.make_agent(federation, "remote")

    send(federation, peer, other)
    for _ in range(3):
        send(federation, peer, reader)

    assert called == [1]
    assert readers.due(now=NOW) == {reader.pk: federation.pk}


def test_a_broadcast_and_a_pack_are_read_too(federation, reader, peer, runtime, django_capture_on_commit_callbacks):
    seen = []
    runtime.script = answering(lambda message: seen.append(message["payload"]))
    send(federation, peer, None, "all")
    bus.send_many(federation=federation, drafts=[bus.Draft(peer.pk, reader.pk, payload=n) for n in range(150)], now=NOW)

    assert [each.taken for each in work(django_capture_on_commit_callbacks)] == [100]
    assert [each.taken for each in work(django_capture_on_commit_callbacks)] == [51]
    assert seen == ["all", *range(150)]


def test_without_on_message_they_stay_queued_until_a_version_reads_them(
    federation, peer, runtime, django_capture_on_commit_callbacks
):
    runtime.script = answering(lambda message: None)
    agent = add(federation, django_capture_on_commit_callbacks, code="def handle(payload):\n    return 1\n")
    send(federation, peer, agent)
    assert work(django_capture_on_commit_callbacks) == []

    with django_capture_on_commit_callbacks(execute=True):
        coordination.change_agent(agent=agent, handler={"code": CODE}, by="Bob", now=NOW)
    assert len(work(django_capture_on_commit_callbacks)) == 1

    with django_capture_on_commit_callbacks(execute=True):
        coordination.change_agent(agent=agent, handler=None, by="Bob", now=NOW)
    send(federation, peer, agent)
    assert work(django_capture_on_commit_callbacks) == []
    assert accounts(federation)["queued"] == 1


def test_what_a_forgetful_redis_lost_is_mended_by_the_sweep(
    federation, reader, peer, django_capture_on_commit_callbacks
):
    store.client().delete(store.bus_key("readers", federation.pk))
    send(federation, peer, reader)
    assert readers.due(now=NOW) == {}

    sittings.see_to(federation_id=federation.pk, now=NOW)

    assert readers.due(now=NOW) == {reader.pk: federation.pk}
    send(federation, peer, reader)
    assert len(work(django_capture_on_commit_callbacks)) == 1


def test_a_request_is_answered_and_a_reply_is_not(
    federation, reader, peer, runtime, django_capture_on_commit_callbacks
):
    runtime.script = answering(lambda message: {"heard": message["payload"]})
    other = add(federation, django_capture_on_commit_callbacks, "other")
    asked = send(federation, peer, reader, "how?", reply_timeout_seconds=60)
    plain = send(federation, other, reader, "that")

    work(django_capture_on_commit_callbacks)

    (reply,) = bus.receive(agent=peer, most=10, clock=lambda: NOW)
    assert (reply.message["payload"], reply.message["correlation_id"]) == ({"heard": "how?"}, str(asked.id))
    assert reply.message["from"] == str(reader.pk)
    (sitting,) = work(django_capture_on_commit_callbacks)  # the other reads the reply to what it sent
    assert (
        sitting.agent,
        json.loads(sitting.execution.file_contents()["mail.json"])["messages"][0]["correlation_id"],
    ) == (
        other,
        str(plain.id),
    )
    assert work(django_capture_on_commit_callbacks) == []
    assert accounts(federation)["queued"] == 1  # the reply that the peer has not acknowledged


def test_a_failed_message_holds_up_none_and_comes_again_until_it_is_dead(
    federation, reader, peer, runtime, django_capture_on_commit_callbacks
):
    tries = []

    def decide(message):
        if message["payload"] == "bad":
            tries.append(message["delivery_count"])
            return ValueError("I cannot read this")
        return None

    runtime.script = answering(decide)
    send(federation, peer, reader, "bad", ttl_seconds=3600)
    send(federation, peer, reader, "good")
    for round in range(mail.MOST_DELIVERIES):
        assert len(work(django_capture_on_commit_callbacks, after(31 * round))) == 1
        assert work(django_capture_on_commit_callbacks, after(31 * round + 1)) == []
        assert accounts(federation)["delivered"] == 1

    history.flush_all(now=NOW)
    assert tries == [1, 2, 3, 4, 5]
    assert accounts(federation) == {"delivered": 1, "dead": 1, "queued": 0, "expired": 0}
    letter = DeadLetter.objects.get()
    assert (letter.reason, letter.error, letter.agent) == ("attempts", "I cannot read this", reader)
    assert Sitting.objects.order_by("started_at").first().error == "I cannot read this"


def test_a_message_that_ends_the_program_takes_no_other_with_it(
    federation, reader, peer, runtime, django_capture_on_commit_callbacks
):
    runtime.script = answering(lambda message: SystemExit() if message["payload"] == 1 else None)
    for n in range(4):
        send(federation, peer, reader, n, ttl_seconds=3600)

    (first,) = work(django_capture_on_commit_callbacks)
    first.refresh_from_db()
    assert (first.taken, first.done, first.failed, first.error) == (4, 1, 1, "out of memory")

    (second,) = work(django_capture_on_commit_callbacks)
    second.refresh_from_db()
    assert (second.taken, second.done) == (2, 2)
    assert accounts(federation)["queued"] == 1


def test_a_program_that_falls_over_at_once_is_not_begun_for_ever(
    federation, reader, peer, runtime, django_capture_on_commit_callbacks
):
    runtime.script = lambda request: outcome(exit_code=1, stderr=b"ImportError: no such module\n")
    send(federation, peer, reader, ttl_seconds=3600)

    for round in range(mail.MOST_DELIVERIES):
        assert len(work(django_capture_on_commit_callbacks, after(31 * round))) == 1
    assert work(django_capture_on_commit_callbacks, after(3000)) == []

    history.flush_all(now=NOW)
    assert DeadLetter.objects.get().error == "ImportError: no such module"


def test_without_credits_they_wait_uncounted_with_the_reason(
    federation, reader, peer, runtime, monkeypatch, django_capture_on_commit_callbacks
):
    seen = []
    runtime.script = answering(lambda message: seen.append(message["delivery_count"]))
    send(federation, peer, reader)
    with monkeypatch.context() as patched:
        patched.setattr(executions, "submit", refusing)
        assert work(django_capture_on_commit_callbacks) == []
        assert work(django_capture_on_commit_callbacks, after(14)) == []
        assert work(django_capture_on_commit_callbacks, after(16)) == []

    assert readers.why_waiting(agent=reader) == str(executions.QueueFull())
    assert Sitting.objects.count() == 0
    assert len(work(django_capture_on_commit_callbacks, after(32))) == 1
    assert (seen, readers.why_waiting(agent=reader)) == ([1], "")


def refusing(**_):
    raise executions.QueueFull


def test_a_lost_sandbox_costs_a_delivery_and_no_message(
    federation, reader, peer, runtime, django_capture_on_commit_callbacks
):
    seen = []

    def lost(request, on_output):
        raise RuntimeLost("the node is gone")

    send(federation, peer, reader, ttl_seconds=3600)
    runtime.during = lost
    (sitting,) = work(django_capture_on_commit_callbacks)
    sitting.refresh_from_db()
    assert (sitting.done, sitting.failed, sitting.error) == (
        0,
        1,
        "The sandbox was lost 3 times, the last time because: the node is gone",
    )

    runtime.during = lambda request, on_output: None
    runtime.script = answering(lambda message: seen.append(message["delivery_count"]))
    for second in (16, 32):
        work(django_capture_on_commit_callbacks, after(second))
    assert seen == [2]
    assert accounts(federation)["delivered"] == 1


def test_an_end_that_no_signal_told_is_found(federation, reader, peer, runtime, django_capture_on_commit_callbacks):
    runtime.script = answering(lambda message: None)
    send(federation, peer, reader)
    (sitting,) = sittings.begin_all(now=NOW)
    assert (sittings.watch(now=NOW).to_advance, dispatch.has_work()) == ([], True)
    run_all()

    assert sittings.watch(now=NOW).to_advance == [sitting.execution_id]
    tasks.advance(execution_id=str(sitting.execution_id))
    assert (sittings.watch(now=NOW).to_advance, dispatch.has_work()) == ([], False)


def test_settling_that_broke_off_in_the_middle_is_done_again_and_replies_once(
    federation, reader, peer, runtime, monkeypatch, django_capture_on_commit_callbacks
):
    runtime.script = answering(lambda message: "yes")
    send(federation, peer, reader)
    with django_capture_on_commit_callbacks(execute=True):
        (sitting,) = sittings.begin_all(now=NOW)
    run_all()
    with monkeypatch.context() as patched:
        patched.setattr(bus, "acknowledge", dying)
        with pytest.raises(KeyboardInterrupt), transaction.atomic():
            sittings.advance(execution_id=sitting.execution_id, now=NOW)

    for _ in range(2):
        sittings.advance(execution_id=sitting.execution_id, now=after(1))

    assert len(bus.receive(agent=peer, most=10, clock=lambda: NOW)) == 1
    assert accounts(federation)["delivered"] == 1


def dying(**_):
    raise KeyboardInterrupt


def test_beginning_that_broke_off_is_begun_again_when_the_message_is_due_again(
    federation, reader, peer, runtime, monkeypatch, django_capture_on_commit_callbacks
):
    send(federation, peer, reader)
    with monkeypatch.context() as patched:
        patched.setattr(executions, "submit", dying)
        with pytest.raises(KeyboardInterrupt), transaction.atomic():
            sittings.begin_all(now=NOW)

    assert work(django_capture_on_commit_callbacks, after(1)) == []
    assert len(work(django_capture_on_commit_callbacks, after(31))) == 1


def test_an_agent_sits_once_at_a_time_and_a_federation_has_room_for_some(
    federation, peer, monkeypatch, django_capture_on_commit_callbacks
):
    monkeypatch.setattr(sittings, "AT_ONCE", 2)
    crew = [add(federation, django_capture_on_commit_callbacks, f"r{n}") for n in range(3)]
    send(federation, peer, None)

    first, second = (each.agent for each in sittings.begin_all(now=NOW))
    send(federation, peer, None)
    assert sittings.begin_all(now=NOW) == []
    with pytest.raises(IntegrityError), transaction.atomic():
        Sitting.objects.create(agent=first, handler=first.handler, started_at=NOW)
    assert sittings.begin(agent=first, now=NOW) is None
    run_all()
    for execution in Execution.objects.all():
        with django_capture_on_commit_callbacks(execute=True):
            sittings.advance(execution_id=execution.pk, now=after(1))
    # Who waited goes before those that are at it again.
    assert {*crew} - {first, second} < {each.agent for each in sittings.begin_all(now=after(2))}


def test_mail_takes_none_of_the_places_of_tasks(federation, reader, peer, django_capture_on_commit_callbacks):
    factories.make_task(federation, type="mine")
    send(federation, peer, reader)
    sittings.begin_all(now=NOW)

    assert managed.next_to_start(federation_id=federation.pk) == []
    tasks.assign(federation_id=str(federation.pk))

    assert Task.objects.get().state in ("running", "assigned")
    assert dispatch.has_work()


@pytest.mark.parametrize("end", ["drain", "lose"])
def test_who_takes_no_work_reads_no_mail(federation, reader, peer, end, django_capture_on_commit_callbacks):
    send(federation, peer, reader)
    if end == "drain":
        agents.drain(agent=reader, now=NOW)
    else:
        losses.lose(agent=reader, now=NOW)

    assert work(django_capture_on_commit_callbacks) == []
    assert accounts(federation)["queued"] == 1


def test_the_program_of_an_agent_that_left_is_stopped_and_its_mail_is_dead(
    federation, reader, peer, runtime, django_capture_on_commit_callbacks
):
    send(federation, peer, reader)
    (sitting,) = sittings.begin_all(now=NOW)
    with django_capture_on_commit_callbacks(execute=True):
        agents.leave(agent=reader, now=NOW)

    assert sittings.watch(now=NOW).to_stop == [sitting.execution_id]
    tasks.stop(execution_id=str(sitting.execution_id))
    tasks.stop(execution_id=str(sitting.execution_id))
    with django_capture_on_commit_callbacks(execute=True):
        sittings.advance(execution_id=sitting.execution_id, now=NOW)

    assert Sitting.objects.live().count() == 0
    assert accounts(federation) == {"delivered": 0, "dead": 1, "queued": 0, "expired": 0}
    assert readers.due(now=after(100)) == {}


def test_a_sitting_is_charged_once_by_its_seconds(
    federation, reader, peer, runtime, django_capture_on_commit_callbacks
):
    runtime.script = answering(lambda message: None)
    send(federation, peer, reader)
    with django_capture_on_commit_callbacks(execute=True):
        (sitting,) = sittings.begin_all(now=NOW)
    run_all()
    sittings.advance(execution_id=sitting.execution_id, now=after(2))

    assert wages.charge_sittings(now=after(3)) == 1
    assert wages.charge_sittings(now=after(3)) == 0

    usage = UsageRecord.objects.get(meter="agent_second")
    assert (usage.quantity, usage.agent) == (2, str(reader.pk))
    assert Sitting.objects.get().cost_ucr == usage.cost_ucr > 0
