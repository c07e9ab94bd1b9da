"""What the pages of a federation have in common: its head and tabs, and who may change things."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any
from uuid import UUID

from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.urls import reverse

from billing.models import Account
from federation import standing
from federation.models import Agent, Federation, Task

EDITORS = ("owner", "operator", "staff")
PLACEHOLDER = "00000000-0000-0000-0000-000000000000"
# A longer list would be a page of its own, which the list of agents is.
LISTED = 200
View = Callable[..., HttpResponse]


def editors_only(view: View) -> View:
    @wraps(view)
    def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if request.role not in EDITORS:
            raise PermissionDenied("A viewer cannot change anything. Ask an owner for the operator role.")
        return view(request, *args, **kwargs)

    return guarded


def one(request: HttpRequest, account: Account, pk: UUID) -> Federation:
    rows = Federation.objects.visible_to(request.user).select_related("leader")
    return get_object_or_404(rows, account=account, pk=pk)


def one_to_edit(request: HttpRequest, account: Account, pk: UUID) -> Federation:
    return get_object_or_404(Federation.objects.editable_by(request.user), account=account, pk=pk)


def agent_of(request: HttpRequest, account: Account, pk: UUID) -> Agent:
    rows = Agent.objects.visible_to(request.user).members().select_related("federation", "mcp").with_running()
    return get_object_or_404(rows.defer("mcp__files"), federation__account=account, pk=pk)


def task_of(request: HttpRequest, account: Account, pk: UUID) -> Task:
    rows = Task.objects.visible_to(request.user).select_related("federation", "assigned_to")
    return get_object_or_404(rows, federation__account=account, pk=pk)


def tab(
    request: HttpRequest,
    federation: Federation,
    name: str,
    shown: dict[str, Any] | None = None,
    *,
    part: str = "",
    status: int = 200,
) -> HttpResponse:
    """A tab of a federation; only its `part` where the page asks for that."""
    context = {"federation": federation, "tab": name, **(shown or {})}
    if part and request.wants_partial:
        return render(request, f"federation/{part}.html", context, status=status)
    context["standing"] = standing.of([federation])[federation.pk]
    return render(request, f"federation/{name}.html", context, status=status)


def graph_of(account: Account, federation: Federation, agents: list[Agent], *, of: int) -> dict[str, Any]:
    """What `_graph.html` draws from; `agents` are the first of so many."""
    address = reverse("federation:agent", args=[account, PLACEHOLDER]).replace(PLACEHOLDER, "__id__")
    return {
        "name": federation.name,
        "snapshot_url": reverse("federation:graph", args=[account, federation.pk]),
        "agent_url": address,
        "topic": f"topology-{federation.pk}",
        "more": of - len(agents),
        "all_url": reverse("federation:agents", args=[account, federation.pk]),
        "agents": [
            {"name": agent.name, "state": agent.mark, "url": reverse("federation:agent", args=[account, agent.pk])}
            for agent in agents
        ],
    }
