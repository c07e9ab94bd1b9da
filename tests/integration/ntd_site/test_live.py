"""The live socket against the real Redis and database."""

from __future__ import annotations

import asyncio
import contextlib
import json

import pytest
from asgiref.sync import sync_to_async
from asgiref.testing import ApplicationCommunicator
from channels.layers import get_channel_layer
from django.conf import settings
from django.test import Client

from ntd_site import consumers, hub
from ntd_site.asgi import application
from tests import factories

pytestmark = pytest.mark.django_db(transaction=True)
ORIGIN = (b"origin", b"http://testserver")


class WebSocket(ApplicationCommunicator):
    """A browser's end. (Channels' own brings in a server that this project does not have.)"""

    def __init__(self, headers):
        scope = {"type": "websocket", "path": "/ws/live/", "query_string": b"", "headers": headers, "subprotocols": []}
        super().__init__(application, scope)

    async def connect(self):
        await self.send_input({"type": "websocket.connect"})
        return (await self.receive_output(5))["type"] == "websocket.accept"

    async def send_to(self, text_data):
        await self.send_input({"type": "websocket.receive", "text": text_data})

    async def receive_from(self):
        return (await self.receive_output(5))["text"]

    async def disconnect(self):
        await self.send_input({"type": "websocket.disconnect", "code": 1000})
        await self.wait(5)


@sync_to_async
def cookie_of(user):
    client = Client()
    client.force_login(user)
    return client.cookies[settings.SESSION_COOKIE_NAME].value


@sync_to_async
def cast():
    account = factories.make_account()
    other = factories.make_account(factories.make_user("Charlie"))
    return {
        "account": account,
        "other": other,
        "alice": account.memberships.get().user,
        "charlie": other.memberships.get().user,
        "stella": factories.make_staff(),
    }


@contextlib.asynccontextmanager
async def socket_of(user=None, *, topics=(), cookie=None):
    cookie = cookie or (await cookie_of(user) if user else "")
    headers = [ORIGIN, (b"host", b"testserver"), (b"cookie", f"{settings.SESSION_COOKIE_NAME}={cookie}".encode())]
    socket = WebSocket(headers)
    assert await socket.connect()
    try:
        if topics:
            before = len(hub.hub._watching)
            await socket.send_to(text_data=json.dumps({"op": "sub", "topics": list(topics)}))
            await until(lambda: len(hub.hub._watching) > before or topics[0] in hub.hub._watching)
        yield socket
    finally:
        await socket.disconnect()


async def until(holds, seconds=5.0):
    async with asyncio.timeout(seconds):
        while not holds():
            await asyncio.sleep(0.01)


async def nudge(account, topics, **more):
    """Again and again until somebody hears it: the hub's own subscription takes a moment."""
    await sync_to_async(get_channel_layer().nudge)(account and account.pk, topics, **more)


async def heard(socket, account, topics, **more):
    async with asyncio.timeout(5):
        while True:
            await nudge(account, topics, **more)
            # A timeout of the communicator's own would cancel the application with it.
            for _ in range(20):
                if not socket.output_queue.empty():
                    return json.loads(await socket.receive_from())
                await asyncio.sleep(0.01)


async def closed_with(socket):
    said = await socket.receive_output(timeout=5)
    while said["type"] == "websocket.send":
        said = await socket.receive_output(timeout=5)
    assert said["type"] == "websocket.close"
    return said["code"]


async def test_a_nudge_reaches_who_watches_it():
    people = await cast()

    async with socket_of(people["alice"], topics=["executions"]) as socket:
        assert await heard(socket, people["account"], ["executions", "execution-1"]) == {
            "t": "nudge",
            "topics": ["executions"],
        }


async def test_data_travels_with_its_topic():
    people = await cast()

    async with socket_of(people["alice"], topics=["topology-1"]) as socket:
        assert await heard(socket, people["account"], ["topology-1"], data={"v": 2}) == {
            "t": "data",
            "topic": "topology-1",
            "data": {"v": 2},
        }


async def test_nobody_hears_another_account_and_staff_hear_all():
    people = await cast()

    async with (
        socket_of(people["charlie"], topics=["executions"]) as charlie,
        socket_of(people["stella"], topics=["executions", "nodes"]) as stella,
    ):
        await heard(stella, people["account"], ["executions"])
        await heard(stella, None, ["nodes"])

        assert charlie.output_queue.empty()


async def test_nudges_of_one_tick_come_as_one():
    people = await cast()

    async with socket_of(people["alice"], topics=["executions", "tasks-1"]) as socket:
        await heard(socket, people["account"], ["executions"])
        await asyncio.sleep(hub.TICK_SECONDS * 3)
        while not socket.output_queue.empty():
            await socket.receive_from()
        for _ in range(30):
            hub.hub.take({"account": str(people["account"].pk), "topics": ["executions", "tasks-1"]})
        await asyncio.sleep(hub.TICK_SECONDS * 3)

        assert json.loads(await socket.receive_from()) == {"t": "nudge", "topics": ["executions", "tasks-1"]}
        assert socket.output_queue.empty()


async def test_what_is_no_longer_watched_is_not_heard():
    people = await cast()

    async with socket_of(people["alice"], topics=["executions", "agents"]) as socket:
        await socket.send_to(text_data=json.dumps({"op": "unsub", "topics": ["executions"]}))
        await until(lambda: "executions" not in hub.hub._watching)

        assert (await heard(socket, people["account"], ["executions", "agents"]))["topics"] == ["agents"]


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"op": "sub"}', '{"op": "sub", "topics": [1, "a b", "<x>"]}', "[" * 3000]
)
async def test_nonsense_is_passed_over(text):
    people = await cast()

    async with socket_of(people["alice"], topics=["executions"]) as socket:
        await socket.send_to(text_data=text)

        assert await heard(socket, people["account"], ["executions"])


async def test_who_is_not_signed_in_is_told_so():
    async with socket_of() as socket:
        assert json.loads(await socket.receive_from()) == {"t": "bye", "code": 4401}
        assert await closed_with(socket) == 4401


async def test_another_site_s_page_gets_no_socket():
    socket = WebSocket([(b"origin", b"http://evil.example")])

    assert not await socket.connect()


async def test_a_huge_message_ends_the_socket():
    people = await cast()

    async with socket_of(people["alice"]) as socket:
        await socket.send_to(text_data="x" * (consumers.MOST_BYTES + 1))

        assert await closed_with(socket) == 1009


async def test_a_person_has_so_many_sockets(monkeypatch):
    monkeypatch.setattr(consumers, "MOST_SOCKETS", 1)
    people = await cast()

    async with socket_of(people["alice"]), socket_of(people["stella"]), socket_of(people["alice"]) as third:
        assert await closed_with(third) == 4429


async def test_topics_are_bounded(monkeypatch):
    monkeypatch.setattr(consumers, "MOST_TOPICS", 3)
    people = await cast()

    async with socket_of(people["alice"], topics=[f"execution-{n}" for n in range(9)]):
        assert len(hub.hub._watching) == 3


async def test_signing_out_elsewhere_ends_the_socket(monkeypatch):
    monkeypatch.setattr(consumers, "RECHECK_SECONDS", 0.05)
    people = await cast()
    cookie = await cookie_of(people["alice"])

    async with socket_of(cookie=cookie) as socket:
        await sync_to_async(_sign_out)(cookie)

        assert await closed_with(socket) == 4401


def _sign_out(cookie):
    client = Client()
    client.cookies[settings.SESSION_COOKIE_NAME] = cookie
    client.post("/sign-out/")


async def test_who_left_the_account_hears_no_more(monkeypatch):
    monkeypatch.setattr(consumers, "RECHECK_SECONDS", 0.05)
    people = await cast()

    async with socket_of(people["alice"], topics=["executions"]) as socket:
        await heard(socket, people["account"], ["executions"])
        await sync_to_async(people["account"].memberships.all().delete)()
        viewer = next(iter(hub.hub.viewers))
        await until(lambda: viewer.accounts == set())
        await asyncio.sleep(hub.TICK_SECONDS * 3)
        while not socket.output_queue.empty():
            await socket.receive_from()

        hub.hub.take({"account": str(people["account"].pk), "topics": ["executions"]})

        assert viewer not in hub.hub._pending


class Stuck:
    """A viewer whose browser takes nothing."""

    def __init__(self):
        self.person, self.topics, self.accounts, self.code = "x", set(), None, None

    async def send_text(self, text):
        await asyncio.sleep(60)

    async def end(self, code):
        self.code = code


class Keeps(Stuck):
    def __init__(self):
        super().__init__()
        self.texts = []

    async def send_text(self, text):
        self.texts.append(json.loads(text))


async def test_a_socket_that_takes_nothing_is_given_up(monkeypatch):
    monkeypatch.setattr(hub, "MOST_LAG_SECONDS", 0)
    own, stuck, other = hub.Hub(), Stuck(), Keeps()
    own.viewers |= {stuck, other}
    for viewer in (stuck, other):
        own.watch(viewer, {"executions"})

    own.take({"account": "a", "topics": ["executions"]})
    await own.flush()
    await asyncio.sleep(0)
    await own.flush()

    assert stuck.code == 1013
    assert stuck not in own.viewers
    assert other.texts == [{"t": "nudge", "topics": ["executions"]}]
    for send in own._sends:
        send.cancel()


async def test_too_much_data_becomes_a_word_to_fetch_it_anew(monkeypatch):
    monkeypatch.setattr(hub, "MOST_DATA", 3)
    own, viewer = hub.Hub(), Keeps()
    own.viewers.add(viewer)
    own.watch(viewer, {"topology-1"})

    for number in range(10):
        own.take({"account": "a", "topics": ["topology-1"], "data": number})
    await own.flush()
    await asyncio.sleep(0)

    assert viewer.texts == [{"t": "resync", "topic": "topology-1"}]


async def test_after_losing_redis_everything_watched_is_fetched_anew():
    own, viewer = hub.Hub(), Keeps()
    own.viewers.add(viewer)
    own.watch(viewer, {"executions"})

    own._catch_up()
    await own.flush()
    await asyncio.sleep(0)

    assert viewer.texts == [{"t": "nudge", "topics": ["executions"]}]
