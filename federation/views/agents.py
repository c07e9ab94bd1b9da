"""Pages of agents."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from uuid import UUID

from django.contrib import messages
from django.db.models import Func
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from billing.models import Account
from federation import agents as members
from federation import bus, coordination, handlers, maps, pages, readers, servers
from federation.agent_forms import FORMS, WORDS, AgentChangeForm, AgentForm, HandlerEditor, McpEditor
from federation.forms import AgentFilter
from federation.models import Agent, Attempt, Event, Federation
from federation.views.shared import agent_of, editors_only, one, one_to_edit, tab

NEIGHBOURS = 60
SITTINGS = 5
HEAVY = ("task__payload", "task__result", "answer")


@require_safe
def agent_list(request: HttpRequest, account: Account, pk: UUID) -> HttpResponse:
    federation = one(request, account, pk)
    members = Agent.objects.members().filter(federation=federation)
    filters = AgentFilter(request.GET)
    rows = filters.narrow(members.with_running())
    known = members.annotate(word=Func("capabilities", function="unnest")).values_list("word", flat=True)
    shown = {
        "page": replace(pages.newest(rows.defer("metadata"), request), note=_count(rows.count(), "agent")),
        "filters": filters,
        "statuses": Agent.MARKS,
        "runtimes": Agent.Runtime.values,
        "capabilities": known.order_by("word").distinct()[:200],
    }
    return tab(request, federation, "agents", shown, part="_agent_table")


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


@require_http_methods(["GET", "HEAD", "POST"])
@editors_only
def agent_new(request: HttpRequest, account: Account, pk: UUID) -> HttpResponse:
    federation = one_to_edit(request, account, pk)
    asked = request.POST.get("runtime") or request.GET.get("runtime")
    runtime = asked if asked in FORMS else Agent.Runtime.MANAGED
    form = FORMS[runtime](request.POST or None, account=account)
    if request.method == "POST" and form.is_valid():
        agent, token = _added(request, federation, form)
        if agent and token:
            return tab(request, federation, "agent_token", _ways_to_join(request, agent, token))
        if agent:
            messages.success(request, f"{agent} joined.")
            return redirect("federation:agent", account, agent.pk)
    shown = {"form": form, "runtime": runtime, "runtimes": WORDS}
    return tab(request, federation, "agent_new", shown, status=422 if form.errors else 200)


def _added(request: HttpRequest, federation: Federation, form: AgentForm) -> tuple[Agent | None, str | None]:
    try:
        return coordination.add_agent(federation=federation, by=request.user, now=timezone.now(), **form.asked())
    except members.FederationFull as full:
        form.add_error(None, str(full))
    except (handlers.BadHandler, servers.BadServer) as bad:
        form.blame(bad.errors)
    return None, None


@require_http_methods(["GET", "HEAD", "POST"])
@editors_only
def agent_handler(request: HttpRequest, account: Account, pk: UUID) -> HttpResponse:
    """The editor of a managed agent's handler; `?version=` shows an older one to go on from."""
    agent = _to_edit(request, account, pk)
    versions = list(agent.handlers.order_by("-version").defer("code")[:25])
    wanted = request.GET.get("version", "")
    shown = agent.handlers.filter(version=int(wanted)).first() if wanted.isdecimal() and len(wanted) < 8 else None
    form = HandlerEditor.of(agent, shown or agent.handler, request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            coordination.change_agent(agent=agent, handler=form.handler(), by=request.user, now=timezone.now())
            messages.success(request, f"Version {agent.handler.version if agent.handler else ''} is in force.")
            return redirect("federation:agent", account, agent.pk)
        except handlers.BadHandler as bad:
            form.blame(bad.errors)
    found = {"agent": agent, "form": form, "versions": versions, "shown": shown or agent.handler}
    return tab(request, agent.federation, "agent_handler", found, status=422 if form.errors else 200)


@require_http_methods(["GET", "HEAD", "POST"])
@editors_only
def agent_server(request: HttpRequest, account: Account, pk: UUID) -> HttpResponse:
    """Where an agent's MCP server is, how it is asked, and its secrets."""
    agent = _to_edit(request, account, pk)
    if agent.runtime != Agent.Runtime.MCP:
        messages.warning(request, f"{agent} is no MCP server.")
        return redirect("federation:agent", account, agent.pk)
    form = McpEditor.of(agent, request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            coordination.change_agent(agent=agent, mcp=form.server(), by=request.user, now=timezone.now())
            messages.success(request, "Changed. Its server is being asked for its tools.")
            return redirect("federation:agent", account, agent.pk)
        except servers.BadServer as bad:
            form.blame(bad.errors)
    found = {"agent": agent, "form": form}
    return tab(request, agent.federation, "agent_server", found, status=422 if form.errors else 200)


@require_POST
@editors_only
def agent_tools(request: HttpRequest, account: Account, pk: UUID) -> HttpResponse:
    """Ask an MCP server for its tools now."""
    agent = _to_edit(request, account, pk)
    try:
        coordination.read_tools(agent=agent, now=timezone.now())
        messages.success(request, "Its server is being asked. The tools show when it has answered.")
    except servers.BadServer as bad:
        messages.warning(request, " ".join(bad.errors.values()))
    return redirect("federation:agent", account, agent.pk)


@require_POST
@editors_only
def agent_token(request: HttpRequest, account: Account, pk: UUID) -> HttpResponse:
    """A new token for a remote agent; the old one ends."""
    agent = _to_edit(request, account, pk)
    try:
        token = members.rotate_token(agent=agent, now=timezone.now())
    except (members.NoToken, members.Gone) as refused:
        messages.warning(request, str(refused))
        return redirect("federation:agent", account, agent.pk)
    return tab(request, agent.federation, "agent_token", _ways_to_join(request, agent, token))


def _ways_to_join(request: HttpRequest, agent: Agent, token: str) -> dict[str, Any]:
    """The token, and what to type on the machine that is to be the agent."""
    url = request.build_absolute_uri("/").rstrip("/")
    given = f"FEDERATION_ROLE=worker COORDINATOR_URL={url} NTD_AGENT_TOKEN={token}"
    command = f"{given} python3 manage.py agent --agent {agent.pk}"
    return {"agent": agent, "token": token, "url": url, "command": command}


@require_safe
def agent_detail(request: HttpRequest, account: Account, pk: UUID) -> HttpResponse:
    agent = agent_of(request, account, pk)
    shape = maps.shape(agent.federation)
    attempts = Attempt.objects.filter(agent=agent).select_related("task").defer(*HEAVY).order_by("-assigned_at", "-pk")
    is_linked = agent.pk in shape
    shown = {
        "agent": agent,
        "role": "leader" if agent.pk == agent.federation.leader_id else "worker",
        "level": shape.level(agent.pk) if is_linked else None,
        "neighbours": _neighbours(shape.neighbours(agent.pk)) if is_linked else [],
        "attempts": attempts[:25],
        "events": Event.objects.filter(agent=agent).order_by("-created_at", "-pk")[:10],
        "inbox": _inbox(agent) if agent.runtime == Agent.Runtime.MANAGED else None,
    }
    if request.GET.get("drawer"):
        return render(request, "federation/_agent_drawer.html", {"federation": agent.federation, **shown})
    return tab(request, agent.federation, "agent", shown, part="_agent_body")


def _inbox(agent: Agent) -> dict[str, Any]:
    """How many messages wait (None while the bus does not answer) and why, and how it read the last ones."""
    sittings = agent.sittings.defer("messages").order_by("-started_at", "-pk")[:SITTINGS]
    try:
        return {
            "waiting": bus.waiting_in_inbox(agent=agent),
            "why": readers.why_waiting(agent=agent),
            "sittings": sittings,
        }
    except bus.BusUnavailable:
        return {"waiting": None, "sittings": sittings}


def _neighbours(near: list[UUID]) -> list[Agent]:
    """The first of them; the hub of a large star has thousands."""
    return list(Agent.objects.filter(pk__in=near[:NEIGHBOURS]).only("pk", "name").order_by("position"))


@require_http_methods(["GET", "HEAD", "POST"])
@editors_only
def agent_edit(request: HttpRequest, account: Account, pk: UUID) -> HttpResponse:
    agent = _to_edit(request, account, pk)
    form = AgentChangeForm.of(agent, request.POST or None)
    if request.method == "POST" and form.is_valid():
        coordination.change_agent(agent=agent, by=request.user, now=timezone.now(), **form.cleaned_data)
        messages.success(request, f"Changed {agent}.")
        return redirect("federation:agent", account, pk)
    shown = {"agent": agent, "form": form}
    return tab(request, agent.federation, "agent_edit", shown, status=422 if form.errors else 200)


@require_POST
@editors_only
def agent_drain(request: HttpRequest, account: Account, pk: UUID) -> HttpResponse:
    """No new work for it; with `end`, work again."""
    agent = _to_edit(request, account, pk)
    draining = "end" not in request.POST
    coordination.change_agent(agent=agent, by=request.user, now=timezone.now(), draining=draining)
    said = "takes no new work and finishes what it has" if draining else "takes work again"
    messages.success(request, f"{agent} {said}.")
    return redirect("federation:agent", account, pk)


@require_safe
def agent_row(request: HttpRequest, account: Account, pk: UUID) -> HttpResponse:
    agent = agent_of(request, account, pk)
    return render(request, "federation/_agent_row.html", {"agent": agent, "federation": agent.federation})


@require_POST
@editors_only
def agent_remove(request: HttpRequest, account: Account, pk: UUID) -> HttpResponse:
    agent = _to_edit(request, account, pk)
    when_done = "when_done" in request.POST
    coordination.remove_agent(agent=agent, by=request.user, now=timezone.now(), when_done=when_done)
    if when_done and Agent.objects.members().filter(pk=pk).exists():
        messages.success(request, f"{agent} leaves when it has finished what it runs.")
        return redirect("federation:agent", account, pk)
    messages.success(request, f"Removed {agent}. Its tasks go to others.")
    return redirect("federation:agents", account, agent.federation_id)


def _to_edit(request: HttpRequest, account: Account, pk: UUID) -> Agent:
    rows = Agent.objects.editable_by(request.user).members().select_related("federation__account", "handler")
    found: Agent = get_object_or_404(rows.with_running(), federation__account=account, pk=pk)
    return found
