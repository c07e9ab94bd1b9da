"""A small MCP server by the official SDK: as a source for sandboxes, and listening on this machine."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import uvicorn

# The headers of each request to the one that listens.
asked_with: list[dict[str, str]] = []
SOURCE = '''
import logging
import os
import sys
import time

from mcp.server.mcpserver import MCPServer

logging.disable()
server = MCPServer("tiny")


@server.tool()
def add(a: int, b: int) -> int:
    """Adds two numbers."""
    return a + b


@server.tool()
def fail(why: str) -> str:
    from mcp.server.mcpserver.exceptions import ToolError

    raise ToolError(why)


@server.tool()
async def sleep(seconds: float) -> str:
    import asyncio

    await asyncio.sleep(seconds)
    return "slept"


@server.tool()
def large(size: int) -> str:
    return "x" * size


@server.tool()
def die() -> str:
    os._exit(3)


if __name__ == "__main__":
    server.run("stdio")
'''


@contextlib.contextmanager
def listening(port: int) -> Iterator[str]:
    """The same server at an address of this machine (without what would end the tests' process)."""
    names: dict[str, object] = {"__name__": "tiny"}
    # Here it is not alone in its process.
    exec(SOURCE.replace("os._exit(3)", "return ''").replace("logging.disable()\n", ""), names)
    inner = names["server"].streamable_http_app()  # type: ignore[attr-defined]

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            asked_with.append({name.decode(): value.decode() for name, value in scope["headers"]})
        await inner(scope, receive, send)

    config = uvicorn.Config(app, host="127.0.0.1", port=port, log_level="error", lifespan="on", ws="none")
    serving = uvicorn.Server(config)
    thread = threading.Thread(target=lambda: asyncio.run(serving.serve()), daemon=True)
    thread.start()
    while not serving.started:
        threading.Event().wait(0.01)
    try:
        yield f"http://127.0.0.1:{port}/mcp"
    finally:
        serving.should_exit = True
        thread.join(10)
