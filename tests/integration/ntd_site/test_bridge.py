"""Django inside the ASGI server: requests and answers cross whole, streams and large bodies in pieces."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from typing import Any

import pytest

from ntd_site import bridge


class Answer(list[bytes]):
    """What a WSGI application answers with."""

    streaming = False
    is_closed = False

    def close(self) -> None:
        self.is_closed = True


class Stream(Answer):
    streaming = True


def echo(answer: Answer | None = None) -> Any:
    def application(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        length = int(environ.get("CONTENT_LENGTH") or 0)
        start_response("201 Created", [("X-Method", environ["REQUEST_METHOD"])])
        return Answer([environ["wsgi.input"].read(length)]) if answer is None else answer

    return application


def ask(application: Any, *pieces: bytes, headers: Iterable[tuple[bytes, bytes]] | None = None) -> list[dict[str, Any]]:
    length = [(b"content-length", str(sum(map(len, pieces))).encode())]
    scope = {
        "type": "http", "http_version": "1.1", "method": "POST", "path": "/", "query_string": b"",
        "headers": list(headers) if headers is not None else length,
    }  # fmt: skip
    messages: Iterator[dict[str, Any]] = iter(
        [{"type": "http.request", "body": piece, "more_body": True} for piece in pieces]
        + [{"type": "http.request", "body": b""}]
    )
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return next(messages)

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    asyncio.run(bridge.Bridge(application, threads=1)(scope, receive, send))
    return sent


def body_of(sent: list[dict[str, Any]]) -> bytes:
    return b"".join(message.get("body", b"") for message in sent)


def test_a_request_and_its_answer_cross_whole() -> None:
    start, body = ask(echo(), b"al", b"pha")

    assert (start["status"], start["headers"]) == (201, [(b"x-method", b"POST")])
    assert body == {"type": "http.response.body", "body": b"alpha"}


def test_a_stream_is_sent_as_it_comes() -> None:
    start, *pieces = ask(echo(Stream([b"al", b"pha"])))

    assert start["status"] == 201
    assert [(piece["body"], piece.get("more_body", False)) for piece in pieces] == [
        (b"al", True),
        (b"pha", True),
        (b"", False),
    ]


@pytest.mark.parametrize("kind", [Answer, Stream])
def test_an_answer_is_closed(kind: type[Answer]) -> None:
    answer = kind([b"alpha"])

    ask(echo(answer))

    assert answer.is_closed


@pytest.mark.parametrize(
    "size", [bridge.SMALL_BYTES, bridge.SMALL_BYTES + 1], ids=["the largest small", "the smallest large"]
)
def test_a_large_body_arrives_as_well(size: int) -> None:
    sent = ask(echo(), b"x" * size)

    assert len(body_of(sent)) == size


def test_a_body_without_a_length_is_left_to_the_application() -> None:
    sent = ask(echo(), b"alpha", headers=[(b"transfer-encoding", b"chunked")])

    assert (sent[0]["status"], body_of(sent)) == (201, b"")


def test_an_application_that_fails_is_the_servers_to_answer_for() -> None:
    def broken(environ: Any, start_response: Any) -> Iterable[bytes]:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        ask(broken)
