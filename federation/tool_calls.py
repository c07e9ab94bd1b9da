"""Agents that are MCP servers at work: their tools are read, and tasks of the type `mcp.tool` call one.

a command     one execution, which starts the server in a sandbox and has the conversation there (inside/mcp_session)
an address    our worker has the same conversation, beside others, and renews the attempt's lease meanwhile
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from functools import partial
from typing import Any
from uuid import UUID

from django.db import transaction

from federation import attempts, caller, credentials, guarded, servers, workloads
from federation.models import Attempt, McpServer
from sandboxes import executions
from sandboxes.models import Execution

Clock = Callable[[], datetime]
NOTHING = {"tools": None, "error": "The conversation left nothing.", "retryable": True}


def begin(*, attempt: Attempt, server: McpServer, clock: Clock, then: Callable[[Attempt], None]) -> None:
    """Start the attempt and the conversation with an address; `then` is told when it is over."""
    job = servers.job(server, attempt.task.payload)
    refused = guarded.fault(server.url)
    if refused:
        raise workloads.BadPayload(f"The MCP server may not be asked: {refused}")
    headers = servers.secrets(server)
    started = attempts.start(attempt=attempt, now=clock())
    if started is not None:
        caller.talk(
            _while_wanted(started, converse(server, job, headers), clock),
            then=partial(_finish, started, server, clock, then),
        )


async def converse(server: McpServer, job: dict[str, Any], headers: dict[str, str]) -> dict[str, Any]:
    # A process that has no conversations does without what they need.
    from federation import conversations

    return await conversations.converse(server.url, job, headers)


async def _while_wanted(attempt: Attempt, conversation: Any, clock: Clock) -> dict[str, Any] | None:
    """The outcome, or None when the task was cancelled or went to another meanwhile."""
    talking = asyncio.ensure_future(conversation)
    renewing = asyncio.ensure_future(_renew(attempt, clock))
    await asyncio.wait({talking, renewing}, return_when=asyncio.FIRST_COMPLETED)
    renewing.cancel()
    if talking.done():
        return dict(talking.result())
    talking.cancel()
    with suppress(asyncio.CancelledError):
        await talking
    return None


async def _renew(attempt: Attempt, clock: Clock) -> None:
    """Returns when the attempt is no longer the task's."""
    wait = min(attempt.task.federation.lease_seconds / 3, 2.0)
    while True:
        await asyncio.sleep(wait)
        try:
            await caller.run(_extend, attempt, clock)
        except (attempts.StaleEpoch, attempts.TaskSettled):
            return


def _extend(attempt: Attempt, clock: Clock) -> None:
    attempts.extend(task_id=attempt.task_id, agent_id=attempt.agent_id, epoch=attempt.epoch, now=clock())


def _finish(
    attempt: Attempt, server: McpServer, clock: Clock, then: Callable[[Attempt], None], outcome: dict[str, Any] | None
) -> None:
    if outcome is not None:
        tell(attempt=attempt, server=server, outcome=outcome, now=clock())
    then(attempt)


def tell(*, attempt: Attempt, server: McpServer, outcome: dict[str, Any], now: datetime) -> None:
    """Give a call's outcome to its task, and keep what was seen of the tools."""
    servers.take(server=server, outcome=outcome, now=now)
    # Whoever was first has told the task; a cancelled task wants no result.
    with suppress(attempts.StaleEpoch, attempts.TaskSettled):
        error = outcome.get("error") or _too_much(outcome.get("result"))
        if error:
            retryable = bool(outcome.get("retryable"))
            said = credentials.masked(server, error)
            attempts.fail(task_id=attempt.task_id, epoch=attempt.epoch, error=said, retryable=retryable, now=now)
        else:
            attempts.complete(task_id=attempt.task_id, epoch=attempt.epoch, result=outcome["result"], now=now)


def _too_much(result: Any) -> str:
    """Why this cannot be a task's result; empty when it can."""
    if result is None:
        return "The MCP server gave no result."
    if len(json.dumps(result)) > workloads.MAX_RESULT_BYTES:
        return f"The result of the tool is larger than {workloads.MAX_RESULT_BYTES:,} bytes."
    return "" if workloads.is_storable(result) else "The result of the tool holds what is no JSON text or number."


def read(*, agent_id: UUID, clock: Clock, then: Callable[[], None]) -> None:
    """Ask an agent's server for its tools; those of a command come with the end of an execution."""
    server = McpServer.objects.select_related("agent__federation__account").filter(agent=agent_id).first()
    if server is None or server.agent.left_at is not None:
        return
    try:
        if not server.is_remote:
            _read_command(server, clock())
            return
        refused, headers = guarded.fault(server.url), servers.secrets(server)
    except workloads.BadPayload as unreadable:
        servers.keep_error(server=server, error=str(unreadable), now=clock())
        return
    if refused:
        servers.keep_error(server=server, error=refused, now=clock())
        return

    def keep(outcome: dict[str, Any]) -> None:
        servers.take(server=server, outcome=outcome, now=clock())
        then()

    caller.talk(converse(server, servers.job(server, None), headers), then=keep)


@transaction.atomic
def _read_command(server: McpServer, now: datetime) -> None:
    execution = executions.submit(
        account=server.agent.federation.account,
        metadata={"name": f"Tools of {server.agent}"[:80], "federation": server.agent.federation.name},
        agent=str(server.agent_id),
        now=now,
        **servers.execution_arguments(server, servers.job(server, None)),
    )
    McpServer.objects.filter(pk=server.pk).update(reading=execution, asked_at=now)


def take_reading(*, execution: Execution, outcome: dict[str, Any], now: datetime) -> McpServer | None:
    """Keep the tools that an execution read, once; None when it read none."""
    server = McpServer.objects.select_related("agent__federation").filter(reading=execution).first()
    if server is None or not McpServer.objects.filter(pk=server.pk, reading=execution).update(reading=None):
        return None
    servers.take(server=server, outcome=outcome, now=now)
    return server


def outcome_of(execution: Execution, artifact: bytes | None, why: str) -> dict[str, Any]:
    """What the conversation of an execution said, or why there was none; it may be forged."""
    if execution.state != Execution.State.SUCCEEDED:
        return {"tools": None, "error": f"The MCP server's sandbox ended: {why}", "retryable": False}
    try:
        found = json.loads(artifact or b"")
    except (ValueError, RecursionError):
        return dict(NOTHING)
    return found if _is_outcome(found) else dict(NOTHING)


def _is_outcome(found: Any) -> bool:
    if not isinstance(found, dict) or not workloads.is_storable(found):
        return False
    tools = found.get("tools")
    has_tools = tools is None or (isinstance(tools, list) and len(tools) <= 200 and all(map(_is_tool, tools)))
    return has_tools and isinstance(found.get("error", ""), str) and (tools is not None or "error" in found)


def _is_tool(found: Any) -> bool:
    return isinstance(found, dict) and isinstance(found.get("name"), str) and isinstance(found.get("description"), str)
