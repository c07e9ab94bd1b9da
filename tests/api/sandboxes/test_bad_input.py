"""Whatever is wrong with a request is said by name, at once, and nothing is queued."""

from __future__ import annotations

import json

import pytest
from rest_framework.test import APIClient

from sandboxes import programs
from sandboxes.limits import RANGES
from sandboxes.models import Execution
from tests import factories

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("runtime")]

URL = "/api/v1/executions"
GOOD = {"language": "python", "code": "print(1)"}
MIB = 1024 * 1024


@pytest.fixture
def api():
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {factories.make_key(factories.make_account())[1]}")
    return client


def send(api, body: dict, url: str = URL):
    """As a careless client would: with numbers that JSON does not have."""
    return api.post(url, json.dumps(body, allow_nan=True), content_type="application/json")


WRONG = [
    ({"code": ""}, "code"),
    ({"code": " \n\t"}, "code"),
    ({"code": ["print(1)"]}, "code"),
    ({"timeout_seconds": 0}, "timeout_seconds"),
    ({"timeout_seconds": 0.999}, "timeout_seconds"),
    ({"timeout_seconds": -60}, "timeout_seconds"),
    ({"timeout_seconds": 3600.001}, "timeout_seconds"),
    ({"timeout_seconds": None}, "timeout_seconds"),
    ({"timeout_seconds": "60"}, "timeout_seconds"),
    ({"timeout_seconds": True}, "timeout_seconds"),
    ({"timeout_seconds": []}, "timeout_seconds"),
    ({"limits": {"memory_mb": 512.5}}, "limits.memory_mb"),
    ({"limits": {"gpu": 1}}, "limits.gpu"),
    ({"limits": None}, "limits"),
    ({"limits": "none"}, "limits"),
    ({"language": "Python"}, "language"),
    ({"language": "python "}, "language"),
    ({"language": ""}, "language"),
    ({"language": ["python"]}, "language"),
    ({"language": "py\0thon"}, "language"),
    ({"language": "python", "template": "python"}, "template"),
    ({"language": "python", "sandbox": "x"}, "sandbox"),
    ({"network": 1}, "network"),
    ({"network": None}, "network"),
    ({"env": {"A B": "x"}}, "env"),
    ({"env": {"": "x"}}, "env"),
    ({"env": {"É": "x"}}, "env"),
    ({"env": {"A\n": "x"}}, "env"),
    ({"env": {"A": "\0"}}, "env.A"),
    ({"env": {"A": None}}, "env.A"),
    ({"env": [["A", "b"]]}, "env"),
    ({"args": ["\0"]}, "args.0"),
    ({"args": [None]}, "args.0"),
    ({"args": {"0": "a"}}, "args"),
    ({"files": {"/etc/passwd": "x"}}, "files"),
    ({"files": {"a/../../b": "x"}}, "files"),
    ({"files": {"..": "x"}}, "files"),
    ({"files": {".": "x"}}, "files"),
    ({"files": {"": "x"}}, "files"),
    ({"files": {"a/": "x"}}, "files"),
    ({"files": {"a\0b": "x"}}, "files"),
    ({"files": {"x" * 256: "x"}}, "files"),
    ({"files": {"/".join(["x" * 200] * 6): "x"}}, "files"),
    ({"files": {"a": "x", "a/b": "y"}}, "files"),
    ({"files": {"a": "x", "./a": "y"}}, "files"),
    ({"files": {"a": {"base64": "not base64!"}}}, "files"),
    ({"files": {"a": {"base64": 5}}}, "files"),
    ({"files": {"a": {"base64": "", "mode": "755"}}}, "files"),
    ({"files": {"a": None}}, "files"),
    ({"input": 5}, "input"),
    ({"metadata": {"a": 1}}, "metadata.a"),
    ({"metadata": {"a": "\0"}}, "metadata.a"),
    ({"metadata": "x"}, "metadata"),
    ({"surprise": 1}, "surprise"),
    ({"limit": {"cpu": 1}}, "limit"),
]
NAMES = [f"{field}={json.dumps(next(iter(changes.values())))[:40]}" for changes, field in WRONG]


def assert_refused(answer, field: str) -> None:
    assert answer["Content-Type"] == "application/problem+json"
    assert (answer.status_code, answer.json()["code"]) == (400, "validation_error")
    assert field in answer.json()["errors"]
    assert all(sentence.strip() for said in answer.json()["errors"].values() for sentence in said)
    assert not Execution.objects.exists()


@pytest.mark.parametrize(("changes", "field"), WRONG, ids=NAMES)
def test_what_is_wrong_is_400_and_named(api, changes, field):
    assert_refused(send(api, GOOD | changes), field)


@pytest.mark.parametrize("name", RANGES)
def test_a_limit_outside_its_range_is_400_and_named(api, name):
    low, high = RANGES[name]
    below = low - 0.01 if name == "cpu" else low - 1

    for value in (below, high + 1, 0, -1, True, "1", None, [], 1e308):
        assert_refused(send(api, GOOD | {"limits": {name: value}}), f"limits.{name}")
    assert send(api, GOOD | {"limits": {name: low}}).status_code == 201


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
@pytest.mark.parametrize("field", ["timeout_seconds", "limits"])
def test_what_is_no_number_is_400(api, field, number):
    value = f'{{"memory_mb": {number}}}' if field == "limits" else number
    body = f'{{"language": "python", "code": "1", "{field}": {value}}}'

    answer = api.post(URL, body, content_type="application/json")

    assert (answer.status_code, answer.json()["code"]) == (400, "validation_error")
    assert not Execution.objects.exists()


@pytest.mark.parametrize("field", ["code", "input", "args", "env", "files", "metadata"])
def test_half_a_character_is_400_in_words(api, field):
    half = {"args": ["\ud800"], "env": {"A": "\ud800"}, "files": {"\ud800": ""}, "metadata": {"a": "\ud800"}}

    answer = send(api, GOOD | {field: half.get(field, "\ud800")})

    assert (answer.status_code, answer.json()["code"]) == (400, "validation_error")
    assert "half a character" in answer.json()["errors"]["non_field_errors"][0]
    assert not Execution.objects.exists()


@pytest.mark.parametrize("missing", ["code", "language"])
def test_what_is_missing_is_400_and_named(api, missing):
    assert_refused(send(api, {name: value for name, value in GOOD.items() if name != missing}), missing)


@pytest.mark.parametrize("place", ["template", "pool", "sandbox"])
@pytest.mark.parametrize("named", ["nonsense", "0198c1f0-0000-7000-8000-000000000000", "\0", "", None])
def test_a_place_that_is_not_there_is_400_and_named(api, place, named):
    answer = send(api, {"code": "print(1)", place: named})

    assert (answer.status_code, answer.json()["code"]) == (400, "validation_error")
    assert answer.json()["errors"].keys() & {place, "language"}
    assert not Execution.objects.exists()


LARGE = [
    ("code", "#" * (MIB + 1), MIB),
    ("code", "é" * (MIB // 2 + 1), MIB),
    ("input", "x" * (8 * MIB + 1), 8 * MIB),
    ("env", {"A": "x" * (128 * 1024)}, 128 * 1024),
    ("env", {f"A{n}": "x" * 100 for n in range(1300)}, 128 * 1024),
    ("args", ["x" * (128 * 1024 + 1)], 128 * 1024),
    ("args", ["x"] * 1001, 1000),
    ("files", {"a": "x" * (32 * MIB + 1)}, 32 * MIB),
    ("files", {"a": "x" * (20 * MIB), "b": "x" * (13 * MIB)}, 32 * MIB),
    ("files", {f"{n}": "" for n in range(1001)}, 1000),
    ("metadata", {"a": "x" * (16 * 1024 + 1)}, 16 * 1024),
]


@pytest.mark.parametrize(("field", "value", "limit"), LARGE, ids=[f"{field}-{limit}" for field, _, limit in LARGE])
def test_what_is_too_large_is_413_with_its_limit(api, field, value, limit):
    answer = send(api, GOOD | {field: value})

    assert answer["Content-Type"] == "application/problem+json"
    assert (answer.status_code, answer.json()["code"]) == (413, "payload_too_large")
    assert (answer.json()["field"], answer.json()["limit"]) == (field, limit)
    assert not Execution.objects.exists()


def test_everything_at_its_largest_is_taken(api):
    body = GOOD | {
        "code": "#" * MIB,
        "input": "x" * (8 * MIB),
        "args": ["x"] * 1000,
        "files": {f"{n}": "x" * (32 * MIB // 1000) for n in range(1000)},
        "timeout_seconds": programs.LONGEST_SECONDS,
        "limits": {name: high for name, (_, high) in RANGES.items()},
    }

    assert send(api, body).status_code == 201


def test_every_fault_is_said_at_once(api):
    answer = send(api, {"language": "python", "code": "\n", "files": {"../x": "y"}, "env": {"1": "x"}})

    assert set(answer.json()["errors"]) == {"code", "files", "env"}


@pytest.mark.parametrize(("changes", "field"), WRONG[:6] + WRONG[-12:])
def test_in_a_batch_the_same_is_said_of_the_item_alone(api, changes, field):
    answer = send(api, {"executions": [GOOD, GOOD | changes]}, URL + "/batch")

    good, bad = answer.json()["results"]
    assert (good["state"], bad["status"], bad["code"]) == ("queued", 400, "validation_error")
    assert field in bad["errors"]
