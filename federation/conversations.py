"""Conversations with MCP servers at addresses, by the official client over connections to judged addresses.

Only who has one imports this: the client takes a second to import and tens of megabytes to keep.
"""

from __future__ import annotations

import ssl
from typing import Any

import httpcore2
import httpx2
from mcp.client.streamable_http import streamable_http_client

from federation import guarded
from federation.inside import mcp_session

MOST_BYTES = 16 * 1024 * 1024
CONNECT_SECONDS = 10.0


async def converse(url: str, job: dict[str, Any], headers: dict[str, str]) -> dict[str, Any]:
    """What came out, as `mcp_session.converse` says it; also when the address is refused or nobody answers."""
    try:
        async with _client(timeout_seconds=job["timeout_seconds"], headers=headers) as client:
            found: dict[str, Any] = await mcp_session.converse(streamable_http_client(url, http_client=client), job)
            return found
    except Exception as wrong:  # noqa: BLE001 - whatever the server makes the client do is the server's
        return {"tools": None, **mcp_session.explained(wrong)}


class _Counted:
    """A stream that ends when too much was read from it."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._left = MOST_BYTES

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        found: bytes = await self._stream.read(max_bytes, timeout)
        self._left -= len(found)
        if self._left < 0:
            raise httpcore2.ReadError(f"It answers with more than {MOST_BYTES:,} bytes.")
        return found

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> _Counted:
        return _Counted(await self._stream.start_tls(ssl_context, server_hostname, timeout))


class _Judging(httpcore2.AnyIOBackend):
    """Connects to addresses that were judged."""

    async def connect_tcp(self, host: str, port: int, *given: Any, **named: Any) -> Any:
        try:
            judged = await guarded.address(host, port)
        except OSError as unknown:
            raise httpcore2.ConnectError(f"{host} is not known: {unknown.strerror}") from unknown
        return _Counted(await super().connect_tcp(judged, port, *given, **named))


def _client(*, timeout_seconds: float, headers: dict[str, str]) -> httpx2.AsyncClient:
    """No proxies, netrc or certificates from the environment: what is judged is what is connected to.

    The headers go to that address only: the client of MCP follows no redirect to another origin.
    """
    transport = httpx2.AsyncHTTPTransport(trust_env=False)
    # The only way to give it a network of one's own.
    transport._pool = httpcore2.AsyncConnectionPool(
        ssl_context=httpx2.create_ssl_context(trust_env=False), network_backend=_Judging(), max_connections=10
    )
    timeout = httpx2.Timeout(timeout_seconds, connect=min(CONNECT_SECONDS, timeout_seconds))
    return httpx2.AsyncClient(transport=transport, trust_env=False, timeout=timeout, headers=headers)
