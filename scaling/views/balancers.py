"""Pages of balancers: who gets what share, how fast, how often in error."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from scaling import picks
from scaling.forms import BalancerForm
from scaling.models import Balancer
from scaling.views.door import staff_only


@staff_only
@require_GET
def balancer_list(request: HttpRequest, account: Any) -> HttpResponse:
    now = timezone.now()
    rows = [
        {"balancer": balancer, "shares": picks.shares(balancer=balancer, now=now)}
        for balancer in Balancer.objects.visible_to(request.user).order_by("name")
    ]
    template = "scaling/_balancers.html" if request.wants_partial else "scaling/balancer_list.html"
    return render(request, template, {"rows": rows})


@staff_only
@require_http_methods(["GET", "POST"])
def balancer_new(request: HttpRequest, account: Any) -> HttpResponse:
    form = BalancerForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        made = picks.create(**form.cleaned_data, now=timezone.now())
        messages.success(request, f"{made.name} spreads by {made.strategy.replace('_', ' ')}.")
        return redirect("scaling:balancers", account)
    return render(request, "scaling/balancer_form.html", {"form": form}, status=422 if form.errors else 200)


@staff_only
@require_POST
def balancer_remove(request: HttpRequest, account: Any, pk: UUID) -> HttpResponse:
    balancer = get_object_or_404(Balancer.objects.editable_by(request.user), pk=pk)
    picks.remove(balancer=balancer)
    messages.success(request, f"{balancer.name} is removed.")
    return redirect("scaling:balancers", account)
