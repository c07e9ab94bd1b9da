"""One request to a customer's server, which is trusted with nothing: not with time, nor size, nor where it leads.

The name is resolved here and judged (addresses.py), and the connection goes to that very address; a name that answers
something else a moment later gains nothing. Redirects are answers like any other, proxies of the environment are not
used, and of the answer only the beginning is read.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from urllib.parse import urlsplit, urlunsplit

import httpx

from billing.outgoing import addresses

DEADLINE_SECONDS = 15.0
CONNECT_SECONDS = 5.0
EXCERPT_BYTES = 1000
DEFAULT_PORTS = {"https": 443, "http": 80}
# Names are looked up by threads that nothing can interrupt; a slow name server must not use up all of them.
_resolvers = ThreadPoolExecutor(max_workers=64, thread_name_prefix="webhook-names")


@dataclass(frozen=True)
class Answer:
    """Without a status there was none, and `error` says why."""

    status: int | None
    duration_ms: int
    excerpt: str = ""
    error: str = ""
    retry_after: str = ""


async def send(url: str, *, body: bytes, headers: Mapping[str, str], deadline: float = DEADLINE_SECONDS) -> Answer:
    """Whatever happens is an answer; nothing is raised."""
    began = time.monotonic()
    try:
        async with asyncio.timeout(deadline):
            status, excerpt, retry_after = await _post(url, body, headers, deadline)
    except TimeoutError:
        return Answer(None, _since(began), error=f"No answer within {deadline:g} seconds.")
    except addresses.BadAddress as refused:
        return Answer(None, _since(began), error=str(refused)[:300])
    except (OSError, UnicodeError) as away:
        return Answer(None, _since(began), error=f"The name could not be resolved: {away}"[:300])
    except (httpx.HTTPError, httpx.InvalidURL) as wrong:
        return Answer(None, _since(began), error=f"{type(wrong).__name__}: {wrong}"[:300])
    redirected = "Redirects are not followed." if 300 <= status < 400 else ""
    return Answer(status, _since(began), excerpt=excerpt, error=redirected, retry_after=retry_after)


def _since(began: float) -> int:
    return round((time.monotonic() - began) * 1000)


async def _post(url: str, body: bytes, headers: Mapping[str, str], deadline: float) -> tuple[int, str, str]:
    """To the first address of the name that can be connected to."""
    parts = urlsplit(addresses.check(url))
    host = parts.hostname or ""
    host = host if ":" in host else host.encode("idna").decode()
    port = parts.port or DEFAULT_PORTS[parts.scheme]
    found = await _resolve(host, port)
    addresses.judge(host, found)
    sent = {**headers, "Host": _host_header(parts.scheme, host, port), "Accept-Encoding": "identity"}
    timeout = httpx.Timeout(deadline, connect=min(CONNECT_SECONDS, deadline))
    async with httpx.AsyncClient(timeout=timeout, follow_redirects=False, trust_env=False, verify=_tls()) as client:
        for number, address in enumerate(found, 1):
            pinned = urlunsplit((parts.scheme, _netloc(address, port), parts.path or "/", parts.query, ""))
            # The name, not the address, is what the certificate must be of.
            request = client.build_request(
                "POST",
                pinned,
                content=body,
                headers=sent,
                extensions={"sni_hostname": host, "timeout": timeout.as_dict()},
            )
            try:
                answer = await client.send(request, stream=True)
            except (httpx.ConnectError, httpx.ConnectTimeout):
                if number == len(found):
                    raise
                continue
            try:
                return answer.status_code, await _beginning(answer), answer.headers.get("Retry-After", "")
            finally:
                await answer.aclose()
    raise httpx.ConnectError("The name has no address.")


def _netloc(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _host_header(scheme: str, host: str, port: int) -> str:
    named = f"[{host}]" if ":" in host else host
    return named if port == DEFAULT_PORTS[scheme] else f"{named}:{port}"


async def _resolve(host: str, port: int) -> list[str]:
    """Every address of a name. Raises OSError."""
    loop = asyncio.get_running_loop()
    found = await loop.run_in_executor(_resolvers, _look_up, host, port)
    return list(dict.fromkeys(place[4][0] for place in found))


def _look_up(host: str, port: int) -> list[tuple]:  # type: ignore[type-arg]
    return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)


async def _beginning(answer: httpx.Response) -> str:
    """The first bytes as they were sent; the rest is not waited for."""
    read = b""
    async for piece in answer.aiter_raw():
        read += piece
        if len(read) >= EXCERPT_BYTES:
            break
    return read[:EXCERPT_BYTES].decode(errors="replace").replace("\x00", "")


@cache
def _tls() -> ssl.SSLContext:
    """Made once: reading the certificates takes longer than most requests."""
    return httpx.create_ssl_context(trust_env=False)
