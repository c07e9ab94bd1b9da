"""The page of one execution: what it used, what it left, how often it was tried, and what went wrong."""

from __future__ import annotations

import json
import re

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from sandboxes import claims, executor
from sandboxes.models import Execution
from sandboxes.runtimes import Artifact, RuntimeLost
from tests import factories, scripted

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("runtime")]

MIB = 1024 * 1024


@pytest.fixture
def account():
    return factories.make_account()


@pytest.fixture
def shown(client, account):
    """The page, or a part of it, as Bob sees it."""
    client.force_login(factories.make_operator(account))

    def get(execution, **query):
        return client.get(reverse("sandboxes:execution", args=[account, execution.pk]), query).content.decode()

    return get


def ended(runtime, account, *, samples=(), **outcome):
    execution = factories.make_execution(account, limits={"memory_mb": 64})
    runtime.script = lambda request: scripted.outcome(**outcome)
    runtime.during = lambda request, on_output: [runtime.tell_sample(sample) for sample in samples]
    executor.run(execution=claims.claim(now=timezone.now()), clock=timezone.now)
    return Execution.objects.get(pk=execution.pk)


def chart(text, name):
    return json.loads(re.search(rf'<script id="usage-{name}" type="application/json">(.*?)</script>', text)[1])


COURSE = [scripted.sample(at, cpu_ms=at, memory_bytes=40 * MIB, disk_bytes=MIB) for at in (250, 500, 750)]


def test_what_it_used_is_drawn_and_written_in_a_table(runtime, account, shown):
    text = shown(ended(runtime, account, samples=COURSE, duration_ms=800.0))

    assert chart(text, "cpu")["series"][0]["values"] == [100.0, 100.0, 100.0]
    assert chart(text, "memory")["series"][0]["values"] == [40.0, 40.0, 40.0]
    assert chart(text, "memory")["series"][1]["values"] == [64, 64, 64]
    assert text.count('<th scope="row" class="r">') == 3
    assert "0.75" in text
    assert "data-live-usage" not in text


def test_a_short_one_shows_the_bars_only(runtime, account, shown):
    text = shown(ended(runtime, account, duration_ms=20.0))

    assert re.search(r'<section [^>]*id="execution-usage"[^>]* hidden>', text)
    assert "of 64" in text


def test_while_it_runs_the_chart_is_drawn_from_the_stream_and_limits_stand_alone(account, shown):
    text = shown(factories.make_execution(account))

    assert "data-live-usage" in text
    assert 'hx-trigger="usage:end"' in text
    assert chart(text, "cpu")["x"] == []
    assert "at most 1 core" in text
    assert "Used, of its limits" not in text


def test_the_parts_take_no_more_queries_for_what_a_short_one_has_not(runtime, account, shown):
    execution = ended(runtime, account, duration_ms=20.0)
    shown(execution)
    with CaptureQueriesContext(connection) as queries:
        shown(execution, part="usage")

    assert not any('"sandboxes_execution"."samples" FROM' in query["sql"] for query in queries)


def test_names_of_artifacts_look_like_what_they_are(runtime, account, shown):
    left = (Artifact("\u202egpj.exe", b"x"), Artifact("a\nb.csv", b"x"), Artifact("<b>", b"x"))
    execution = ended(runtime, account, artifacts=left, artifacts_truncated=("\udcff.bin",))

    text = shown(execution)

    assert "\u202e" not in text
    assert "\\u202egpj.exe" in text
    assert "a\\nb.csv" in text
    assert f"/api/v1/executions/{execution.pk}/artifacts/a%0Ab.csv" in text
    assert "&lt;b&gt;" in text
    assert "1 not kept" in text
    assert "\ufffd.bin" in text


def test_what_was_left_out_is_said_even_if_nothing_was_kept(runtime, account, shown):
    assert "2 not kept" in shown(ended(runtime, account, artifacts_truncated=("huge", "link")))


def test_every_attempt_says_how_it_went(runtime, account, shown):
    execution = factories.make_execution(account)

    def script(request):
        if request.id.endswith("-1"):
            raise RuntimeLost("the node caught fire")
        return scripted.outcome()

    runtime.script = script
    for _ in range(2):
        Execution.objects.filter(pk=execution.pk).update(available_at=timezone.now())
        executor.run(execution=claims.claim(now=timezone.now()), clock=timezone.now)

    text = shown(execution)

    assert "Attempts" in text
    assert "the node caught fire" in text
    assert text.index("the node caught fire") < text.index("Finished")


def test_after_a_loss_the_reason_is_there_while_it_waits(runtime, account, shown):
    execution = factories.make_execution(account)

    def script(request):
        raise RuntimeLost("the node caught fire")

    runtime.script = script
    executor.run(execution=claims.claim(now=timezone.now()), clock=timezone.now)

    text = shown(execution)

    assert "the node caught fire" in text
    assert "it is tried again on another in a moment" in text


def test_what_went_wrong_stands_at_the_top(runtime, account, shown):
    text = shown(ended(runtime, account, exit_code=1, stderr=b"ValueError: no \xe2\x80\xae prices"))

    assert "ValueError: no \\u202e prices" in text
    assert text.index("ValueError: no") < text.index("data-log-view")


def test_each_stream_can_be_downloaded(runtime, account, shown):
    execution = ended(runtime, account)

    text = shown(execution)

    for stream in ("stdout", "stderr"):
        assert f"/api/v1/executions/{execution.pk}/output?stream={stream}" in text
