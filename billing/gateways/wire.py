"""One request over HTTPS to a gateway, whose answer is hostile until read: in one deadline, of bounded size, unpacked.

Redirects are not followed.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import httpx

from billing.gateways import AnswerLost

CONNECT_SECONDS = 5.0
MOST_BYTES = 64 * 1024


@dataclass(frozen=True)
class Answer:
    status: int
    body: bytes
    headers: Mapping[str, str]


def ask(
    method: str, url: str, body: bytes, headers: Mapping[str, str], *, deadline_seconds: float, most_bytes: int
) -> Answer:
    """Raises AnswerLost, and httpx.HTTPError as it came: whether anything was sent is the caller's to tell."""
    fixed = {**headers, "Accept-Encoding": "identity"}
    try:
        return asyncio.run(_ask(method, url, body, fixed, deadline_seconds, most_bytes))
    except TimeoutError as late:
        raise AnswerLost(f"The gateway did not answer within {deadline_seconds:g} seconds.") from late


async def _ask(
    method: str, url: str, body: bytes, headers: Mapping[str, str], deadline: float, most_bytes: int
) -> Answer:
    """One deadline for all of it: an answer that drips in holds nobody. Raises TimeoutError, httpx.HTTPError."""
    async with asyncio.timeout(deadline):
        timeout = httpx.Timeout(deadline, connect=min(CONNECT_SECONDS, deadline))
        async with (
            httpx.AsyncClient(timeout=timeout, follow_redirects=False, verify=_tls()) as client,
            client.stream(method, url, content=body or None, headers=headers) as answer,
        ):
            return Answer(answer.status_code, await _read(answer, most_bytes), answer.headers)


async def _read(answer: httpx.Response, most_bytes: int) -> bytes:
    """The body as it was sent; one that is packed could unpack to anything. Raises AnswerLost."""
    if answer.headers.get("Content-Encoding", "identity") != "identity":
        raise AnswerLost("The gateway's answer is packed, which was not asked for.")
    read = b""
    async for piece in answer.aiter_raw():
        read += piece
        if len(read) > most_bytes:
            raise AnswerLost(f"The gateway's answer is longer than {most_bytes} bytes.")
    return read


@cache
def _tls() -> ssl.SSLContext:
    """Made once: reading the certificates takes longer than most requests."""
    return httpx.create_ssl_context()
