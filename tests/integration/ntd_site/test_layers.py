import json

import pytest
import redis
from django.conf import settings

from ntd_site import layers


@pytest.fixture
def heard():
    with redis.Redis.from_url(settings.REDIS_URL) as client, client.pubsub(ignore_subscribe_messages=True) as channel:
        channel.subscribe(layers.CHANNEL)
        channel.get_message(timeout=1)

        def heard():
            return json.loads(channel.get_message(timeout=2)["data"])

        yield heard


def test_what_accounts_have_to_say_within_a_tick_is_said_at_once_and_data_each(heard):
    outbox = layers.Outbox(settings.REDIS_URL)

    outbox.put("a", ["executions", "execution-1"], None)
    outbox.put("b", ["credits"], None)
    outbox.put("a", ["graph"], {"n": 1})
    outbox.put("a", ["graph"], {"n": 2})
    outbox.put("a", ["executions", "execution-2"], None)

    assert heard() == [
        {"account": "a", "topics": ["executions", "execution-1", "execution-2"]},
        {"account": "b", "topics": ["credits"]},
        {"account": "a", "topics": ["graph"], "data": {"n": 1}},
        {"account": "a", "topics": ["graph"], "data": {"n": 2}},
    ]


def test_what_is_said_at_the_very_end_of_a_process_still_leaves(heard):
    outbox = layers.Outbox(settings.REDIS_URL)
    outbox.put("a", ["executions"], None)

    outbox.send()
    outbox.send()

    assert heard() == [{"account": "a", "topics": ["executions"]}]


def test_a_redis_that_is_away_is_logged_and_the_next_tick_tries_anew(monkeypatch):
    said = []
    monkeypatch.setattr(layers.log, "warning", lambda text, *given: said.append(text % given))
    outbox = layers.Outbox("unix:///nowhere.sock")
    outbox._sender = layers.os.getpid()  # no thread
    outbox.put("a", ["executions"], None)

    outbox.send()

    assert [text.partition(":")[0] for text in said] == ["1 live nudges lost"]
    assert outbox._nudges == {}
