"""The agent's questions as HTTP requests, one each."""

from __future__ import annotations

from typing import Any

import httpx

from federation.client.transport import Problem, Unreachable
from federation.client.verbs import PLACES

PATIENCE_SECONDS = 15.0


class Rest:
    name = "rest"

    def __init__(self, url: str, token: str, *, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self._client = httpx.AsyncClient(
            base_url=url.rstrip("/") + "/api/v1/", headers={"Authorization": f"Bearer {token}"}, transport=transport
        )

    async def ask(self, verb: str, *, of: str, body: Any = None, wait: float = 0, **query: Any) -> Any:
        place = PLACES[verb]
        query |= {"wait": wait} if wait else {}
        sent = {"json": body or {}} if place.method == "post" else {}
        try:
            answer = await self._client.request(
                place.method.upper(), place.path.format(of), params=query, timeout=PATIENCE_SECONDS + wait, **sent
            )
            found = answer.json() if answer.content else None
        except (httpx.TransportError, ValueError) as failed:
            raise Unreachable(f"{self._client.base_url} gives no answer: {failed or type(failed).__name__}") from failed
        if answer.status_code >= 400:
            waits = {"retry_after": int(answer.headers["retry-after"])} if "retry-after" in answer.headers else {}
            raise Problem(answer.status_code, {**found, **waits} if isinstance(found, dict) else found)
        return found

    async def close(self) -> None:
        await self._client.aclose()
