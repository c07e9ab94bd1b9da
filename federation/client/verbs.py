"""Plain Python. What a remote agent can ask, by verb: the method and path of REST, and the id that the path needs."""

from __future__ import annotations

from typing import NamedTuple


class Place(NamedTuple):
    method: str
    path: str
    of: str
    query: tuple[str, ...] = ()


PLACES = {
    "register": Place("post", "federations/{}/agents", "federation"),
    "hello": Place("post", "agents/{}/hello", "agent"),
    "heartbeat": Place("post", "agents/{}/heartbeat", "agent"),
    "rotate": Place("post", "agents/{}/token", "agent"),
    "leave": Place("delete", "agents/{}", "agent"),
    "claim": Place("post", "agents/{}/tasks/claim", "agent"),
    "task": Place("get", "tasks/{}", "task"),
    "extend": Place("post", "tasks/{}/extend", "task"),
    "complete": Place("post", "tasks/{}/complete", "task"),
    "fail": Place("post", "tasks/{}/fail", "task"),
    "inbox": Place("get", "agents/{}/inbox", "agent", ("max",)),
    "ack": Place("post", "agents/{}/inbox/ack", "agent"),
    "send": Place("post", "federations/{}/messages", "federation"),
    "send_many": Place("post", "federations/{}/messages/batch", "federation"),
}
