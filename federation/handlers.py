"""Handlers of managed agents: checked, kept as a new version, in force for whatever starts from then on."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from django.conf import settings
from django.db.models import Max

from federation import readers, workloads
from federation.models import Agent, Handler
from sandboxes.limits import InvalidLimits, Limits
from sandboxes.models import Template

CODE_BYTES = 256 * 1024
DEFAULTS: dict[str, Any] = {
    "template": "python", "types": [], "timeout_seconds": 60.0, "limits": {}, "network": False,
}  # fmt: skip


class BadHandler(Exception):
    """Raised for a handler that cannot run; `errors` names its fields."""

    code = "validation_error"

    def __init__(self, **errors: str) -> None:
        self.errors = errors
        self.extras = {"errors": {f"handler.{name}" if name else "handler": [said] for name, said in errors.items()}}
        super().__init__("The handler cannot run.")


def change(*, agent: Agent, wanted: Mapping[str, Any] | None, by: Any, now: datetime) -> Handler | None:
    """Put another version in force (None: no handler any more), inside the caller's transaction and lock.

    What is left out is as in the version before. The same again makes no version. Raises BadHandler.
    """
    if agent.runtime != Agent.Runtime.MANAGED:
        raise BadHandler(**{"": "Only managed agents have a handler."})
    if wanted is None:
        agent.handler = None
        agent.save(update_fields=["handler"])
        readers.told(agent=agent, reads=False, now=now)
        return None
    before = agent.handler
    fields = {name: getattr(before, name) if before else default for name, default in DEFAULTS.items()}
    fields |= {"code": before.code if before else "", **wanted}
    fields["types"] = sorted(set(fields["types"]))
    check(agent, fields)
    fields["reads_messages"] = workloads.reads_messages(fields["code"])
    if before is not None and all(getattr(before, name) == value for name, value in fields.items()):
        return before
    newest = Handler.objects.filter(agent=agent).aggregate(newest=Max("version"))["newest"] or 0
    agent.handler = Handler.objects.create(
        agent=agent, version=newest + 1, created_by=str(by or "")[:120], created_at=now, **fields
    )
    agent.save(update_fields=["handler"])
    readers.told(agent=agent, reads=agent.handler.reads_messages, now=now)
    return agent.handler


def check(agent: Agent, fields: Mapping[str, Any]) -> None:
    """Raises BadHandler."""
    found = {
        "code": _code_fault(fields["code"]),
        "template": template_fault(agent, str(fields["template"])),
        "types": _types_fault(fields["types"]),
        "limits": _limits_fault(fields["limits"]),
        "network": network_fault(fields["network"]),
    }
    errors = {name: said for name, said in found.items() if said}
    if errors:
        raise BadHandler(**errors)


def _code_fault(code: str) -> str:
    if len(code.encode(errors="replace")) > CODE_BYTES:
        return f"It is longer than {CODE_BYTES:,} bytes."
    return workloads.handler_fault(code)


def template_fault(agent: Agent, name: str) -> str:
    """Why an agent's code cannot start from this template; empty when it can."""
    found = Template.objects.usable_by(agent.federation.account).named(name)
    if found is None:
        return "There is no such template."
    if found.language != "python":
        return f"This template is for {found.language}; handlers are Python."
    return "" if found.state == Template.State.READY else f"This template is {found.state}, not ready."


def _types_fault(types: list[str]) -> str:
    taken = sorted(set(types) & (workloads.MANAGED_TYPES | {workloads.MCP_TOOL}))
    return f"Tasks of the type {taken[0]} are not for handlers." if taken else ""


def _limits_fault(limits: Mapping[str, Any]) -> str:
    try:
        Limits.parse(limits)
    except InvalidLimits as invalid:
        return "; ".join(f"{name}: {' '.join(said)}" for name, said in invalid.errors.items())
    return ""


def network_fault(wanted: bool) -> str:
    return (
        "Sandboxes have no network here. Ask the operator to allow it."
        if wanted and not settings.SANDBOX_NETWORK
        else ""
    )
