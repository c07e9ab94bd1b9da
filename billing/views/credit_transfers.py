"""Moving credits of an account to another one that its owner owns too; for staff, to any."""

from __future__ import annotations

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_http_methods
from uuid_utils.compat import uuid7

from billing import amounts, corrections, ledger, roles
from billing.models import Account
from billing.money_forms import MoveForm

REFUSALS = (corrections.UnknownReceiver, ledger.AmountOutOfRange, *ledger.CANNOT_SPEND)


@require_http_methods(["GET", "HEAD", "POST"])
def credit_transfer(request: HttpRequest, account: Account) -> HttpResponse:
    """How many credits, to which account, and why."""
    if not corrections.owned(request.user).filter(pk=account.pk).exists():
        raise roles.OwnerRequired
    receivers = corrections.receivers(request.user, account)
    form = MoveForm(request.POST or None, receivers=receivers, initial={"key": uuid7()}, is_staff=request.user.is_staff)
    if request.method == "POST" and form.is_valid() and _move(request, account, form):
        return redirect("billing:credits", account)
    balance = ledger.balance(account_id=account.pk, now=timezone.now())
    context = {
        "form": form,
        "has_receivers": receivers.exists(),
        "balance": balance,
        "movable_ucr": ledger.movable_ucr(account.wallet),
    }
    return render(request, "billing/credit_transfer.html", context, status=422 if form.errors else 200)


def _move(request: HttpRequest, account: Account, form: MoveForm) -> bool:
    given = form.cleaned_data
    try:
        corrections.move(
            account=account,
            to=given["to"].pk,
            amount_ucr=given["credits"],
            reason=given["reason"],
            key=str(given["key"]),
            now=timezone.now(),
            by=request.user,
            actor=f"user:{request.user.pk}",
        )
    except REFUSALS as refused:
        field = "to" if isinstance(refused, corrections.UnknownReceiver) else "credits"
        form.add_error(field, str(refused))
        return False
    messages.success(request, f"{amounts.plain(given['credits'])} credits were moved to {given['to']}.")
    return True
