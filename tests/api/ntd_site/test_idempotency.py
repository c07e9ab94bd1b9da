from __future__ import annotations

import threading
import time
from datetime import timedelta

import pytest
from django.db import connection
from django.http import HttpResponse
from django.urls import path
from django.utils import timezone
from rest_framework.response import Response
from rest_framework.test import APIClient
from rest_framework.views import APIView

from billing.models import ApiKey, IdempotencyRecord
from ntd_site import idempotency, urls
from ntd_site.problems import Problem
from tests import factories

started, may_end = threading.Event(), threading.Event()
calls: list[str] = []


class Slow(APIView):
    def post(self, request):
        calls.append("slow")
        started.set()
        may_end.wait(10)
        return Response({"calls": len(calls)}, status=201)


class Answers(APIView):
    """Answers with the status it is told to, and counts."""

    def post(self, request):
        calls.append("answers")
        status = request.data["status"]
        if status == 402:
            raise Problem("insufficient_credits", "Insufficient credits: need 2, have 1", needed="2", available="1")
        if status == 500:
            raise RuntimeError("broken")
        return Response({"calls": len(calls)}, status=status)


class Required(APIView):
    idempotency_required = True

    def post(self, request):
        return HttpResponse(status=204)


urlpatterns = [
    path("api/v1/slow", Slow.as_view()),
    path("api/v1/answers", Answers.as_view()),
    path("api/v1/required", Required.as_view()),
    *urls.urlpatterns,
]
handler500 = urls.handler500


@pytest.fixture(autouse=True)
def _fresh():
    calls.clear()
    started.clear()
    may_end.clear()


@pytest.fixture
def account():
    return factories.make_account()


@pytest.fixture
def api(account):
    return client_of(account)


def client_of(account, **changes):
    client = APIClient(raise_request_exception=False)
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {factories.make_key(account, **changes)[1]}")
    return client


def post(client, body, *, key="k-1", path="/api/v1/api-keys"):
    return client.post(path, body, format="json", HTTP_IDEMPOTENCY_KEY=key)


KEY = {"name": "bot", "scopes": ["billing:read"]}


@pytest.mark.django_db
def test_the_same_again_gets_the_first_answer_without_its_secret(api):
    first = post(api, KEY)
    again = post(api, {"scopes": ["billing:read"], "name": "bot"})

    assert first.status_code == again.status_code == 201
    assert again["Idempotent-Replayed"] == "true"
    assert "Idempotent-Replayed" not in first
    assert again.json() == {**first.json(), "key": None}
    assert ApiKey.objects.filter(name="bot").count() == 1
    assert first.json()["key"].encode() not in bytes(IdempotencyRecord.objects.get().body)


@pytest.mark.django_db
def test_the_same_key_with_another_body_is_422(api):
    post(api, KEY)

    response = post(api, KEY | {"name": "other"})

    assert (response.status_code, response.json()["code"]) == (422, "idempotency_key_reused")


@pytest.mark.django_db
def test_wait_is_no_part_of_the_request(api):
    post(api, KEY)

    assert post(api, KEY, path="/api/v1/api-keys?wait=10")["Idempotent-Replayed"] == "true"
    assert post(api, KEY, path="/api/v1/api-keys?dry=1").status_code == 422


@pytest.mark.django_db
def test_a_key_counts_per_account_and_path(api):
    other = client_of(factories.make_account(factories.make_user("Charlie")))

    assert post(api, KEY).status_code == 201
    assert "Idempotent-Replayed" not in post(other, KEY)
    assert post(api, {"email": "new@example.com", "role": "viewer"}, path="/api/v1/members").status_code == 201


@pytest.mark.django_db
@pytest.mark.parametrize("key", ["", "a" * 256, "two words", "naïve", "tab\tbed"])
def test_a_key_nobody_can_keep_is_400(api, key):
    response = post(api, KEY, key=key)

    assert response.status_code == 400
    assert "Idempotency-Key" in response.json()["errors"]


@pytest.mark.django_db
@pytest.mark.urls(__name__)
def test_some_endpoints_want_a_key(api):
    assert "Idempotency-Key" in api.post("/api/v1/required", {}, format="json").json()["errors"]
    assert post(api, {}, path="/api/v1/required").status_code == 204
    assert post(api, {}, path="/api/v1/required")["Idempotent-Replayed"] == "true"


@pytest.mark.django_db
@pytest.mark.urls(__name__)
@pytest.mark.parametrize("status", [402, 500, 429])
def test_answers_that_may_change_are_not_kept(api, status):
    for _ in range(2):
        assert post(api, {"status": status}, path="/api/v1/answers").status_code == status

    assert len(calls) == 2
    assert not IdempotencyRecord.objects.exists()


@pytest.mark.django_db
@pytest.mark.urls(__name__)
def test_a_refusal_of_the_view_is_kept(api):
    for _ in range(2):
        assert post(api, {"status": 409}, path="/api/v1/answers").status_code == 409

    assert len(calls) == 1


@pytest.mark.django_db
def test_a_replay_is_authenticated_anew(api, account):
    post(api, KEY)
    reader = client_of(account, scopes=("account:read",))

    assert post(reader, KEY).status_code == 403


@pytest.mark.django_db(transaction=True)
@pytest.mark.urls(__name__)
def test_while_the_first_runs_the_second_is_409(account):
    client = client_of(account)
    answers = []

    def first():
        answers.append(post(client, {"a": 1}, path="/api/v1/slow"))
        connection.close()

    thread = threading.Thread(target=first)
    thread.start()
    assert started.wait(10)
    second = post(client, {"a": 1}, path="/api/v1/slow")
    may_end.set()
    thread.join()
    third = post(client, {"a": 1}, path="/api/v1/slow")

    assert (second.status_code, second.json()["code"]) == (409, "conflict")
    assert int(second["Retry-After"]) >= 1
    assert answers[0].status_code == third.status_code == 201
    assert third["Idempotent-Replayed"] == "true"
    assert calls == ["slow"]


def left_behind(client, *, leased_seconds):
    """What a process leaves that died while it ran: its row, without an answer."""
    may_end.set()
    post(client, {"a": 1}, path="/api/v1/slow")
    calls.clear()
    left = {"state": "running", "status": None, "body": None}
    IdempotencyRecord.objects.update(leased_until=timezone.now() + timedelta(seconds=leased_seconds), **left)
    return IdempotencyRecord.objects.get()


@pytest.fixture
def other_session():
    """A session of the database as another process has it."""
    opened = connection.copy()
    yield opened
    opened.close()


def hold_lock(session, record):
    with session.cursor() as cursor:
        cursor.execute("select pg_advisory_lock(%s)", [idempotency._lock_of(record.runner)])


@pytest.mark.django_db
@pytest.mark.urls(__name__)
def test_what_a_dead_process_left_is_taken_over_at_once(api, other_session):
    hold_lock(other_session, left_behind(api, leased_seconds=60))
    assert post(api, {"a": 1}, path="/api/v1/slow").status_code == 409

    other_session.close()  # as the database does for a process that dies

    waited = time.monotonic()
    while (answer := post(api, {"a": 1}, path="/api/v1/slow")).status_code == 409:
        assert time.monotonic() - waited < 5
    assert answer.status_code == 201
    assert IdempotencyRecord.objects.get().state == "answered"
    assert calls == ["slow"]


@pytest.mark.django_db
@pytest.mark.urls(__name__)
def test_who_cannot_be_seen_dying_is_given_up_after_its_lease(api, other_session):
    hold_lock(other_session, left_behind(api, leased_seconds=-1))

    assert post(api, {"a": 1}, path="/api/v1/slow").status_code == 201
    assert IdempotencyRecord.objects.get().state == "answered"


@pytest.mark.django_db
@pytest.mark.urls(__name__)
def test_of_many_repeats_after_a_death_one_takes_over(account, api, transactional_db):
    left_behind(api, leased_seconds=60)
    may_end.clear()
    client, answers = client_of(account), []

    def repeat():
        answers.append(post(client, {"a": 1}, path="/api/v1/slow").status_code)
        connection.close()

    threads = [threading.Thread(target=repeat) for _ in range(6)]
    for thread in threads:
        thread.start()
    while len(answers) < 5:
        time.sleep(0.01)
    may_end.set()
    for thread in threads:
        thread.join()

    assert sorted(answers) == [201, 409, 409, 409, 409, 409]
    assert calls == ["slow"]


@pytest.mark.django_db
@pytest.mark.urls(__name__)
def test_no_answer_leaves_a_lock(api):
    may_end.set()
    for body, place in (
        (KEY, "api-keys"),
        (KEY, "api-keys"),
        ({"name": "x"}, "api-keys"),
        ({"status": 500}, "answers"),
    ):
        post(api, body, path=f"/api/v1/{place}")

    with connection.cursor() as cursor:
        cursor.execute("select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()")
        assert cursor.fetchone() == (0,)


@pytest.mark.django_db
def test_the_former_runner_of_a_lease_stores_nothing(api):
    post(api, KEY)
    record = IdempotencyRecord.objects.get()
    late = idempotency.Claim(record.pk, runner=record.pk, secret_fields=())

    idempotency._settle(late, HttpResponse(b"late"))

    record.refresh_from_db()
    assert bytes(record.body) != b"late"


@pytest.mark.django_db
def test_old_answers_are_forgotten_and_those_of_a_day_are_not(api):
    post(api, KEY)

    assert idempotency.sweep(now=timezone.now() + timedelta(hours=25)) == 0
    assert idempotency.sweep(now=timezone.now() + timedelta(hours=49)) == 1


def test_secrets_are_found_by_name_and_by_look():
    kept = idempotency.without_secrets(
        b'{"token": "short", "deep": [{"x": "nta_abcdefghijklmnopqrstuvwxyz"}], "key": "signup"}', fields=("token",)
    )

    assert kept == b'{"token": null, "deep": [{"x": null}], "key": "signup"}'
