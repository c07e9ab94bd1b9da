"""Pages of nodes."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.contrib import messages
from django.db.models import Count
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from scaling import health, heart, nodes
from scaling.forms import NodeForm
from scaling.models import Node
from scaling.views.door import page_of, staff_only

SPANS = {"1": "1 h", "6": "6 h", "24": "24 h"}
MOST_POINTS = 600
PARTS = {
    "now": "scaling/_node_now.html",
    "charts": "scaling/_node_charts.html",
    "changes": "scaling/_node_changes.html",
}
# A process kind that has not been seen for this long was taken away on purpose.
FORGET_PROCESS = timedelta(hours=1)


@staff_only
@require_GET
def node_list(request: HttpRequest, account: Any) -> HttpResponse:
    seen = Node.objects.visible_to(request.user)
    counts = dict(seen.values_list("status").annotate(Count("pk")).order_by())
    status, asked = request.GET.get("status", ""), request.GET.get("q", "").replace("\0", "").strip()
    rows = seen.filter(status=status) if status in set(health.Status) else seen
    rows = rows.filter(name__icontains=asked) if asked else rows
    shown = {
        "page": page_of(request, rows.order_by("name")),
        "statuses": [(each.value, counts.get(each.value, 0)) for each in health.Status],
        "status": status,
        "q": asked,
        "total": sum(counts.values()),
        "draining": seen.filter(draining=True).count(),
    }
    return render(request, "scaling/_node_table.html" if request.wants_partial else "scaling/node_list.html", shown)


@staff_only
@require_GET
def node_detail(request: HttpRequest, account: Any, pk: UUID) -> HttpResponse:
    node = get_object_or_404(Node.objects.visible_to(request.user), pk=pk)
    span = request.GET.get("hours", "1") if request.GET.get("hours") in SPANS else "1"
    now = timezone.now()
    shown = {
        "node": node,
        "processes": _processes(node, now),
        "charts": _charts(node, since=now - timedelta(hours=int(span))),
        "changes": node.changes.order_by("-at", "-pk")[:50],
        "spans": SPANS.items(),
        "span": span,
        "lease_seconds": health.LEASE_BEATS * node.beat_seconds,
    }
    part = PARTS.get(request.GET.get("part", ""), "") if request.wants_partial else ""
    return render(request, part or "scaling/node_detail.html", shown)


def _processes(node: Node, now: datetime) -> list[dict[str, Any]]:
    """The lines of the machine's processes; one that stopped beating is silent."""
    lines = []
    for kind, line in sorted(node.metadata.get("processes", {}).items()):
        seen = datetime.fromisoformat(line["seen"])
        if now - seen > FORGET_PROCESS:
            continue
        is_silent = (now - seen).total_seconds() > health.LEASE_BEATS * node.beat_seconds + heart.OWN_SECONDS
        lines.append({**line, "kind": kind, "seen": seen, "state": "lost" if is_silent else "running"})
    return lines


def _charts(node: Node, *, since: datetime) -> list[dict[str, Any]]:
    fields = ("at", "cpu", "memory", "disk", "latency_ms")
    rows = list(node.reports.filter(at__gte=since).order_by("at").values_list(*fields))
    rows = rows[:: max(1, -(-len(rows) // MOST_POINTS))]
    columns = dict(zip(fields, zip(*rows, strict=True), strict=True)) if rows else {}
    if len(rows) < 2:
        return []
    x = [round(at.timestamp(), 1) for at in columns["at"]]
    shares = [(name, columns[name]) for name in ("cpu", "memory", "disk")]
    return [
        {
            "id": f"load-{node.pk}",
            "title": "Load",
            "x": x,
            "series": [{"label": _label(name), "values": _percent(said), "unit": "%"} for name, said in shares],
        },
        {
            "id": f"latency-{node.pk}",
            "title": "Latency",
            "x": x,
            "series": [{"label": "Latency", "values": list(columns["latency_ms"]), "unit": "ms", "fill": True}],
        },
    ]


def _label(name: str) -> str:
    return {"cpu": "CPU"}.get(name, name.capitalize())


def _percent(shares: tuple[float | None, ...]) -> list[float | None]:
    return [None if share is None else round(share * 100, 2) for share in shares]


@staff_only
@require_http_methods(["GET", "POST"])
def node_new(request: HttpRequest, account: Any) -> HttpResponse:
    """A machine that reports from elsewhere; its token is shown once."""
    form = NodeForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            node, token = nodes.register(**form.cleaned_data, now=timezone.now())
        except nodes.NameTaken as taken:
            form.add_error("name", str(taken))
        else:
            return render(request, "scaling/node_made.html", {"node": node, "token": token})
    return render(request, "scaling/node_form.html", {"form": form}, status=422 if form.errors else 200)


@staff_only
@require_POST
def node_drain(request: HttpRequest, account: Any, pk: UUID) -> HttpResponse:
    node = get_object_or_404(Node.objects.editable_by(request.user), pk=pk)
    return _acted(request, account, nodes.drain(node=node), f"{node.name} drains: it gets no new work.")


@staff_only
@require_POST
def node_resume(request: HttpRequest, account: Any, pk: UUID) -> HttpResponse:
    node = get_object_or_404(Node.objects.editable_by(request.user), pk=pk)
    return _acted(request, account, nodes.resume(node=node), f"{node.name} takes work again.")


def _acted(request: HttpRequest, account: Any, node: Node, sentence: str) -> HttpResponse:
    if not request.wants_partial:
        messages.success(request, sentence)
        return redirect("scaling:node", account, node.pk)
    response = render(request, "scaling/_node_row.html", {"node": node})
    response["HX-Trigger"] = json.dumps({"toast": {"level": "success", "text": sentence}})
    return response


@staff_only
@require_POST
def node_remove(request: HttpRequest, account: Any, pk: UUID) -> HttpResponse:
    node = get_object_or_404(Node.objects.editable_by(request.user), pk=pk)
    try:
        nodes.remove(node=node)
    except nodes.StillAlive as alive:
        messages.error(request, str(alive))
        return redirect("scaling:node", account, node.pk)
    messages.success(request, f"{node.name} is removed.")
    return redirect("scaling:nodes", account)
