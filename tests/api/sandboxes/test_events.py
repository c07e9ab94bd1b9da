import asyncio
import json
import threading

import pytest
from asgiref.testing import ApplicationCommunicator
from django.conf import settings
from django.db import connection
from django.utils import timezone

from ntd_site.routing import http_streams
from sandboxes import claims, executions, executor
from sandboxes.models import Execution
from sandboxes.runtimes import Artifact, RuntimeLost
from tests import factories, scripted

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("runtime")]


async def _django(scope, receive, send):
    raise AssertionError("the stream was not routed")


def ask(execution_pk, secret="", *, last="", method="GET", cookie="", act=None):
    """(status, headers, body) of the stream, read to its end while `act` happens elsewhere."""

    async def talk():
        headers = [(b"host", b"testserver")]
        if secret:
            headers.append((b"authorization", f"Bearer {secret}".encode()))
        if last:
            headers.append((b"last-event-id", last.encode()))
        if cookie:
            headers.append((b"cookie", cookie.encode()))
        scope = {
            "type": "http",
            "method": method,
            "path": f"/api/v1/executions/{execution_pk}/events",
            "headers": headers,
            "query_string": b"",
            "scheme": "http",
        }
        stream = ApplicationCommunicator(http_streams(otherwise=_django), scope)
        await stream.send_input({"type": "http.request"})
        start = await stream.receive_output(5)
        if act is not None:
            await asyncio.to_thread(act)
        body = b""
        while True:
            part = await stream.receive_output(10)
            body += part["body"]
            if not part.get("more_body"):
                break
        await stream.wait()
        return start["status"], dict(start["headers"]), body

    return asyncio.run(talk())


def frames_of(body):
    """(number, event, value) of each frame."""
    found = []
    for block in body.decode().split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.split("\n") if ": " in line)
        if "event" in lines:
            found.append((int(lines["id"]), lines["event"], json.loads(lines["data"])))
    return found


def in_a_thread(act):
    """Runs with a database connection of its own."""

    def run():
        try:
            act()
        finally:
            connection.close()

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()


def work():
    executor.run(execution=claims.claim(now=timezone.now()), clock=timezone.now)


@pytest.fixture
def account():
    return factories.make_account()


@pytest.fixture
def secret(account):
    return factories.make_key(account)[1]


def printing(runtime):
    def during(request, on_output):
        on_output("stdout", 0, "één\n".encode())
        on_output("stderr", 0, b"\xff\xfe")
        on_output("stdout", 6, b"two\n")

    runtime.during = during
    left = (Artifact("d/a.json", b"{}"),)
    runtime.script = lambda request: scripted.outcome(
        stdout="één\ntwo\nlast".encode(), stderr=b"\xff\xfe", artifacts=left
    )


def test_a_finished_execution_replays_all_then_closes(account, secret, runtime):
    execution = factories.make_execution(account)
    printing(runtime)
    work()

    status, headers, body = ask(execution.pk, secret)

    frames = frames_of(body)
    assert (status, headers[b"content-type"]) == (200, b"text/event-stream")
    assert [number for number, _, _ in frames] == list(range(1, len(frames) + 1))
    assert [value["state"] for _, event, value in frames if event == "state"] == ["queued", "starting", "running"]
    assert frames[3:-1] == [
        (4, "stdout", {"stream": "stdout", "offset": 0, "text": "één\n"}),
        (5, "stderr", {"stream": "stderr", "offset": 0, "base64": "//4="}),
        (6, "stdout", {"stream": "stdout", "offset": 6, "text": "two\n"}),
        (7, "stdout", {"stream": "stdout", "offset": 10, "text": "last"}),
    ]
    assert frames[-1][1] == "end"
    assert frames[-1][2]["state"] == "succeeded"
    assert frames[-1][2]["id"] == str(execution.pk)
    assert (
        frames[-1][2]["artifacts"][0]["url"] == f"http://testserver/api/v1/executions/{execution.pk}/artifacts/d/a.json"
    )


def test_what_was_live_is_what_is_replayed_byte_for_byte(account, secret, runtime):
    execution = factories.make_execution(account)
    printing(runtime)

    _, _, live = ask(execution.pk, secret, act=lambda: in_a_thread(work))
    _, _, replayed = ask(execution.pk, secret)

    assert live == replayed


def test_a_resume_anywhere_continues_byte_for_byte(account, secret, runtime):
    execution = factories.make_execution(account)
    printing(runtime)
    work()
    whole = ask(execution.pk, secret)[2]

    for number, _, _ in frames_of(whole):
        rest = ask(execution.pk, secret, last=str(number))[2]
        assert whole.split(f"id: {number}\n".encode())[1].split(b"\n\n", 1)[1] == rest.split(b"\n\n", 1)[1]


def test_large_output_is_whole_though_redis_holds_little(account, secret, runtime, monkeypatch):
    monkeypatch.setattr("sandboxes.transcript.KEPT_BYTES", 8)
    execution = factories.make_execution(account)
    lines = [f"line {number}\n".encode() for number in range(20)]

    def during(request, on_output):
        at = 0
        for line in lines:
            on_output("stdout", at, line)
            at += len(line)

    runtime.during = during
    runtime.script = lambda request: scripted.outcome(stdout=b"".join(lines))

    _, _, live = ask(execution.pk, secret, act=lambda: in_a_thread(work))
    _, _, replayed = ask(execution.pk, secret)

    assert "".join(value["text"] for _, event, value in frames_of(live) if event == "stdout").encode() == b"".join(
        lines
    )
    assert live == replayed


def sampling(runtime, count):
    """Prints and is sampled by turns, and ends without a last word."""

    def during(request, on_output):
        for number in range(count):
            on_output("stdout", number * 2, b"x\n")
            runtime.tell_sample(scripted.sample(250 * (number + 1)))

    runtime.during = during
    runtime.script = lambda request: scripted.outcome(stdout=b"x\n" * count, duration_ms=250.0 * count + 1)


def test_what_it_uses_is_told_between_what_it_prints(account, secret, runtime):
    execution = factories.make_execution(account)
    sampling(runtime, 3)

    live = ask(execution.pk, secret, act=lambda: in_a_thread(work))[2]
    replayed = ask(execution.pk, secret)[2]
    resumed = ask(execution.pk, secret, last="5")[2]

    assert live == replayed
    assert [event for _, event, _ in frames_of(live)[3:]] == ["stdout", "usage"] * 3 + ["end"]
    assert frames_of(live)[4] == (
        5,
        "usage",
        {"at_ms": 250, "cpu_ms": 125, "memory_bytes": 9_000_000, "disk_bytes": 4096},
    )
    assert frames_of(resumed) == frames_of(live)[5:]


def test_one_that_prints_nothing_is_sampled_too(account, secret, runtime):
    execution = factories.make_execution(account)
    runtime.during = lambda request, on_output: [runtime.tell_sample(scripted.sample(at)) for at in (250, 500)]
    runtime.script = lambda request: scripted.outcome(duration_ms=600.0)

    live = ask(execution.pk, secret, act=lambda: in_a_thread(work))[2]

    assert live == ask(execution.pk, secret)[2]
    assert [(number, event) for number, event, _ in frames_of(live)[3:]] == [(4, "usage"), (5, "usage"), (6, "end")]


def test_of_a_long_one_the_usage_is_thinned_and_all_else_stays(account, secret, runtime, monkeypatch):
    monkeypatch.setattr("sandboxes.frames.MOST_SAMPLES", 10)
    execution = factories.make_execution(account)
    sampling(runtime, 50)

    live = ask(execution.pk, secret, act=lambda: in_a_thread(work))[2]
    replayed = ask(execution.pk, secret)[2]

    said, kept = frames_of(live), frames_of(replayed)
    assert len([event for _, event, _ in said if event == "usage"]) == 50
    assert 5 <= len([event for _, event, _ in kept if event == "usage"]) <= 10
    assert [frame for frame in kept if frame in said] == kept
    assert [frame for frame in said if frame[1] != "usage"] == [frame for frame in kept if frame[1] != "usage"]


def test_usage_and_large_output_share_their_numbers(account, secret, runtime, monkeypatch):
    monkeypatch.setattr("sandboxes.transcript.KEPT_BYTES", 8)
    execution = factories.make_execution(account)
    sampling(runtime, 20)

    said = frames_of(ask(execution.pk, secret, act=lambda: in_a_thread(work))[2])
    kept = frames_of(ask(execution.pk, secret)[2])

    # So little is kept on the way that a slow reader may miss usage, and nothing else.
    assert [frame for frame in kept if frame in said] == said
    assert [frame for frame in said if frame[1] != "usage"] == [frame for frame in kept if frame[1] != "usage"]


def test_one_who_comes_in_the_middle_gets_it_all(account, secret, runtime):
    execution = factories.make_execution(account)
    came = threading.Event()
    bodies = []

    def during(request, on_output):
        on_output("stdout", 0, b"before ")
        listener = threading.Thread(
            target=lambda: (bodies.append(ask(execution.pk, secret, act=came.set)[2]), connection.close())
        )
        listener.start()
        came.wait(5)
        on_output("stdout", 7, b"after")
        runtime.listener = listener

    runtime.during = during
    runtime.script = lambda request: scripted.outcome(stdout=b"before after")
    work()
    runtime.listener.join()

    assert [value["text"] for _, event, value in frames_of(bodies[0]) if event == "stdout"] == ["before ", "after"]


def test_one_cancelled_in_the_queue_ends_at_once(account, secret):
    execution = factories.make_execution(account)
    executions.cancel(execution=execution, by=None, now=timezone.now())

    frames = frames_of(ask(execution.pk, secret)[2])

    assert [(number, event) for number, event, _ in frames] == [(1, "state"), (2, "end")]
    assert frames[-1][2]["state"] == "cancelled"


def test_a_second_attempt_tells_its_output_anew(account, secret, runtime):
    execution = factories.make_execution(account)

    def script(request):
        if request.id.endswith("-1"):
            raise RuntimeLost("gone")
        return scripted.outcome(stdout=b"again")

    runtime.script = script

    def twice():
        work()
        Execution.objects.filter(pk=execution.pk).update(available_at=timezone.now())
        work()

    live = ask(execution.pk, secret, act=lambda: in_a_thread(twice))[2]
    replayed = ask(execution.pk, secret)[2]

    numbers = [number for number, _, _ in frames_of(live)]
    assert numbers == sorted(numbers)
    assert live.endswith(replayed.split(b"\n\n", 1)[1])
    assert frames_of(live)[-1][2]["attempts"] == 2


def test_without_redis_a_finished_execution_still_replays(account, secret, runtime):
    import redis

    execution = factories.make_execution(account)
    printing(runtime)
    work()
    redis.Redis.from_url(settings.REDIS_URL).flushdb()

    assert frames_of(ask(execution.pk, secret)[2])[-1][1] == "end"


def test_who_may_not_listen_is_told_as_everywhere(account, secret):
    execution = factories.make_execution(account)
    foreign = factories.make_key(factories.make_account(factories.make_user("Charlie")))[1]
    without = factories.make_key(account, scopes=("billing:read",))[1]

    def refusal(*args, **kwargs):
        status, headers, body = ask(*args, **kwargs)
        assert headers[b"content-type"] == b"application/problem+json"
        return status, json.loads(body)["code"]

    assert refusal(execution.pk) == (401, "not_authenticated")
    assert refusal(execution.pk, "ntd_wrong") == (401, "not_authenticated")
    assert refusal(execution.pk, without) == (403, "missing_scope")
    assert refusal(execution.pk, foreign) == (404, "not_found")
    assert refusal("0198c1f0-0000-7000-8000-000000000000", secret) == (404, "not_found")
    assert refusal(execution.pk, secret, last="x") == (400, "validation_error")
    assert refusal(execution.pk, secret, method="POST") == (405, "method_not_allowed")


def test_a_signed_in_person_listens_with_the_session(account, client, runtime):
    execution = factories.make_execution(account)
    work()
    client.force_login(factories.make_operator(account))

    status, _, body = ask(execution.pk, cookie=f"sessionid={client.cookies['sessionid'].value}")

    assert status == 200
    assert frames_of(body)[-1][1] == "end"
