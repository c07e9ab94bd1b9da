"""One conversation with an MCP server by the official client: which tools it has, and, when asked, a call of one.

In a sandbox this is sent whole as an execution's code and starts the server itself; for a server at an address our
worker has the same conversation.

    reads   job.json    {command, tool | null, arguments, timeout_seconds}
    writes  artifacts/result.json, always    {"tools", "result"} or {"tools", "error", "retryable"}
"""

import asyncio
import json
import os
from pathlib import Path

from mcp import Client, MCPError, StdioServerParameters

MOST_TOOLS = 200
MOST_PAGES = 20
WORDS = 2000


async def converse(server, job):
    """What came out, also when something went wrong; never raises for what the server does."""
    found = {"tools": None}
    seconds = job["timeout_seconds"]
    try:
        async with asyncio.timeout(seconds):
            async with Client(server, read_timeout_seconds=seconds) as client:
                found["tools"] = await read_tools(client)
                if job["tool"] is not None:
                    found |= await call(client, found["tools"], job)
    except TimeoutError:
        found |= refused(f"The MCP server did not answer within {seconds:g} seconds.", retryable=True)
    except Exception as wrong:  # the server's doing, whatever the client makes of it
        found |= explained(wrong)
    if found["tools"] is not None and "error" in found:
        found["retryable"] = False  # the tool may have done its work: only who asked knows whether twice does harm
    return found


async def read_tools(client):
    tools, cursor = [], None
    for _ in range(MOST_PAGES):
        page = await client.list_tools(cursor=cursor)
        tools += [
            {"name": tool.name, "description": tool.description or "", "input_schema": tool.input_schema}
            for tool in page.tools
        ]
        cursor = page.next_cursor
        if cursor is None or len(tools) >= MOST_TOOLS:
            break
    return tools[:MOST_TOOLS]


async def call(client, tools, job):
    names = [tool["name"] for tool in tools]
    if job["tool"] not in names:
        known = ", ".join(names[:20]) or "none"
        return refused(f"The MCP server has no tool {job['tool']!r}. Its tools: {known}.")
    answer = await client.call_tool(job["tool"], job["arguments"])
    content = [block.model_dump(mode="json", by_alias=True, exclude_none=True) for block in answer.content]
    if answer.is_error:
        said = "\n".join(block.get("text", "") for block in content).strip()
        return refused(f"The tool {job['tool']} failed: {said or 'it did not say why'}")
    return {"result": {"content": content, "structured": answer.structured_content}}


def refused(text, *, retryable=False):
    return {"error": text[:WORDS], "retryable": retryable}


def explained(wrong):
    """Errors come in groups, from tasks within tasks: the innermost one says what happened."""
    while isinstance(wrong, BaseExceptionGroup):
        wrong = wrong.exceptions[0]
    if isinstance(wrong, TimeoutError):
        return refused("The MCP server did not answer in time.", retryable=True)
    if isinstance(wrong, FileNotFoundError | PermissionError):
        return refused(f"The command of the MCP server cannot be started: {wrong}")
    said = str(wrong) or type(wrong).__name__
    if getattr(wrong, "is_final", False):
        return refused(said)
    if type(wrong).__name__ in ("ConnectError", "ConnectTimeout"):
        return refused(f"The MCP server cannot be reached: {said}", retryable=True)
    if isinstance(wrong, MCPError) and "closed" not in said.lower():
        return refused(f"The MCP server refused: {said}")
    return refused(f"The MCP server broke off: {said}", retryable=True)


def main(folder):
    job = json.loads((folder / "job.json").read_text(encoding="utf-8"))
    # The client passes on little by itself; in a sandbox nothing is secret, and PYTHONPATH says where packages are.
    environment = dict(os.environ)
    server = StdioServerParameters(command=job["command"][0], args=job["command"][1:], cwd=folder, env=environment)
    found = asyncio.run(converse(server, job))
    (folder / "artifacts").mkdir(exist_ok=True)
    (folder / "artifacts" / "result.json").write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main(Path.cwd())
