"""What only the socket has: arrays, several agents on one connection, waits that hold up nothing, and its ends."""

import asyncio
from datetime import timedelta

import pytest
from django.utils import timezone

from federation import agents, bus, connections, consumers, store
from federation.models import Agent, Attempt, Task
from tests import factories

pytestmark = pytest.mark.django_db


def send(federation, sender, recipient):
    draft = bus.Draft(sender=sender.pk, recipient=recipient.pk, payload="hello")
    bus.send(federation=federation, draft=draft, now=timezone.now())


def look(socket):
    """What is done every two seconds."""
    socket.do(connections.roll.look(consumers.run))


def test_an_array_is_answered_in_order_and_a_wrong_frame_holds_up_none(socket, federation):
    task = factories.make_task(federation)
    done = socket.frame("complete", {"epoch": 1, "result": 1}, task=task.pk)

    socket.send([socket.frame("hello"), {"verb": "dance", "id": "x"}, 7, socket.frame("claim"), done])

    hello, dance, seven, claim, complete = socket.hear()
    assert (hello["id"], hello["status"]) == (1 + 1, 200)
    assert (dance["id"], dance["status"], list(dance["body"]["errors"])) == ("x", 400, ["verb"])
    assert (seven["id"], seven["status"]) == (None, 400)
    assert (claim["status"], claim["body"]["epoch"]) == (200, 1)
    assert (complete["status"], complete["body"]["state"]) == (200, "succeeded")


@pytest.mark.parametrize("said", ["", "no json", "{}", '"text"', "[" * 5000, "[" + "{}," * 100 + "{}]"])
def test_what_is_no_array_of_frames_is_refused_and_the_connection_goes_on(socket, said):
    socket.send(said)

    (answer,) = socket.hear()
    assert (answer["status"], list(answer["body"]["errors"])) == (400, ["frames"])
    assert socket.ask("hello")[0] == 200


FRAMES = [
    ({"verb": "claim", "extra": 1}, "extra"),
    ({"verb": "claim", "wait": "long"}, "wait"),
    ({"verb": "claim", "wait": True}, "wait"),
    ({"verb": "claim", "body": []}, "body"),
    ({"verb": "claim", "agent": 7}, "agent"),
    ({"verb": "claim", "agent": "x"}, "agent"),
    ({"verb": "claim", "token": 7}, "token"),
    ({"verb": ["claim"]}, "verb"),
    ({"verb": "complete"}, "task"),
    ({"verb": "claim"}, "agent"),
]


@pytest.mark.parametrize(("frame", "part"), FRAMES)
def test_a_frame_that_makes_no_request_names_its_part(socket, frame, part):
    socket.send([frame])

    (answer,) = socket.hear()
    assert (answer["status"], list(answer["body"]["errors"])) == (400, [part])


def test_after_hello_a_frame_need_not_name_its_agent(socket):
    socket.ask("hello", {"connection": "websocket"})

    socket.send([{"verb": "heartbeat", "id": 1}, {"verb": "send", "id": 2, "body": {"payload": 1}}])

    assert [answer["status"] for answer in socket.hear()] == [200, 201]
    assert Agent.objects.get().connection == "websocket"


def test_a_connection_carries_several_agents_and_beats_for_all_of_them(socket, federation):
    made = [factories.make_agent_with_token(federation, f"a{n}") for n in range(3)]
    long_ago = timezone.now() - timedelta(seconds=40)
    socket.send([{"verb": "hello", "agent": str(agent.pk), "token": token} for agent, token in made])
    assert [answer["status"] for answer in socket.hear()] == [200] * 3
    Agent.objects.update(last_heartbeat_at=long_ago)

    socket.send([{"verb": "heartbeat", "agent": str(agent.pk)} for agent, _ in made])

    assert [answer["status"] for answer in socket.hear()] == [200] * 3
    assert Agent.objects.filter(last_heartbeat_at__gt=long_ago).count() == 3


def test_a_key_registers_an_agent_that_is_then_at_home_here(socket, federation, account):
    secret = factories.make_key(account)[1]
    frame = {"verb": "register", "federation": str(federation.pk), "token": secret}

    socket.send([{**frame, "body": {"name": "child", "runtime": "remote"}}])
    (made,) = socket.hear()
    socket.send([{"verb": "heartbeat"}])

    assert (made["status"], made["body"]["token"][:4]) == (201, "nta_")
    assert socket.hear()[0]["status"] == 200


def test_a_connection_that_is_full_makes_no_agent(socket, federation, account, monkeypatch):
    monkeypatch.setattr(consumers, "MOST_AGENTS", 1)
    socket.ask("hello")
    frame = {"verb": "register", "federation": str(federation.pk), "token": factories.make_key(account)[1]}

    socket.send([{**frame, "body": {"name": "child", "runtime": "remote"}}])

    assert (socket.hear()[0]["status"], Agent.objects.count()) == (429, 1)
    assert socket.ask("hello")[0] == 200


def test_a_waiting_claim_holds_up_nothing_and_ends_with_the_task(socket, federation):
    waiting = socket.frame("claim", wait=5)
    socket.send([waiting])
    assert socket.is_quiet()

    assert socket.ask("heartbeat")[0] == 200
    task = factories.make_task(federation)
    store.wake_all([socket.agent.pk])

    (answer,) = socket.hear()
    assert (answer["id"], answer["body"]["task"]["id"]) == (waiting["id"], str(task.pk))


def test_a_waiting_look_into_the_inbox_ends_with_a_message(socket, federation):
    peer = factories.make_agent(federation, "peer")
    socket.send([socket.frame("inbox", wait=5)])
    assert socket.is_quiet()

    socket.ask("send", {"payload": 1})
    assert socket.is_quiet()  # to everyone but itself
    send(federation, peer, socket.agent)

    assert socket.hear()[0]["body"]["results"][0]["payload"] == "hello"


def test_no_more_may_wait_at_once_than_is_of_use(socket):
    socket.send([socket.frame("claim", wait=5), socket.frame("inbox", wait=5), socket.frame("claim", wait=5)])

    (answer,) = socket.hear()
    assert (answer["status"], answer["body"]["code"], answer["retry_after"]) == (429, "resource_limit_exceeded", 1)


def test_waiting_counts_as_one_call(socket, settings, monkeypatch):
    settings.RATE_LIMIT_PER_MINUTE = 3
    monkeypatch.setattr(consumers.store, "mail", lambda agent_id, *, seconds: asyncio.sleep(0.01))

    assert socket.ask("inbox", wait=0.1)[0] == 200
    assert socket.ask("hello")[0] == 200
    assert socket.ask("hello")[0] == 200
    assert socket.ask("hello")[0] == 429


@pytest.mark.parametrize("how", ["removed", "lost"])
def test_an_agent_that_is_gone_is_told_and_the_connection_closed(socket, how):
    socket.ask("hello")
    if how == "removed":
        agents.leave(agent=socket.agent, now=timezone.now(), by="Alice")
    else:
        Agent.objects.update(availability="lost")

    look(socket)

    (bye,) = socket.hear()
    assert (bye["verb"], bye["agent"], bye["status"]) == ("bye", str(socket.agent.pk), 410)
    assert "Register again" in bye["body"]["detail"]
    assert socket.hear() == 4410


def test_a_frame_of_an_agent_that_is_gone_is_answered_and_then_the_connection_closed(socket):
    socket.ask("hello")
    agents.leave(agent=socket.agent, now=timezone.now())

    assert socket.ask("heartbeat")[0] == 410
    assert socket.hear()[0]["verb"] == "bye"
    assert socket.hear() == 4410


def test_a_replaced_token_ends_the_connection_that_uses_the_old_one(socket):
    socket.ask("hello")
    agents.rotate_token(agent=socket.agent, now=timezone.now())

    look(socket)

    assert socket.hear()[0]["body"]["code"] == "not_authenticated"
    assert socket.hear() == 4401


def test_who_replaces_its_own_token_stays_connected(socket):
    socket.ask("hello")
    assert socket.ask("rotate")[0] == 200

    look(socket)

    assert socket.ask("heartbeat")[0] == 200


def test_an_unknown_token_is_told_and_the_connection_closed(socket):
    socket.send([{"verb": "hello", "agent": str(socket.agent.pk), "token": "nta_guessed"}])

    assert socket.hear()[0]["status"] == 401
    assert (socket.hear()[0]["verb"], socket.hear()) == ("bye", 4401)


def test_one_agent_of_several_that_is_gone_leaves_the_others_connected(socket, federation):
    other, token = factories.make_agent_with_token(federation, "other")
    socket.ask("hello")
    socket.send([{"verb": "hello", "agent": str(other.pk), "token": token}])
    socket.hear()
    agents.leave(agent=other, now=timezone.now())

    look(socket)

    assert socket.hear()[0]["agent"] == str(other.pk)
    assert socket.ask("heartbeat")[0] == 200


def test_who_never_says_hello_is_not_waited_for(socket, monkeypatch):
    monkeypatch.setattr(consumers, "HELLO_SECONDS", 0.01)
    socket.close()
    socket.open()

    assert socket.hear() == 4408


def test_a_broken_connection_loses_nothing(socket, federation, monkeypatch):
    """The answer to a claim and a message were under way when it broke; the result was, too."""
    task = factories.make_task(federation)
    peer = factories.make_agent(federation, "peer")
    send(federation, peer, socket.agent)
    socket.ask("hello")
    socket.send([socket.frame("claim"), socket.frame("inbox")])
    socket.hear()  # by nobody
    socket.close()

    socket.open()
    _, hello = socket.ask("hello")
    (mine,) = hello["running"]
    done = {"epoch": mine["epoch"], "result": 42}
    socket.send([socket.frame("complete", done, task=task.pk)])
    socket.hear()  # by nobody, again
    socket.close()
    socket.open()

    assert socket.ask("complete", done, task=task.pk)[0] == 200
    assert Task.objects.get().result == 42
    assert [attempt.state for attempt in Attempt.objects.all()] == ["succeeded"]
    later = timezone.now() + timedelta(seconds=31)
    monkeypatch.setattr(timezone, "now", lambda: later)
    (item,) = socket.ask("inbox")[1]["results"]
    assert (item["payload"], item["delivery_count"]) == ("hello", 2)
