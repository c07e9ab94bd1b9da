import pytest

from billing import cloud_events

EVENT = {"specversion": "1.0", "id": "1", "source": "/bot", "type": "com.example.usage.mcp_call"}


def test_a_cloud_event_is_a_usage_event():
    given = {
        **EVENT,
        "time": "2026-03-18T12:00:00Z",
        "subject": "alpha",
        "traceparent": "00-1",
        "data": {"quantity": "2.5", "properties": {"a": 1}},
    }

    assert cloud_events.event_of(given) == {
        "id": "1",
        "source": "/bot",
        "meter": "mcp_call",
        "quantity": "2.5",
        "properties": {"a": 1},
        "agent": "alpha",
        "occurred_at": "2026-03-18T12:00:00Z",
    }


def test_an_event_without_data_counts_one():
    assert cloud_events.event_of(EVENT) == {
        "id": "1",
        "source": "/bot",
        "meter": "mcp_call",
        "quantity": "1",
        "properties": {},
    }


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"specversion": "0.3"}, "specversion"),
        ({"id": 7}, "id"),
        ({"source": None}, "source"),
        ({"type": "minutes"}, "type"),
        ({"data": "x"}, "data"),
        ({"data": {"amount": "1"}}, "data: Unknown fields: amount"),
        ({"data_base64": "AA=="}, "data_base64"),
        ({"datacontenttype": "text/plain"}, "datacontenttype"),
    ],
)
def test_what_is_no_usage_event_is_named(changes, says):
    with pytest.raises(ValueError, match=says):
        cloud_events.event_of({**EVENT, **changes})


@pytest.mark.parametrize("given", [None, [], "x", 1])
def test_what_is_no_event_at_all(given):
    with pytest.raises(ValueError, match="JSON object"):
        cloud_events.event_of(given)
