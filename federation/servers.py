"""MCP servers of agents: checked and kept, and what became of asking for their tools.

An agent can do what its server has tools for: their names are capabilities, and follow when the tools change.
Until they are known, and while the server does not answer, the agent is unavailable, with the reason.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.db.models import Q

from federation import credentials, guarded, handlers, live, workloads
from federation.models import Agent, McpServer
from federation.sample import shelf
from sandboxes import programs, sealing

FIELDS = ("url", "command", "files", "template", "network", "timeout_seconds")
LONGEST_NAME = 60
# An address is asked again after so long, and sooner when it did not answer.
FRESH = timedelta(minutes=10)
RETRY = timedelta(minutes=1)
ROUND = 50
MEMORY_MB = 512


class BadServer(Exception):
    """Raised for an MCP server that cannot be one; `errors` names its fields."""

    code = "validation_error"

    def __init__(self, **errors: str) -> None:
        self.errors = errors
        self.extras = {"errors": {f"mcp.{name}" if name else "mcp": [said] for name, said in errors.items()}}
        super().__init__("The MCP server is not described well.")


def change(*, agent: Agent, wanted: Mapping[str, Any] | None, now: datetime) -> McpServer:
    """Say where an agent's server is, inside the caller's transaction; its tools must be read anew. Raises BadServer.

    What is left out is as before; `headers` and `env` are secrets by name, None takes one away (`credentials`).
    """
    if agent.runtime != Agent.Runtime.MCP:
        raise BadServer(**{"": "Only agents with the runtime mcp have an MCP server."})
    server = McpServer.objects.filter(agent=agent).first() or McpServer(agent=agent)
    wanted, before = dict(wanted or {}), credentials.place_of(server)
    secrets = {kind: wanted.pop(kind) for kind in credentials.KINDS if kind in wanted}
    for name, value in wanted.items():
        setattr(server, name, value)
    if "url" in wanted and "command" not in wanted:
        server.command, server.files = [], {}
    if "command" in wanted and "url" not in wanted:
        server.url = ""
    _check(agent, server)
    if credentials.place_of(server) != before:
        server.secrets = {}
    _keep_secrets(server, secrets)
    server.reading, server.error, server.tools_read_at, server.asked_at = None, "", None, now
    server.save()
    _set_available(agent, is_available=False)
    return server


def _check(agent: Agent, server: McpServer) -> None:
    if bool(server.url) == bool(server.command):
        raise BadServer(**{"": "Give either the url of the server, or its command."})
    errors = {"url": guarded.fault(server.url) if server.url else ""}
    if server.command:
        errors |= {
            "command": "" if all(server.command) else "Each part of the command is a text that is not empty.",
            "files": _files_fault(server.files),
            "template": handlers.template_fault(agent, server.template),
            "network": handlers.network_fault(server.network),
        }
    errors = {name: said for name, said in errors.items() if said}
    if errors:
        raise BadServer(**errors)


def _keep_secrets(server: McpServer, given: Mapping[str, Mapping[str, str | None]]) -> None:
    kind = credentials.kind_of(server)
    errors = {other: f"A server like this one is given its secrets as {kind}." for other in given if other != kind}
    if not errors and kind in given:
        errors = {kind: credentials.fault(given[kind], server.secrets, kind=kind)}
    if any(errors.values()):
        raise BadServer(**errors)
    server.secrets = credentials.changed(server.secrets, given.get(kind, {}), kind=kind)


def _files_fault(files: Mapping[str, Any]) -> str:
    try:
        programs.check(code="1", files={**files, "job.json": ""})
    except programs.Refused as refused:
        return "; ".join(" ".join(said) for said in refused.errors.values())
    except programs.TooLarge as large:
        return str(large)
    return "job.json is the name of a file of ours." if "job.json" in files else ""


def job(server: McpServer, payload: Mapping[str, Any] | None) -> dict[str, Any]:
    """The conversation to have: for a payload the call of its tool, else none. Raises workloads.BadPayload."""
    found = {"command": server.command, "tool": None, "arguments": {}, "timeout_seconds": server.timeout_seconds}
    if payload is None:
        return found
    unknown = sorted(set(payload) - {"tool", "arguments"}) if isinstance(payload, dict) else []
    if not isinstance(payload, dict) or unknown or not isinstance(payload.get("tool"), str):
        raise workloads.BadPayload('The payload of a call is {"tool": name, "arguments": {...}}.')
    arguments = payload.get("arguments", {})
    if not isinstance(arguments, dict):
        raise workloads.BadPayload("The arguments of a tool are an object.")
    return {**found, "tool": payload["tool"], "arguments": arguments}


def execution_arguments(server: McpServer, wanted: Mapping[str, Any]) -> dict[str, Any]:
    """The keyword arguments of `executions.submit` for a conversation with a command. Raises workloads.BadPayload."""
    secrets(server)
    return {
        "sealed_env": server.secrets,
        "code": shelf.inside("mcp_session"),
        "files": {**server.files, "job.json": json.dumps(wanted).encode()},
        "template": server.template,
        # The conversation keeps its own time; this is for the start of both programs, and for a server that hangs.
        "timeout_seconds": server.timeout_seconds + 15,
        "limits": {"memory_mb": MEMORY_MB},
        "network": server.network,
    }


def secrets(server: McpServer) -> dict[str, str]:
    """In plain words. Raises workloads.BadPayload."""
    try:
        return credentials.opened(server)
    except sealing.Unreadable as unreadable:
        raise workloads.BadPayload(str(unreadable)) from unreadable


@transaction.atomic
def keep_tools(*, server: McpServer, tools: Sequence[Mapping[str, Any]], now: datetime) -> None:
    """What it has now; capabilities that were its tools go when these do."""
    agent = Agent.objects.select_for_update(no_key=True).select_related("federation").get(pk=server.agent_id)
    before = names(server)
    server.tools, server.tools_read_at, server.error = list(tools), now, ""
    server.save(update_fields=["tools", "tools_read_at", "error"])
    agent.capabilities = sorted((set(agent.capabilities) - before) | names(server))
    agent.save(update_fields=["capabilities"])
    _set_available(agent, is_available=True)


def keep_error(*, server: McpServer, error: str, now: datetime) -> None:
    """It could not be asked: no work for its agent until it can."""
    said = credentials.masked(server, error)[:2000]
    McpServer.objects.filter(pk=server.pk).update(error=said, tools_read_at=now)
    _set_available(server.agent, is_available=False)


def _set_available(agent: Agent, *, is_available: bool) -> None:
    state = Agent.Availability.AVAILABLE if is_available else Agent.Availability.UNAVAILABLE
    Agent.objects.linked().filter(pk=agent.pk).update(availability=state)
    live.agents_changed(agent.federation, [agent.pk])


def names(server: McpServer) -> set[str]:
    """Its tools as capabilities."""
    return {tool["name"] for tool in server.tools or () if len(tool["name"]) <= LONGEST_NAME}


def take(*, server: McpServer, outcome: Mapping[str, Any], now: datetime) -> None:
    """Keep what a conversation said of the tools."""
    if outcome["tools"] is None:
        keep_error(server=server, error=outcome.get("error", "It did not answer."), now=now)
    elif outcome["tools"] != server.tools or server.error or server.tools_read_at is None:
        keep_tools(server=server, tools=outcome["tools"], now=now)
    else:
        McpServer.objects.filter(pk=server.pk).update(tools_read_at=now)


def stale(*, now: datetime) -> list[McpServer]:
    """Addresses whose tools should be read again, each named to one caller only."""
    due = Q(asked_at__lt=now - FRESH) | (~Q(error="") & Q(asked_at__lt=now - RETRY))
    rows = McpServer.objects.filter(due, agent__left_at=None, agent__federation__deleted_at=None).exclude(url="")
    found = list(rows.select_related("agent__federation").order_by("asked_at", "pk")[:ROUND])
    return [each for each in found if _mark(each, now)]


def _mark(server: McpServer, now: datetime) -> bool:
    return bool(McpServer.objects.filter(pk=server.pk, asked_at=server.asked_at).update(asked_at=now))
