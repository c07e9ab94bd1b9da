"""Pages that show all apps."""

from __future__ import annotations

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_safe

from billing.models import Account
from ntd_site import overview as pages

PARTS = ("kpis", "activity", "federations")


@login_required
@require_safe
def home(request: HttpRequest) -> HttpResponse:
    """To the overview of the account used last."""
    mine = Account.objects.visible_to(request.user)
    account = mine.filter(slug=request.session.get("account", "")).first() or mine.order_by("created_at", "pk").first()
    if account is None:
        return render(request, "no_account.html")
    return redirect("overview", account)


@require_safe
def overview(request: HttpRequest, account: Account) -> HttpResponse:
    """The whole page, or (`?part=`) one piece of it that a nudge asked for."""
    part = request.GET.get("part")
    template = f"_overview_{part}.html" if request.wants_partial and part in PARTS else "overview.html"
    return render(request, template, pages.page(account, request.user))
