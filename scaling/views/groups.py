"""Pages of scaling groups and their decisions."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.conf import settings
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from scaling import autoscaler, targets
from scaling.forms import GroupForm
from scaling.models import Decision, Group
from scaling.policy import Action
from scaling.views.door import page_of, staff_only

CHARTED = 200


@staff_only
@require_GET
def group_list(request: HttpRequest, account: Any) -> HttpResponse:
    groups = list(Group.objects.visible_to(request.user).order_by("name"))
    shown = {
        "rows": [_row(group) for group in groups],
        "decisions": Decision.objects.select_related("group").order_by("-created_at", "-pk")[:20],
        "types": targets.types(),
        "auto_scale": settings.AUTO_SCALE,
    }
    return render(request, "scaling/_groups.html" if request.wants_partial else "scaling/group_list.html", shown)


def _row(group: Group) -> dict[str, Any]:
    return {"group": group, "size": _size(group), "target": targets.named(group.target_type, group.target_id)}


def _size(group: Group) -> int | None:
    """How many there are now; None when the target is gone."""
    try:
        return targets.find(group.target_type).current(group.target_id)
    except targets.UnknownTarget:
        return None


@staff_only
@require_GET
def group_detail(request: HttpRequest, account: Any, pk: UUID) -> HttpResponse:
    group = get_object_or_404(Group.objects.visible_to(request.user), pk=pk)
    decisions = Decision.objects.filter(group=group).order_by("-created_at", "-pk")
    shown = _row(group) | {
        "policy": autoscaler.policy_of(group),
        "page": page_of(request, decisions),
        "chart": _chart(group, list(decisions[:CHARTED])),
        "auto_scale": settings.AUTO_SCALE,
    }
    return render(request, "scaling/_group_now.html" if request.wants_partial else "scaling/group_detail.html", shown)


def _chart(group: Group, newest_first: list[Decision]) -> dict[str, Any] | None:
    # While the target was gone there was no size to draw.
    decisions = [each for each in newest_first[::-1] if each.limited_by != "target" or each.current]
    if len(decisions) < 2:
        return None
    return {
        "id": f"sizes-{group.pk}",
        "title": "Size and what was recommended",
        "x": [round(each.created_at.timestamp(), 1) for each in decisions],
        "series": [
            {"label": "Size", "values": [each.applied for each in decisions], "step": True, "fill": True},
            {"label": "Recommended", "values": [each.recommended for each in decisions], "step": True, "dash": True},
        ],
    }


@staff_only
@require_GET
def decision_list(request: HttpRequest, account: Any) -> HttpResponse:
    """Every decision of every group."""
    asked = request.GET.get("action", "")
    decisions = Decision.objects.select_related("group").order_by("-created_at", "-pk")
    decisions = decisions.filter(action=asked) if asked in set(Action) else decisions
    shown = {"page": page_of(request, decisions), "action": asked, "actions": list(Action)}
    template = "scaling/_decision_table.html" if request.wants_partial else "scaling/decision_list.html"
    return render(request, template, shown)


@staff_only
@require_http_methods(["GET", "POST"])
def group_new(request: HttpRequest, account: Any) -> HttpResponse:
    form = GroupForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        target_type, target_id = form.chosen_target()
        try:
            group = autoscaler.create(
                name=form.cleaned_data["name"],
                target_type=target_type,
                target_id=target_id,
                wanted=form.policy(),
                now=timezone.now(),
            )
        except (autoscaler.GroupExists, targets.UnknownTarget) as refused:
            form.add_error("target", str(refused))
        else:
            messages.success(request, f"{group.name} is watched from now on.")
            return redirect("scaling:group", account, group.pk)
    shown = {"form": form, "types": targets.types()}
    return render(request, "scaling/group_form.html", shown, status=422 if form.errors else 200)


@staff_only
@require_http_methods(["GET", "POST"])
def group_edit(request: HttpRequest, account: Any, pk: UUID) -> HttpResponse:
    group = get_object_or_404(Group.objects.editable_by(request.user), pk=pk)
    form = GroupForm(request.POST or None, instance=Group.objects.get(pk=pk))
    if request.method == "POST" and form.is_valid():
        try:
            autoscaler.change(
                group=group,
                name=form.cleaned_data["name"],
                wanted=form.policy(),
                version=form.cleaned_data.get("version"),
            )
        except (autoscaler.Changed, autoscaler.GroupExists) as refused:
            form.add_error(None, str(refused))
        else:
            messages.success(request, "The policy is changed.")
            return redirect("scaling:group", account, group.pk)
    shown = {"form": form, "group": group, "types": targets.types()}
    return render(request, "scaling/group_form.html", shown, status=422 if form.errors else 200)


@staff_only
@require_POST
def group_pause(request: HttpRequest, account: Any, pk: UUID) -> HttpResponse:
    autoscaler.pause(group=get_object_or_404(Group.objects.editable_by(request.user), pk=pk))
    messages.success(request, "The group is paused: decisions are recorded, none is applied.")
    return redirect("scaling:group", account, pk)


@staff_only
@require_POST
def group_resume(request: HttpRequest, account: Any, pk: UUID) -> HttpResponse:
    autoscaler.resume(group=get_object_or_404(Group.objects.editable_by(request.user), pk=pk))
    messages.success(request, "The group scales again.")
    return redirect("scaling:group", account, pk)


@staff_only
@require_POST
def group_remove(request: HttpRequest, account: Any, pk: UUID) -> HttpResponse:
    group = get_object_or_404(Group.objects.editable_by(request.user), pk=pk)
    autoscaler.remove(group=group)
    messages.success(request, f"{group.name} is removed; its target keeps the size it has.")
    return redirect("scaling:groups", account)


@staff_only
@require_POST
def group_evaluate(request: HttpRequest, account: Any, pk: UUID) -> HttpResponse:
    """Decide now; a dry run only says what would happen."""
    group = get_object_or_404(Group.objects.editable_by(request.user), pk=pk)
    dry_run = request.POST.get("dry_run") == "true"
    decision = autoscaler.evaluate(group_id=group.pk, by=str(request.user), now=timezone.now(), dry_run=dry_run)
    shown = {"decision": decision, "group": group, "dry_run": dry_run}
    if request.wants_partial:
        return render(request, "scaling/_verdict.html", shown)
    return render(request, "scaling/verdict.html", shown)
