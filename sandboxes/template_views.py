"""Pages of templates: what there is, making one, watching it being built."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.http import require_POST, require_safe

from billing.models import Account
from sandboxes import engine, programs, templates
from sandboxes.forms import TemplateForm
from sandboxes.models import Template
from sandboxes.views import editors_only

REFUSALS = {engine.EngineUnavailable: 503, templates.TooMany: 429}


@require_safe
def template_list(request: HttpRequest, account: Account) -> HttpResponse:
    rows = Template.objects.usable_by(account).select_related("build").with_users(account)
    shown = {"templates": rows.order_by("created_at", "pk")}
    partial = request.wants_partial
    return render(request, f"sandboxes/{'_template_table' if partial else 'template_list'}.html", shown)


@editors_only
def template_new(request: HttpRequest, account: Account) -> HttpResponse:
    form = TemplateForm(request.POST or None)
    status = 200
    if request.method == "POST":
        created, status = _create(request, account, form)
        if created is not None:
            return redirect("sandboxes:template", account, created.pk)
    return render(request, "sandboxes/template_new.html", {"form": form}, status=status)


def _create(request: HttpRequest, account: Account, form: TemplateForm) -> tuple[Template | None, int]:
    """The template, or None with the form telling why and the status that says it."""
    if not form.is_valid():
        return None, 422
    try:
        asked = form.request()
        return templates.create_template(account=account, by=request.user, now=timezone.now(), **asked), 302
    except programs.Refused as refused:
        form.take(refused)
    except templates.NameTaken as taken:
        form.add_error("name", str(taken))
    except tuple(REFUSALS) as refused:
        form.add_error(None, str(refused))
        return None, REFUSALS[type(refused)]
    return None, 422


@require_safe
def template_detail(request: HttpRequest, account: Account, pk: UUID) -> HttpResponse:
    rows = Template.objects.visible_to(request.user).usable_by(account).select_related("build").with_users(account)
    template = get_object_or_404(rows, pk=pk)
    shown = {"template": template, "pools": template.pools.filter(account=account).order_by("name")}
    name = "_template_body" if request.wants_partial else "template_detail"
    return render(request, f"sandboxes/{name}.html", shown)


@require_POST
@editors_only
def template_delete(request: HttpRequest, account: Account, pk: UUID) -> HttpResponse:
    template = _own(request, account, pk)
    try:
        templates.delete_template(template=template, by=request.user)
    except templates.TemplateInUse as refused:
        messages.error(request, str(refused))
        return redirect("sandboxes:template", account, pk)
    messages.success(request, f"Deleted the template {template.name}.")
    return redirect("sandboxes:templates", account)


@require_POST
@editors_only
def template_rebuild(request: HttpRequest, account: Account, pk: UUID) -> HttpResponse:
    template = _own(request, account, pk)
    try:
        templates.rebuild(template=template, by=request.user, now=timezone.now())
        messages.success(request, f"{template.name} is being built again.")
    except (templates.NotFailed, engine.EngineUnavailable) as refused:
        messages.error(request, str(refused))
    return redirect("sandboxes:template", account, pk)


def _own(request: HttpRequest, account: Account, pk: UUID) -> Any:
    return get_object_or_404(Template.objects.editable_by(request.user).filter(account=account), pk=pk)
