"""Staff's pages: every account's credits, giving and taking some back with a reason, and an account's terms."""

from __future__ import annotations

import logging
from datetime import timedelta
from uuid import UUID
from zoneinfo import ZoneInfo

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_POST, require_safe
from uuid_utils.compat import uuid7

from billing import amounts, corrections, details, ledger, periods, roles, verify
from billing.models import Account, Transaction
from billing.money_forms import AdjustForm
from billing.staff_forms import ReverseForm, TermsForm
from billing.views import paging

log = logging.getLogger(__name__)


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


@require_http_methods(["GET", "HEAD", "POST"])
def terms(request: HttpRequest, account: Account) -> HttpResponse:
    """Status, overdraft and tax of the account."""
    roles.require_staff(request.user)
    balance = ledger.balance(account_id=account.pk, now=timezone.now())
    current = Account.objects.get(pk=account.pk)
    form = TermsForm(request.POST or None, initial=TermsForm.of(current, overdraft_ucr=balance.overdraft_ucr))
    if request.method == "POST" and form.is_valid() and _set_terms(request, account, form):
        return redirect("billing:account", account)
    context = {"form": form, "balance": balance}
    return render(request, "billing/terms.html", context, status=422 if form.errors else 200)


def _set_terms(request: HttpRequest, account: Account, form: TermsForm) -> bool:
    changes, version = form.changes(), form.cleaned_data["version"]
    try:
        details.change(account=account, changes=changes, is_staff=True, version=version, now=timezone.now())
    except details.BadDetail as wrong:
        named = {"tax_rate": "tax_percent", "tax_id": "reverse_charge"}
        form.add_error(named.get(wrong.field, wrong.field), str(wrong))
        return False
    except (details.StaleVersion, details.AccountClosed, ledger.AmountOutOfRange) as refused:
        form.add_error(None, str(refused))
        return False
    log.info("user %s changed the terms of account %s to %s", request.user.pk, account.pk, changes)
    messages.success(request, f"The terms of {account} are changed.")
    return True


@require_POST
def reverse(request: HttpRequest, account: Account, pk: UUID) -> HttpResponse:
    """Take a transaction back by an opposite one; who did, when and why stays in the ledger."""
    roles.require_staff(request.user)
    found = get_object_or_404(Transaction.objects.filter(account=account), pk=pk)
    form = ReverseForm(request.POST)
    if not form.is_valid():
        messages.error(request, "Say why it is taken back.")
        return redirect("billing:transaction", account, pk)
    said = {"reason": form.cleaned_data["reason"], "actor": f"user:{request.user.pk}", "now": timezone.now()}
    corrections.take_back(found, key=str(form.cleaned_data["key"]), **said)
    messages.success(request, "It is taken back.")
    return redirect("billing:transaction", account, pk)
