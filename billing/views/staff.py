"""Staff's pages: every account's credits, and giving some with a reason."""

from __future__ import annotations

from datetime import timedelta
from zoneinfo import ZoneInfo

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_safe
from uuid_utils.compat import uuid7

from billing import amounts, ledger, periods, roles, verify
from billing.models import Account
from billing.money_forms import AdjustForm
from billing.views import paging


@require_safe
def accounts(request: HttpRequest, account: Account) -> HttpResponse:
    """Every account with what it has; and whether the books are right."""
    roles.require_staff(request.user)
    asked = request.GET.get("q", "").strip()
    rows = Account.objects.select_related("wallet").order_by("name", "pk")
    if asked:
        rows = rows.filter(name__icontains=asked)
    context = {"page": paging.page(request, rows), "q": asked}
    template = "billing/_staff_accounts.html" if request.wants_partial else "billing/staff_accounts.html"
    return render(request, template, context)


@require_safe
def books(request: HttpRequest, account: Account) -> HttpResponse:
    """Every invariant of the ledger, checked now."""
    roles.require_staff(request.user)
    checks = verify.checks()
    return render(request, "billing/books.html", {"checks": checks, "ok": all(check.ok for check in checks)})


@require_http_methods(["GET", "HEAD", "POST"])
def adjust(request: HttpRequest, account: Account) -> HttpResponse:
    """Give the account credits; who did, when and why stays in the ledger."""
    roles.require_staff(request.user)
    form = AdjustForm(request.POST or None, initial={"key": uuid7(), "category": "adjust"})
    if request.method == "POST" and form.is_valid():
        _give(request, account, form)
        return redirect("billing:credits", account)
    context = {"form": form, "balance": ledger.balance(account_id=account.pk, now=timezone.now())}
    return render(request, "billing/adjust.html", context, status=422 if form.errors else 200)


def _give(request: HttpRequest, account: Account, form: AdjustForm) -> None:
    given = form.cleaned_data
    last_day = given["expires_on"]
    zone = ZoneInfo(account.time_zone)
    ledger.grant(
        account_id=account.pk,
        amount_ucr=given["credits"],
        category=given["category"],
        key=str(given["key"]),
        source="staff",
        now=timezone.now(),
        expires_at=periods.midnight(last_day + timedelta(days=1), zone) if last_day else None,
        reason=given["reason"],
        actor=f"user:{request.user.pk}",
    )
    messages.success(request, f"{account} has {amounts.plain(given['credits'])} more credits.")
