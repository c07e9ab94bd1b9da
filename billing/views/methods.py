"""What an account pays with, and the automatic top-up."""

from __future__ import annotations

from contextlib import suppress
from uuid import UUID

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_POST, require_safe
from uuid_utils.compat import uuid7

from billing import amounts, auto_top_ups, card_setups, roles
from billing import methods as operations
from billing.gateways import AnswerLost, registry
from billing.models import Account, CardSetup, PaymentMethod
from billing.payment_forms import AutoTopUpForm, MethodForm, SubmitForm


@require_http_methods(["GET", "HEAD", "POST"])
def methods(request: HttpRequest, account: Account) -> HttpResponse:
    """The list, and keeping one."""
    form = MethodForm(request.POST or None)
    if request.method == "POST":
        roles.require_payer(request.user, account)
        if form.is_valid() and _add(request, account, form):
            return redirect("billing:payment-methods", account)
    now = timezone.now()
    kept = operations.kept(account)
    for each in kept:
        each.is_over = each.has_expired(now)
    context = {
        "form": form if form.has_gateways else None,
        "card": SubmitForm(initial={"key": uuid7()}) if card_setups.is_offered() else None,
        "methods": kept,
        "auto": auto_top_ups.of(account),
        "may_pay": roles.may_pay(request.user, account),
        "now": now,
    }
    return render(request, "billing/payment_methods.html", context, status=422 if form.errors else 200)


def _add(request: HttpRequest, account: Account, form: MethodForm) -> bool:
    try:
        made = operations.add(account=account, now=timezone.now(), **form.cleaned_data)
    except (operations.BadToken, operations.TooManyMethods) as refused:
        form.add_error("token", str(refused))
        return False
    messages.success(request, f"{made.label} is kept.")
    return True


@require_POST
def card_add(request: HttpRequest, account: Account) -> HttpResponse:
    """Ask Stripe for a page to give a card on."""
    roles.require_payer(request.user, account)
    submit = SubmitForm(request.POST)
    if not submit.is_valid():
        return redirect("billing:payment-methods", account)
    try:
        key = f"page:{submit.cleaned_data['key']}"
        actor = f"user:{request.user.pk}"
        made = card_setups.open_setup(account=account, key=key, now=timezone.now(), actor=actor)
    except operations.TooManyMethods as full:
        messages.error(request, str(full))
        return redirect("billing:payment-methods", account)
    return redirect("billing:card-setup", account, made.pk)


@require_safe
def card_setup(request: HttpRequest, account: Account, pk: UUID) -> HttpResponse:
    """Where the customer is sent to Stripe's page from, and what became of it."""
    roles.require_payer(request.user, account)
    return render(request, "billing/card_setup.html", {"setup": _setup(account, pk)})


@require_safe
def card_returned(request: HttpRequest, account: Account, pk: UUID) -> HttpResponse:
    """Where Stripe's page sends the customer back to: it is asked at once what became of it."""
    roles.require_payer(request.user, account)
    found = _setup(account, pk)
    with suppress(AnswerLost, registry.UnknownGateway):
        found = card_setups.ask(setup=found, now=timezone.now())
    if found.method is None:
        return redirect("billing:card-setup", account, pk)
    messages.success(request, f"{found.method.label} is kept.")
    return redirect("billing:payment-methods", account)


def _setup(account: Account, pk: UUID) -> CardSetup:
    rows = CardSetup.objects.filter(account=account).select_related("account", "method")
    found: CardSetup = get_object_or_404(rows, pk=pk)
    return found


@require_POST
def method_default(request: HttpRequest, account: Account, pk: UUID) -> HttpResponse:
    roles.require_payer(request.user, account)
    changed = operations.change(method=_method(account, pk), is_default=True)
    messages.success(request, f"{changed.label} is used where no other is named.")
    return redirect("billing:payment-methods", account)


@require_POST
def method_remove(request: HttpRequest, account: Account, pk: UUID) -> HttpResponse:
    roles.require_payer(request.user, account)
    method = _method(account, pk)
    operations.remove(method=method, now=timezone.now())
    messages.success(request, f"{method.label} is removed.")
    return redirect("billing:payment-methods", account)


def _method(account: Account, pk: UUID) -> PaymentMethod:
    rows = PaymentMethod.objects.filter(account=account, removed_at=None)
    found: PaymentMethod = get_object_or_404(rows, pk=pk)
    return found


@require_http_methods(["GET", "HEAD", "POST"])
def auto_top_up(request: HttpRequest, account: Account) -> HttpResponse:
    """When to buy credits by itself, how many, and with what."""
    roles.require_payer(request.user, account)
    current = auto_top_ups.of(account)
    form = AutoTopUpForm(request.POST or None, account=account, initial=_initial(current))
    if request.method == "POST" and form.is_valid():
        given = form.cleaned_data
        auto_top_ups.set_up(
            account=account,
            threshold_ucr=given["threshold"],
            credits_ucr=given["credits"],
            method=_method(account, UUID(given["method"])),
            now=timezone.now(),
        )
        messages.success(request, "Credits are bought by themselves from now on.")
        return redirect("billing:payment-methods", account)
    context = {"form": form, "auto": current, "now": timezone.now()}
    return render(request, "billing/auto_top_up.html", context, status=422 if form.errors else 200)


def _initial(current: object) -> dict[str, object]:
    if current is None:
        return {"threshold": "100", "credits": "1000"}
    return {
        "threshold": amounts.plain(current.threshold_ucr),
        "credits": amounts.plain(current.credits_ucr),
        "method": str(current.method_id),
    }


@require_POST
def auto_top_up_end(request: HttpRequest, account: Account) -> HttpResponse:
    roles.require_payer(request.user, account)
    auto_top_ups.end(account=account)
    messages.success(request, "Nothing is bought by itself any more.")
    return redirect("billing:payment-methods", account)
