"""Budgets, alerts, and the warning of low credits."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_POST

from billing import alerts, amounts, pricing, roles
from billing import budgets as operations
from billing.budget_forms import BudgetChangeForm, BudgetForm, LowBalanceForm
from billing.models import Account, Alert, ApiKey, Budget

ALERTS_SHOWN = 20


@require_http_methods(["GET", "HEAD", "POST"])
def budgets(request: HttpRequest, account: Account) -> HttpResponse:
    """The list, how each stands, what was told; and making one."""
    form = BudgetForm(request.POST or None, account=account)
    if request.method == "POST":
        roles.require_payer(request.user, account)
        if form.is_valid() and _create(request, account, form):
            return redirect("billing:budgets", account)
    template = "_budgets" if request.wants_partial else "budgets"
    context = _context(request, account) | {"form": form}
    return render(request, f"billing/{template}.html", context, status=422 if form.errors else 200)


def _context(request: HttpRequest, account: Account) -> dict[str, Any]:
    rows = list(Budget.objects.filter(account=account).order_by("created_at", "pk"))
    low = alerts.low_balance_of(account)
    named = {meter: price.name for meter, price in pricing.DEFAULT_BOOK.items()}
    named |= {str(key.pk): key.name for key in ApiKey.objects.filter(account=account)}
    for row in rows:
        row.name = named.get(row.target, row.target)
    told = Alert.objects.filter(account=account).select_related("budget").order_by("-created_at", "-pk")
    return {
        "standings": operations.standings(account, rows, now=timezone.now()),
        "alerts": told[:ALERTS_SHOWN],
        "may_pay": roles.may_pay(request.user, account),
        "low_ucr": low,
        "low_form": LowBalanceForm(initial={"threshold": amounts.plain(low) if low else ""}),
    }


def _create(request: HttpRequest, account: Account, form: BudgetForm) -> bool:
    try:
        operations.create(account=account, now=timezone.now(), **form.said())
    except operations.BadBudget as refused:
        form.add_error("thresholds" if refused.field == "thresholds" else "agent", str(refused))
    except (operations.BudgetExists, operations.TooManyBudgets) as refused:
        form.add_error(None, str(refused))
    else:
        messages.success(request, "The budget counts from now on.")
    return not form.errors


@require_http_methods(["GET", "HEAD", "POST"])
def budget(request: HttpRequest, account: Account, pk: UUID) -> HttpResponse:
    """Change one."""
    roles.require_payer(request.user, account)
    found = _budget(account, pk)
    now = {"limit": amounts.plain(found.limit_ucr), "action": found.action}
    now["thresholds"] = ", ".join(map(str, found.thresholds))
    form = BudgetChangeForm(request.POST or None, initial=now)
    if request.method == "POST" and form.is_valid() and _change(found, form):
        messages.success(request, "The budget is saved.")
        return redirect("billing:budgets", account)
    return render(request, "billing/budget.html", {"form": form, "budget": found}, status=422 if form.errors else 200)


def _change(found: Budget, form: BudgetChangeForm) -> bool:
    given = form.cleaned_data
    said = {"limit_ucr": given["limit"], "action": given["action"], "thresholds": given["thresholds"]}
    try:
        operations.change(budget=found, **said)
    except operations.BadBudget as refused:
        form.add_error("thresholds", str(refused))
    except operations.BudgetExists as refused:
        form.add_error(None, str(refused))
    return not form.errors


@require_POST
def remove(request: HttpRequest, account: Account, pk: UUID) -> HttpResponse:
    roles.require_payer(request.user, account)
    operations.remove(budget=_budget(account, pk))
    messages.success(request, "The budget is removed; nothing is refused for it any more.")
    return redirect("billing:budgets", account)


@require_POST
def low_balance(request: HttpRequest, account: Account) -> HttpResponse:
    """Below how many credits to warn."""
    roles.require_payer(request.user, account)
    form = LowBalanceForm(request.POST)
    if not form.is_valid():
        messages.error(request, " ".join(form.errors["threshold"]))
        return redirect("billing:budgets", account)
    threshold = form.cleaned_data["threshold"]
    alerts.watch_balance(account=account, threshold_ucr=threshold)
    said = f"The owners are warned below {amounts.plain(threshold)} credits." if threshold else "Nobody is warned."
    messages.success(request, said)
    return redirect("billing:budgets", account)


def _budget(account: Account, pk: UUID) -> Budget:
    found: Budget = get_object_or_404(Budget.objects.filter(account=account), pk=pk)
    return found
