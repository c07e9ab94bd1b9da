"""What only the socket has: arrays, several agents on one connection, waits that hold up nothing, and its ends."""

import asyncio
from datetime import timedelta

import pytest
from django.utils import timezone

from federation import agents, bus, connections, consumers, pulse, store
from federation.models import Agent, Attempt, Task
from tests import factories
from tests.transports import Socket

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


@pytest.fixture
def crew(socket, federation):
    """Three more agents of this connection, and how to beat for each."""
    made = [factories.make_agent_with_token(federation, f"a{n}") for n in range(3)]
    socket.send([{"verb": "hello", "agent": str(agent.pk), "token": token} for agent, token in made])
    assert [answer["status"] for answer in socket.hear()] == [200] * 3
    return [agent for agent, _ in made]


def beat(agent, **body):
    return {"id": agent.name, "verb": "heartbeat", "agent": str(agent.pk)} | ({"body": body} if body else {})


def test_a_connection_carries_several_agents_and_beats_for_all_of_them(socket, crew, django_assert_max_num_queries):
    long_ago = timezone.now() - timedelta(seconds=40)
    Agent.objects.update(last_heartbeat_at=long_ago)

    with django_assert_max_num_queries(10):
        socket.send([beat(agent) for agent in crew] * 8)
        answers = socket.hear()

    assert [(answer["id"], answer["status"]) for answer in answers] == [(agent.name, 200) for agent in crew] * 8
    assert Agent.objects.filter(last_heartbeat_at__gt=long_ago).count() == 3


def test_heartbeats_of_several_sockets_are_written_together(socket, crew, federation, loop, monkeypatch):
    others = [Socket(*factories.make_agent_with_token(federation, f"s{n}"), loop) for n in range(3)]
    for each in others:
        assert each.ask("hello")[0] == 200
    written = []
    many = pulse.remote.heartbeat_many
    monkeypatch.setattr(
        pulse.remote, "heartbeat_many", lambda *, beats, now: written.append(beats) or many(beats=beats, now=now)
    )

    socket.send([beat(agent) for agent in crew])
    for each in others:
        each.send([each.frame("heartbeat", {"load": 0.5})])

    assert [answer["status"] for answer in socket.hear()] == [200] * 3
    assert [each.hear()[0]["status"] for each in others] == [200] * 3
    assert [len(beats) for beats in written] == [6]
    for each in others:
        each.close()


def test_an_array_of_many_kinds_is_answered_in_order(socket, crew, federation):
    task = factories.make_task(federation)
    socket.send(
        [beat(crew[0]), beat(crew[1], load=0.5), {"id": "c", "verb": "claim", "agent": str(crew[0].pk)}, beat(crew[2])]
    )
    answers = socket.hear()
    assert [answer["id"] for answer in answers] == ["a0", "a1", "c", "a2"]
    assert answers[2]["body"]["task"]["id"] == str(task.pk)

    running = [{"task": str(task.pk), "epoch": 1, "progress": 0.5}, {"task": str(task.pk), "epoch": 7}]
    socket.send([beat(crew[0], running=running)])

    assert socket.hear()[0]["body"]["cancel"] == [str(task.pk)]
    assert Task.objects.get().progress == 0.5


def test_a_heartbeat_says_the_same_by_each_way(socket, crew, federation, as_agent):
    (first,) = socket.send([beat(crew[0], status="busy", load=0.25)]) or socket.hear()
    token = agents.rotate_token(agent=crew[0], now=timezone.now())

    assert (
        as_agent(token).post(f"agents/{crew[0].pk}/heartbeat", {"status": "busy", "load": 0.25}).json() == first["body"]
    )


WRONG_BEATS = [
    {"status": "lost"}, {"status": 7}, {"load": 2}, {"load": True}, {"load": "1"}, {"more": 1}, {"running": [{"task": 7}]},
]  # fmt: skip


@pytest.mark.parametrize("body", WRONG_BEATS)
def test_a_wrong_heartbeat_is_refused_in_its_place_and_holds_up_none(socket, crew, body):
    socket.send([beat(crew[0]), beat(crew[1], **body), beat(crew[2])])

    answers = socket.hear()
    assert [answer["status"] for answer in answers] == [200, 400, 200]
    assert list(answers[1]["body"]["errors"])[0].startswith(next(iter(body)))


def test_of_those_that_beat_together_who_is_gone_hears_it_and_the_others_go_on(socket, crew):
    agents.leave(agent=crew[0], now=timezone.now())
    agents.rotate_token(agent=crew[1], now=timezone.now())

    socket.send([beat(agent) for agent in crew])

    assert [answer["status"] for answer in socket.hear()] == [410, 401, 200]
    byes = {answer["agent"] for _ in range(2) for answer in socket.hear()}
    assert byes == {str(crew[0].pk), str(crew[1].pk)}
    socket.send([beat(crew[2])])
    assert socket.hear()[0]["status"] == 200


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
