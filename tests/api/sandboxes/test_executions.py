import base64
import threading

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from rest_framework.test import APIClient

from billing import ledger
from sandboxes import claims, executor, tasks
from sandboxes.models import Execution
from sandboxes.runtimes import Artifact
from tests import factories, scripted

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("runtime")]

URL = "/api/v1/executions"


def client_of(account, **key):
    _, secret = factories.make_key(account, **key)
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {secret}")
    return client


@pytest.fixture
def account():
    return factories.make_account()


@pytest.fixture
def api(account):
    return client_of(account)


def submit(api, query="", **changes):
    return api.post(URL + query, {"language": "python", "code": "print(1)"} | changes, format="json")


def run(runtime, **outcome):
    runtime.script = lambda request: scripted.outcome(**outcome)
    executor.run(execution=claims.claim(now=timezone.now()), clock=timezone.now)


def problem(answer):
    assert answer["Content-Type"] == "application/problem+json"
    return answer.status_code, answer.json()["code"]


def test_submitting_answers_201_with_everything_of_the_contract(api):
    answer = submit(api, metadata={"k": "v"}, limits={"cpu": 2}, timeout_seconds=5)

    body = answer.json()
    assert answer.status_code == 201
    assert (body["state"], body["attempts"], body["started_at"], body["cost_credits"]) == (
        "queued",
        0,
        None,
        "0.000000",
    )
    assert body["usage"] == dict.fromkeys(
        ["cpu_ms", "peak_memory_bytes", "disk_bytes", "network_sent_bytes", "network_received_bytes"], 0
    )
    assert body["limits"] == {"cpu": 2.0, "memory_mb": 512, "disk_mb": 1024, "processes": 64, "output_kb": 1024}
    assert (body["timeout_seconds"], body["network"], body["metadata"]) == (5, False, {"k": "v"})
    assert body["created_at"].endswith("Z")
    for name in ("sandbox", "node", "runtime", "exit_code", "signal", "breach", "error", "duration_ms", "startup_ms"):
        assert body[name] is None, name
    assert (body["stdout"], body["stderr"], body["artifacts"]) == ("", "", [])


def test_e2_e10_a_result_reads_the_same_as_json(api, runtime):
    pk = submit(api).json()["id"]
    run(runtime, stdout=b"hello \xff", stderr=b"w", artifacts=(Artifact("d/a b.json", b"{}"),))

    body = api.get(f"{URL}/{pk}").json()

    assert (body["state"], body["sandbox"], body["exit_code"]) == ("succeeded", "slot-1", 0)
    assert (body["stdout"], body["stderr"]) == ("hello \ufffd", "w")
    assert body["usage"]["peak_memory_bytes"] == 9_000_000
    [artifact] = body["artifacts"]
    assert (artifact["path"], artifact["size"], artifact["content_type"]) == ("d/a b.json", 2, "application/json")
    assert artifact["url"].endswith(f"{URL}/{pk}/artifacts/d/a%20b.json")
    assert float(body["cost_credits"]) > 0


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"code": ""}, "code"),
        ({"code": None}, "code"),
        ({"code": 5}, "code"),
        ({"code": "a\0"}, "code"),
        ({"timeout_seconds": 0}, "timeout_seconds"),
        ({"timeout_seconds": 3601}, "timeout_seconds"),
        ({"timeout_seconds": "60"}, "timeout_seconds"),
        ({"timeout_seconds": True}, "timeout_seconds"),
        ({"limits": {"cpu": 0}}, "limits.cpu"),
        ({"limits": {"memory_mb": -5}}, "limits.memory_mb"),
        ({"limits": {"memory_mb": 64.5}}, "limits.memory_mb"),
        ({"limits": {"processes": "many"}}, "limits.processes"),
        ({"limits": {"colour": 1}}, "limits.colour"),
        ({"limits": []}, "limits"),
        ({"language": "cobol"}, "language"),
        ({"language": None}, "language"),
        ({"files": {"../x": "y"}}, "files"),
        ({"files": {"x": 5}}, "files"),
        ({"files": []}, "files"),
        ({"env": {"1": "x"}}, "env"),
        ({"env": {"A": 1}}, "env.A"),
        ({"args": "x"}, "args"),
        ({"args": [1]}, "args.0"),
        ({"metadata": {"a": None}}, "metadata.a"),
        ({"input": 5}, "input"),
        ({"network": "yes"}, "network"),
        ({"pool": "python"}, "language"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_a_bad_body_is_400_and_names_the_field(api, changes, field):
    answer = submit(api, **changes)

    assert problem(answer) == (400, "validation_error")
    assert field in answer.json()["errors"]
    assert not Execution.objects.exists()


@pytest.mark.parametrize("raw", ['{"language":"python","code":"x","timeout_seconds":NaN}', "[]", "{", '"x"'])
def test_what_is_no_json_object_is_400(api, raw):
    assert problem(api.post(URL, raw, content_type="application/json")) == (400, "validation_error")


def test_a_part_that_is_too_large_is_413_with_the_limit(api):
    answer = submit(api, code="#" * (1024 * 1024 + 1))

    assert problem(answer) == (413, "payload_too_large")
    assert answer.json()["limit"] == 1024 * 1024


def test_files_travel_as_text_or_base64(api, runtime):
    submit(api, files={"a.txt": "é", "d/b.bin": {"base64": base64.b64encode(b"\xff\0").decode()}}, input="in\0put")
    run(runtime)

    [request] = runtime.requests
    assert request.files == {"a.txt": "é".encode(), "d/b.bin": b"\xff\0"}
    assert request.stdin == b"in\0put"


def test_without_credits_it_is_402_with_the_exact_sentence(account, api):
    now = timezone.now()
    ledger.hold(
        account_id=account.pk,
        amount_ucr=ledger.balance(account_id=account.pk, now=now).available_ucr,
        key="all",
        expires_at=now.replace(year=now.year + 1),
        now=now,
    )

    answer = submit(api, timeout_seconds=3600)

    body = answer.json()
    assert problem(answer) == (402, "insufficient_credits")
    assert body["available"] == "0.000000"
    assert body["detail"] == f"Insufficient credits: need {body['needed'].rstrip('0').rstrip('.')}, have 0"
    assert not Execution.objects.exists()


def test_without_an_engine_it_is_503_with_the_reasons(api, runtime):
    runtime.reasons = ["bubblewrap: no user namespaces"]

    answer = submit(api)

    assert problem(answer) == (503, "sandbox_error")
    assert answer.json()["reasons"] == ["bubblewrap: no user namespaces"]
    assert answer["Retry-After"]


def test_the_network_without_leave_is_403(api):
    assert problem(submit(api, network=True)) == (403, "network_not_allowed")


def test_the_network_with_the_operators_leave_is_asked_of_the_runtime(api, settings, runtime):
    settings.SANDBOX_NETWORK = "outward"

    body = submit(api, network=True).json()
    executor.run(execution=claims.claim(now=timezone.now()), clock=timezone.now)

    assert body["network"] is True
    assert runtime.requests[0].network
    assert submit(api, network=False).json()["network"] is False


def test_a_full_queue_is_429_with_a_time_to_come_back(api, monkeypatch):
    monkeypatch.setattr("sandboxes.executions.QUEUE_LIMIT", 1)
    submit(api)

    answer = submit(api)

    assert problem(answer) == (429, "resource_limit_exceeded")
    assert answer["Retry-After"]


def test_credentials_scopes_and_roles(account):
    assert problem(submit(APIClient())) == (401, "not_authenticated")
    reader = client_of(account, scopes=("sandboxes:read",))
    assert problem(submit(reader)) == (403, "missing_scope")
    assert reader.get(URL).status_code == 200
    assert problem(client_of(account, scopes=("billing:write",)).get(URL)) == (403, "missing_scope")
    viewer = APIClient()
    viewer.force_login(factories.make_viewer(account))
    assert viewer.get(URL).status_code == 200
    assert problem(submit(viewer)) == (403, "role_required")


@pytest.mark.parametrize("path", ["", "/output", "/artifacts/a", "/cancel"])
def test_anothers_execution_is_404(account, path):
    execution = factories.make_execution(account)
    charlie = client_of(factories.make_account(factories.make_user("Charlie")))
    method = charlie.post if path == "/cancel" else charlie.get

    assert problem(method(f"{URL}/{execution.pk}{path}")) == (404, "not_found")
    assert Execution.objects.get().state == "queued"


def test_a_strange_id_is_404(api):
    assert problem(api.get(f"{URL}/nonsense")) == (404, "not_found")
    assert problem(api.get(f"{URL}/0198c1f0-0000-7000-8000-000000000000")) == (404, "not_found")


def test_staff_reads_anybodys(account):
    execution = factories.make_execution(account)
    stella = APIClient()
    stella.force_login(factories.make_staff())

    assert stella.get(f"{URL}/{execution.pk}").status_code == 200
    assert len(stella.get(f"{URL}?account={account.slug}").json()["results"]) == 1


def test_the_list_is_newest_first_in_pages_and_takes_the_same_few_queries(api):
    made = [submit(api).json()["id"] for _ in range(5)][::-1]

    with CaptureQueriesContext(connection) as queries:
        first = api.get(f"{URL}?page_size=3").json()
    rest = api.get(first["next"]).json()

    assert [row["id"] for row in first["results"] + rest["results"]] == made
    assert (first["previous"], rest["next"]) == (None, None)
    assert len(queries) <= 4
    assert "stdout" not in first["results"][0]


def test_the_list_is_filtered(api):
    early = submit(api).json()
    late = submit(api, language="node").json()
    api.post(f"{URL}/{early['id']}/cancel")

    def ids(**query):
        return [row["id"] for row in api.get(URL, query).json()["results"]]

    assert ids(state="cancelled") == [early["id"]]
    assert ids(language="node") == [late["id"]]
    assert ids(pool=late["pool"]) == [late["id"]]
    assert ids(created_after=late["created_at"]) == [late["id"]]
    assert ids(created_before=late["created_at"]) == [early["id"]]


@pytest.mark.parametrize(
    "query",
    ["state=dancing", "language=x", "pool=x", "created_after=yesterday", "created_before=2026-01-01", "page_size=0"],
)
def test_a_strange_filter_is_400_and_named(api, query):
    answer = api.get(f"{URL}?{query}")

    assert problem(answer) == (400, "validation_error")
    assert query.split("=")[0] in answer.json()["errors"]


@pytest.mark.parametrize("wait", ["61", "-1", "soon", "nan", "inf"])
def test_a_strange_wait_is_400(api, wait):
    assert problem(submit(api, f"?wait={wait}")) == (400, "validation_error")
    assert not Execution.objects.exists()


def test_when_the_wait_ends_first_the_answer_is_the_live_execution(api):
    assert submit(api, "?wait=0.01").json()["state"] == "queued"


@pytest.mark.django_db(transaction=True)
def test_waiting_answers_with_the_end(api, runtime):
    runtime.script = lambda request: scripted.outcome(stdout=b"done")

    def work():
        for _ in range(200):
            if Execution.objects.filter(state="queued").exists():
                tasks.run_execution()
                break
            threading.Event().wait(0.01)
        connection.close()

    worker = threading.Thread(target=work)
    worker.start()
    body = submit(api, "?wait=20").json()
    worker.join()

    assert (body["state"], body["stdout"]) == ("succeeded", "done")


def test_cancelling_answers_200_then_409_with_the_state(api):
    pk = submit(api).json()["id"]

    first, second = api.post(f"{URL}/{pk}/cancel"), api.post(f"{URL}/{pk}/cancel")

    assert (first.status_code, first.json()["state"]) == (200, "cancelled")
    assert problem(second) == (409, "conflict")
    assert second.json()["state"] == "cancelled"


def test_output_is_raw_bytes_from_an_offset(api, runtime):
    pk = submit(api).json()["id"]
    run(runtime, stdout=b"ab\xff\0cd", stderr=b"err")

    whole = api.get(f"{URL}/{pk}/output")
    part = api.get(f"{URL}/{pk}/output?offset=4")
    end = api.get(f"{URL}/{pk}/output?offset=6")
    errors = api.get(f"{URL}/{pk}/output?stream=stderr&offset=1")

    assert (whole.content, whole["X-Next-Offset"], whole["X-Content-Type-Options"]) == (b"ab\xff\0cd", "6", "nosniff")
    assert (part.content, part["X-Next-Offset"]) == (b"cd", "6")
    assert (end.content, end["X-Next-Offset"]) == (b"", "6")
    assert (errors.content, errors["X-Next-Offset"]) == (b"rr", "3")


def test_output_of_a_running_execution_is_what_came_so_far(api, runtime):
    pk = submit(api).json()["id"]
    seen = []

    def during(request, on_output):
        on_output("stdout", 0, b"one ")
        seen.append(api.get(f"{URL}/{pk}/output").content)
        on_output("stdout", 4, b"two")
        seen.append(api.get(f"{URL}/{pk}/output?offset=2").content)
        seen.append(api.get(f"{URL}/{pk}").json()["state"])

    runtime.during = during
    run(runtime, stdout=b"one two")

    assert seen == [b"one ", b"e two", "running"]


@pytest.mark.parametrize("query", ["offset=-1", "offset=x", "offset=99999999999999999999", "offset=7", "stream=stdin"])
def test_a_strange_offset_or_stream_is_400(api, runtime, query):
    pk = submit(api).json()["id"]
    run(runtime, stdout=b"abcdef")

    assert problem(api.get(f"{URL}/{pk}/output?{query}")) == (400, "validation_error")


def test_an_artifact_is_an_attachment_no_browser_sniffs(api, runtime):
    pk = submit(api).json()["id"]
    run(runtime, artifacts=(Artifact("d/página.html", b"<script>"),))

    url = api.get(f"{URL}/{pk}").json()["artifacts"][0]["url"]
    answer = api.get(url)

    assert answer.content == b"<script>"
    assert answer["X-Content-Type-Options"] == "nosniff"
    assert answer["Content-Disposition"].startswith("attachment")
    assert problem(api.get(f"{URL}/{pk}/artifacts/other")) == (404, "not_found")


def test_a_batch_keeps_the_order_and_answers_each_item_by_itself(api):
    bodies = [
        {"language": "python", "code": "1"},
        {"language": "cobol", "code": "1"},
        {"language": "node", "code": "2"},
        {"language": "python", "code": "1", "surprise": True},
        None,
        {"language": "python", "code": "x" * (1024 * 1024 + 1)},
    ]

    answer = api.post(f"{URL}/batch", {"executions": bodies}, format="json")

    results = answer.json()["results"]
    assert answer.status_code == 200
    assert [row.get("state") or (row["status"], row["code"]) for row in results] == [
        "queued",
        (400, "validation_error"),
        "queued",
        (400, "validation_error"),
        (400, "validation_error"),
        (413, "payload_too_large"),
    ]
    assert list(results[3]["errors"]) == ["surprise"]


@pytest.mark.parametrize("bodies", [[], [{}] * 1001, None, {}])
def test_a_batch_has_1_to_1000_items(api, bodies):
    answer = api.post(f"{URL}/batch", {"executions": bodies}, format="json")

    assert problem(answer) == (400, "validation_error")
    assert "executions" in answer.json()["errors"]


def test_a_repeat_with_the_same_key_runs_nothing_twice(api):
    first = api.post(URL, {"language": "python", "code": "1"}, format="json", HTTP_IDEMPOTENCY_KEY="a")
    again = api.post(URL, {"language": "python", "code": "1"}, format="json", HTTP_IDEMPOTENCY_KEY="a")

    assert again["Idempotent-Replayed"] == "true"
    assert again.json()["id"] == first.json()["id"]
    assert Execution.objects.count() == 1
