import json

import pytest

from billing.models import UsageRecord

EVENT = {"specversion": "1.0", "id": "1", "source": "/bot", "type": "mcp_call", "data": {"quantity": "2"}}
SINGLE, BATCH = "application/cloudevents+json", "application/cloudevents-batch+json"


def send(caller, body, kind=SINGLE):
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return caller._client.post("/api/v1/usage/events", raw, kind)


def test_one_event_is_charged_once_in_either_shape(alice):
    first, again = send(alice, EVENT), send(alice, EVENT, SINGLE + "; charset=utf-8")
    plain = alice.post("usage/events", {"id": "1", "source": "/bot", "meter": "mcp_call", "quantity": "2"})

    assert [(answer.status_code, answer.json()["status"]) for answer in (first, again, plain)] == [
        (201, "accepted"),
        (200, "duplicate"),
        (200, "duplicate"),
    ]
    assert first.json()["cost_credits"] == "2.000000"


def test_a_batch_is_answered_one_by_one(alice):
    batch = [EVENT, EVENT, {**EVENT, "id": "2", "data": {"quantity": "5000"}}, {**EVENT, "id": "3", "type": "x"}, 7]

    results = send(alice, batch, BATCH).json()["results"]

    assert [result["status"] for result in results] == [
        "accepted",
        "duplicate",
        "insufficient_credits",
        "invalid",
        "invalid",
    ]
    assert [result["id"] for result in results] == ["1", "1", "2", "3", None]


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"", SINGLE),
        (b"[]", SINGLE),
        (b"{}, {}", SINGLE),
        (b'{}], "more": [{}', SINGLE),
        ({**EVENT, "data": {"quantity": 2}}, SINGLE),
        ({**EVENT, "data": {"quantity": "-2"}}, SINGLE),
        ({**EVENT, "data": {"quantity": "NaN"}}, SINGLE),
        ({**EVENT, "time": "yesterday"}, SINGLE),
        ({**EVENT, "time": "2020-01-01T00:00:00Z"}, SINGLE),
        (b'{"specversion": "1.0", "specversion": "1.0"}', SINGLE),
        ([], BATCH),
        (EVENT, BATCH),
        ([EVENT] * 1001, BATCH),
        (b'[], "more": []', BATCH),
        (json.dumps([EVENT]).encode() + b', "id": "x"', BATCH),
        ({"events": [EVENT]}, BATCH),
    ],
)
def test_what_is_no_cloud_event_is_refused_and_nothing_is_written(alice, body, kind):
    answer = send(alice, body, kind)

    assert (answer.status_code, answer.json()["code"]) == (400, "validation_error")
    assert not UsageRecord.objects.exists()


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"specversion": "0.3"}, "specversion"),
        ({"type": "minutes"}, "type"),
        ({"type": "x" * 300}, "type"),
        ({"time": "yesterday"}, "time"),
        ({"data": {"amount": "1", "b: c": 2}}, "data"),
        ({"data": {"quantity": 2}}, "quantity"),
    ],
)
def test_an_error_names_the_attribute(alice, change, name):
    assert list(send(alice, EVENT | change).json()["errors"]) == [name]


def test_other_kinds_are_not_taken(alice):
    assert send(alice, EVENT, "text/plain").status_code == 415
