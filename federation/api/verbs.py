"""The acts of remote agents as frames: each is the request of an endpoint in an envelope, answered by that endpoint.

    {"id": 7, "verb": "complete", "task": "...", "body": {"epoch": 1, "result": 42}}       asked
    {"id": 7, "status": 200, "body": {...}}                                                answered; a problem likewise

So REST and the socket cannot differ: the same view reads the body, checks who may, and words the refusal.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from io import BytesIO
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from django.core.handlers.wsgi import WSGIRequest

from federation.api.agents import AgentViewSet
from federation.api.doors import LONGEST_WAIT_SECONDS
from federation.api.messages import MessageViewSet
from federation.api.tasks import TaskViewSet
from federation.client.verbs import PLACES, Place


@dataclass(frozen=True, slots=True)
class Verb:
    """Which act of which viewset answers, at the place that the client's table says."""

    viewset: Any
    action: str


VERBS = {
    "register": Verb(AgentViewSet, "create"),
    "hello": Verb(AgentViewSet, "hello"),
    "heartbeat": Verb(AgentViewSet, "heartbeat"),
    "rotate": Verb(AgentViewSet, "rotate"),
    "leave": Verb(AgentViewSet, "destroy"),
    "claim": Verb(AgentViewSet, "claim"),
    "task": Verb(TaskViewSet, "retrieve"),
    "extend": Verb(TaskViewSet, "extend"),
    "complete": Verb(TaskViewSet, "complete"),
    "fail": Verb(TaskViewSet, "fail"),
    "inbox": Verb(AgentViewSet, "inbox"),
    "ack": Verb(AgentViewSet, "acknowledge"),
    "send": Verb(MessageViewSet, "create"),
    "send_many": Verb(MessageViewSet, "batch"),
}
WAITING = frozenset({"claim", "inbox"})
PARTS = frozenset({"id", "verb", "agent", "task", "federation", "token", "wait", "max", "body"})


class BadFrame(ValueError):
    """Raised for a frame that no request can be made of; `errors` names its parts."""

    code = "validation_error"

    def __init__(self, **errors: str) -> None:
        self.extras = {"errors": {name: [words] for name, words in errors.items()}}
        super().__init__("Some parts of the frame are not valid.")


@dataclass(frozen=True, slots=True)
class Frame:
    """One thing asked. `wait` is how many seconds the answer may take when there is nothing to say yet."""

    id: str | int | float | None
    verb: str
    of: UUID
    agent: UUID | None
    token: str
    wait: float = 0.0
    body: Mapping[str, Any] = field(default_factory=dict)
    query: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Answer:
    id: Any
    status: int
    body: Any
    retry_after: str = ""

    @property
    def is_nothing(self) -> bool:
        """What a longer wait may mend."""
        return self.status == 204 or (self.status == 200 and self.body == {"results": []})

    def as_frame(self) -> dict[str, Any]:
        waits = {"retry_after": int(self.retry_after)} if self.retry_after else {}
        return {"id": self.id, "status": self.status, "body": self.body, **waits}


def ident(value: Any) -> str | int | float | None:
    """What the answer is to be called; None for what is no name."""
    is_name = isinstance(value, str | int | float) and not isinstance(value, bool) and len(str(value)) <= 100
    return value if is_name and (not isinstance(value, float) or math.isfinite(value)) else None


def parse(said: Any, *, agent: UUID | None, federation: UUID | None) -> Frame:
    """The frame in what was said; an agent or federation it leaves out is the connection's. Raises BadFrame."""
    if not isinstance(said, dict):
        raise BadFrame(frame="A frame is an object.")
    unknown = sorted(set(map(str, said)) - PARTS)
    if unknown:
        raise BadFrame(**{unknown[0][:60]: "Unknown part of a frame."})
    place = PLACES.get(said["verb"]) if isinstance(said.get("verb"), str) else None
    if place is None:
        raise BadFrame(verb=f"Give one of {', '.join(VERBS)}.")
    if not isinstance(said.get("body", {}), dict):
        raise BadFrame(body="Give an object.")
    if not isinstance(said.get("token", ""), str):
        raise BadFrame(token="Give text.")
    wait = _wait(said)
    named = {"agent": agent, "federation": federation, "task": None}
    parts = {name: _uuid(name, said[name]) if name in said else named[name] for name in named}
    of = parts[place.of]
    if of is None:
        raise BadFrame(**{place.of: "This part is required."})
    query = {name: said[name] for name in place.query if name in said}
    return Frame(
        ident(said.get("id")), said["verb"], of, parts["agent"], said.get("token", ""), wait,
        said.get("body", {}), query,
    )  # fmt: skip


def _uuid(name: str, value: Any) -> UUID:
    try:
        return UUID(value)
    except (ValueError, AttributeError, TypeError):
        raise BadFrame(**{name: "Give an id."}) from None


def _wait(said: Mapping[str, Any]) -> float:
    value = said.get("wait", 0)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not 0 <= value <= LONGEST_WAIT_SECONDS:
        raise BadFrame(wait=f"Give a number from 0 to {LONGEST_WAIT_SECONDS}.")
    return float(value)


def answer(frame: Frame, *, token: str, address: str, is_repeat: bool = False) -> Answer:
    """What the endpoint says. A repeat, while an answer is waited for, does not count as another call."""
    place = PLACES[frame.verb]
    request = _request(place, frame, token=token, address=address)
    keyword = "federation_pk" if place.of == "federation" else "pk"
    response = _view(frame.verb, is_repeat)(request, **{keyword: frame.of})
    return Answer(frame.id, response.status_code, response.data, response.headers.get("Retry-After", ""))


def refusal(frame_id: Any, refused: Exception) -> Answer:
    """What is refused before any endpoint is asked, in the same words as theirs."""
    body = AgentViewSet().problem(refused)
    return Answer(frame_id, body["status"], body, str(getattr(refused, "retry_after", "")))


@cache
def _view(name: str, is_repeat: bool) -> Callable[..., Any]:
    verb = VERBS[name]
    free = {"throttle_classes": []} if is_repeat else {}
    found: Callable[..., Any] = verb.viewset.as_view({PLACES[name].method: verb.action}, **free)
    return found


def _request(place: Place, frame: Frame, *, token: str, address: str) -> WSGIRequest:
    body = json.dumps(frame.body).encode() if place.method == "post" else b""
    return WSGIRequest(
        {
            "REQUEST_METHOD": place.method.upper(),
            "PATH_INFO": f"/api/v1/{place.path.format(frame.of)}",
            "QUERY_STRING": urlencode(frame.query),
            "CONTENT_TYPE": "application/json",
            "CONTENT_LENGTH": str(len(body)),
            "HTTP_AUTHORIZATION": f"Bearer {token}",
            "REMOTE_ADDR": address,
            "SERVER_NAME": "localhost",
            "SERVER_PORT": "80",
            "wsgi.url_scheme": "http",
            "wsgi.input": BytesIO(body),
        }
    )
