"""Pure. CloudEvents 1.0 as usage events: who sends both shapes sends the same event.

    id, source      the event's id and source
    type            the meter: `mcp_call`, or anything that ends in it (`com.example.usage.mcp_call`)
    time            occurred_at
    subject         agent
    data            {"quantity": "1", "agent": ..., "properties": {...}}, each of which may be missing

What else an event carries (extension attributes, `dataschema`) says nothing about what is to be paid, and is not kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from billing import pricing

SINGLE = "application/cloudevents+json"
BATCH = "application/cloudevents-batch+json"
DATA_FIELDS = {"quantity", "agent", "properties"}
# What fields of a usage event are called in a CloudEvent, where that is something else.
NAMES = {"occurred_at": "time", "meter": "type"}


class NoUsageEvent(ValueError):
    """Raised for what stands for no usage event; with the attribute that is wrong, if it is one."""

    def __init__(self, attribute: str, sentence: str) -> None:
        self.attribute, self.sentence = attribute, sentence
        super().__init__(f"{attribute}: {sentence}" if attribute else sentence)


def event_of(given: object) -> dict[str, Any]:
    """The usage event that a CloudEvent is; raises NoUsageEvent. Its values are checked later."""
    if not isinstance(given, Mapping):
        raise NoUsageEvent("", "A CloudEvent is a JSON object.")
    if given.get("specversion") != "1.0":
        raise NoUsageEvent("specversion", 'Must be "1.0".')
    missing = [name for name in ("id", "source", "type") if not isinstance(given.get(name), str)]
    if missing:
        raise NoUsageEvent(missing[0], "This attribute is required, as text.")
    data = _data(given)
    event = {
        "id": given["id"],
        "source": given["source"],
        "meter": _meter(given["type"]),
        "quantity": data.get("quantity", "1"),
        "properties": data.get("properties", {}),
    }
    agent = data.get("agent", given.get("subject"))
    occurred_at = given.get("time")
    return {
        **event,
        **({} if agent is None else {"agent": agent}),
        **({} if occurred_at is None else {"occurred_at": occurred_at}),
    }


def _data(given: Mapping[str, Any]) -> Mapping[str, Any]:
    if "data_base64" in given:
        raise NoUsageEvent("data_base64", "Send `data` as JSON.")
    kind = str(given.get("datacontenttype", "application/json")).partition(";")[0].strip().lower()
    if kind != "application/json" and not kind.endswith("+json"):
        raise NoUsageEvent("datacontenttype", "Must be application/json.")
    data = given.get("data")
    if data is None:
        return {}
    if not isinstance(data, Mapping):
        raise NoUsageEvent("data", "Must be a JSON object.")
    unknown = sorted(set(data) - DATA_FIELDS)
    if unknown:
        raise NoUsageEvent("data", f"Unknown fields: {', '.join(unknown)}.")
    return data


def _meter(kind: str) -> str:
    last: str = kind.rpartition(".")[2]
    if last not in list(pricing.Meter):
        raise NoUsageEvent("type", f"Must end in a meter: {', '.join(pricing.Meter)}.")
    return last
