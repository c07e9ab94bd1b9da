from __future__ import annotations

import threading
import uuid

import pytest
from django.http import HttpRequest
from rest_framework.test import APIClient

from ntd_site import rates
from ntd_site.problems import Problem
from tests import factories

pytestmark = pytest.mark.django_db


def client_of(secret):
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {secret}")
    return client


def test_every_answer_carries_the_limit(settings):
    settings.RATE_LIMIT_PER_MINUTE = 1000
    client = client_of(factories.make_key(factories.make_account())[1])

    answers = [client.get("/api/v1/members"), client.get("/api/v1/nope"), APIClient().get("/api/v1/members")]

    for answer in answers:
        assert answer["X-RateLimit-Limit"] == "1000"
        assert int(answer["X-RateLimit-Remaining"]) < 1000
        assert int(answer["X-RateLimit-Reset"]) > 1_700_000_000


def test_a_key_may_have_its_own_limit_and_is_told_when_to_come_back():
    key, secret = factories.make_key(factories.make_account())
    key.rate_limit_per_minute = 2
    key.save()

    answers = [client_of(secret).get("/api/v1/members") for _ in range(3)]

    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert answers[2].json()["code"] == "rate_limited"
    assert 1 <= int(answers[2]["Retry-After"]) <= 120
    assert answers[2]["X-RateLimit-Remaining"] == "0"


def test_guessing_keys_is_limited_by_address(settings):
    settings.RATE_LIMIT_PER_MINUTE = 3
    address = {"REMOTE_ADDR": f"10.0.0.{uuid.uuid4().int % 250}", "HTTP_X_FORWARDED_FOR": "1.2.3.4"}

    answers = [APIClient().get("/api/v1/members", HTTP_AUTHORIZATION=f"Bearer ntd_{n}", **address) for n in range(5)]

    assert [answer.status_code for answer in answers][-1] == 429


def test_the_limit_holds_among_threads():
    identity = f"test:{uuid.uuid4()}"
    allowed = []

    def call():
        allowed.append(rates.take(identity, limit=10).allowed)

    threads = [threading.Thread(target=call) for _ in range(25)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert allowed.count(True) == 10


def test_it_is_off_under_the_test_clock(settings):
    settings.NTD_TEST_CLOCK = settings.DEBUG = True
    identity = f"test:{uuid.uuid4()}"

    assert all(rates.take(identity, limit=1).allowed for _ in range(5))


def test_without_redis_nobody_is_refused(settings, monkeypatch):
    monkeypatch.setattr(rates, "_script", None)
    settings.REDIS_URL = "unix:///nowhere/valkey.sock"

    assert rates.take("anyone", limit=1).allowed

    monkeypatch.setattr(rates, "_script", None)


def test_the_problem_says_the_limit():
    request, identity = HttpRequest(), f"test:{uuid.uuid4()}"
    rates.refuse_beyond(request, identity, limit=1)

    with pytest.raises(Problem, match="More than 1 calls"):
        rates.refuse_beyond(request, identity, limit=1)
