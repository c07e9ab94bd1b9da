"""Pages of federations: the list, a new one, topology, events, settings."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseNotModified, JsonResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.gzip import gzip_page
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from billing.models import Account
from federation import adaptation, coordination, maps, pages, standing
from federation.forms import EventFilter, FederationForm, SettingsForm
from federation.models import Event, Federation, Reading, Task, TopologyVersion
from federation.models.federations import default_max_agents, default_topology
from federation.views.shared import LISTED, editors_only, graph_of, one, one_to_edit, tab

READINGS, VERSIONS = 20, 12


@require_safe
def federation_list(request: HttpRequest, account: Account) -> HttpResponse:
    rows = Federation.objects.visible_to(request.user).filter(account=account).select_related("leader")
    page = pages.newest(rows, request)
    standings = standing.of(page.results)
    for federation in page.results:
        federation.standing = standings[federation.pk]
    name = "_federation_table" if request.wants_partial else "federation_list"
    return render(request, f"federation/{name}.html", {"page": page})


@require_http_methods(["GET", "HEAD", "POST"])
@editors_only
def federation_new(request: HttpRequest, account: Account) -> HttpResponse:
    initial = {"topology": default_topology(), "strategy": "round_robin", "max_agents": default_max_agents()}
    form = FederationForm(request.POST or None, initial=initial)
    if request.method == "POST" and form.is_valid():
        federation = coordination.create_federation(
            account=account, by=request.user, now=timezone.now(), **form.cleaned_data
        )
        messages.success(request, f"Created {federation}. Add agents to it next.")
        return redirect("federation:agents", account, federation.pk)
    return render(request, "federation/federation_new.html", {"form": form}, status=422 if form.errors else 200)


@require_safe
def topology(request: HttpRequest, account: Account, pk: UUID) -> HttpResponse:
    federation = one(request, account, pk)
    found = maps.of(federation, most=LISTED)
    shown = {
        "map": found,
        "metrics": found.shape.metrics(),
        "graph": graph_of(account, federation, found.agents, of=len(found.shape)),
        "levels": [(agent, found.shape.level(agent.pk), found.role(agent)) for agent in found.agents],
        "more": len(found.shape) - len(found.agents),
        "events": Event.objects.filter(federation=federation).order_by("-created_at", "-pk")[:8],
        "backtests": Task.objects.backtests().filter(federation=federation).exists(),
    }
    return tab(request, federation, "topology", shown, part="_topology_side")


@require_safe
def facts(request: HttpRequest, account: Account, pk: UUID) -> HttpResponse:
    federation = one(request, account, pk)
    found = {"federation": federation, "standing": standing.of([federation])[federation.pk]}
    return render(request, "federation/_facts.html", found)


@require_safe
@gzip_page
def graph(request: HttpRequest, account: Account, pk: UUID) -> HttpResponse:
    """The snapshot that the drawing begins with; small changes follow over the socket."""
    federation = one(request, account, pk)
    snapshot = maps.snapshot(federation)
    tag = f'"{federation.topology_version}-{snapshot["version"]}"'
    if request.headers.get("If-None-Match") == tag:
        return HttpResponseNotModified(headers={"ETag": tag})
    return JsonResponse(snapshot, headers={"ETag": tag, "Cache-Control": "private, no-cache"})


@require_safe
def events(request: HttpRequest, account: Account, pk: UUID) -> HttpResponse:
    federation = one(request, account, pk)
    filters = EventFilter(request.GET)
    rows = filters.narrow(Event.objects.filter(federation=federation)).select_related("agent", "task")
    shown = {"page": pages.newest(rows, request), "filters": filters, "kinds": Event.Kind.choices}
    return tab(request, federation, "events", shown, part="_event_feed")


@require_safe
def versions(request: HttpRequest, account: Account, pk: UUID) -> HttpResponse:
    """Every wiring it had, with the reason."""
    federation = one(request, account, pk)
    rows, brief = TopologyVersion.objects.filter(federation=federation), "brief" in request.GET
    shown = {"page": pages.newest(rows, request, size=VERSIONS if brief else pages.ROWS), "brief": brief}
    return tab(request, federation, "versions", shown, part="_version_table")


@require_http_methods(["GET", "HEAD", "POST"])
def settings(request: HttpRequest, account: Account, pk: UUID) -> HttpResponse:
    federation = one(request, account, pk)
    if request.method == "POST":
        return _change(request, account, pk)
    return _settings(request, account, federation, SettingsForm.of(federation))


def _settings(
    request: HttpRequest, account: Account, federation: Federation, form: SettingsForm, status: int = 200
) -> HttpResponse:
    readings = list(adaptation.latest(federation)[:READINGS])
    shown = {
        "form": form,
        "graph": graph_of(account, federation, [], of=0),
        "page": pages.newest(TopologyVersion.objects.filter(federation=federation), request, size=VERSIONS),
        "readings": readings,
        "costs": _costs(readings),
    }
    part = "_adaptive" if "readings" in request.GET else "_settings_form"
    return tab(request, federation, "settings", shown, part=part, status=status)


def _costs(readings: list[Reading]) -> list[dict[str, Any]]:
    """What each shape would have cost in the last window, the cheapest first."""
    if not readings:
        return []
    verdict = readings[0].verdict
    dearest = max(verdict.costs.values())
    return [
        {"shape": shape, "cost": cost, "dearest": dearest, "in_force": shape == verdict.shape}
        for shape, cost in sorted(verdict.costs.items(), key=lambda pair: pair[1])
    ]


@editors_only
def _change(request: HttpRequest, account: Account, pk: UUID) -> HttpResponse:
    federation = one_to_edit(request, account, pk)
    form = SettingsForm.of(federation, request.POST)
    if not form.is_valid():
        return _settings(request, account, federation, form, status=422)
    before = federation.topology_version
    changed = coordination.change_federation(
        federation=federation, changes=form.cleaned_data, by=request.user, now=timezone.now()
    )
    rewired = changed.topology_version != before
    said = f"Re-wired as {changed.topology}." if rewired else "Saved the settings."
    if request.wants_partial:
        # The page stays: whoever switches sees the drawing beside the form re-wire itself.
        response = _settings(request, account, changed, SettingsForm.of(changed))
        response["HX-Trigger"] = json.dumps({"toast": {"level": "success", "text": said}})
        return response
    messages.success(request, said)
    return redirect("federation:federation" if rewired else "federation:settings", account, pk)


@require_POST
@editors_only
def federation_delete(request: HttpRequest, account: Account, pk: UUID) -> HttpResponse:
    federation = one_to_edit(request, account, pk)
    coordination.delete_federation(federation=federation, by=request.user, now=timezone.now())
    messages.success(request, f"Closed {federation}. Its tasks that were not finished are cancelled.")
    return redirect("federation:federations", account)
