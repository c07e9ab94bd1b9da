"""Buying credits and paying invoices: what it costs, with what, and the one button that pays."""

from __future__ import annotations

from uuid import UUID

from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.http import require_http_methods
from uuid_utils.compat import uuid7

from billing import intents, ledger, payments, roles
from billing.models import Account, Invoice, Payment
from billing.payment_forms import PayForm, SubmitForm, TopUpForm, choices
from billing.payment_states import State

FIRST_OFFER = "1000"


@require_http_methods(["GET", "HEAD", "POST"])
def top_up(request: HttpRequest, account: Account) -> HttpResponse:
    """How many credits and with what; then what it costs, and the button that pays."""
    roles.require_payer(request.user, account)
    given = request.POST if request.method == "POST" else request.GET
    if "credits" not in given:
        form = TopUpForm(account=account, initial={"credits": FIRST_OFFER})
        return render(request, "billing/top_up.html", _context(account, form))
    form = TopUpForm(given, account=account)
    context = {**_context(account, form), "cost": _cost(account, form)}
    if request.GET.get("part") == "cost":
        return render(request, "billing/_cost.html", context)
    if not form.is_valid():
        return render(request, "billing/top_up.html", context, status=422)
    if request.method != "POST":
        return render(request, "billing/top_up_review.html", context)
    return _buy(request, account, form)


def _context(account: Account, form: TopUpForm) -> dict[str, object]:
    return {
        "form": form,
        "has_methods": bool(choices(account)),
        "balance": ledger.balance(account_id=account.pk, now=timezone.now()),
        "open_ones": _open_payments(account),
        "submit": SubmitForm(initial={"key": uuid7()}),
    }


def _cost(account: Account, form: TopUpForm) -> intents.Price | None:
    """What the credits cost, whatever they are to be paid with."""
    form.full_clean()
    if "credits" not in form.cleaned_data:
        return None
    try:
        return intents.price(account=account, credits_ucr=form.cleaned_data["credits"])
    except intents.TooLittle as wrong:
        form.add_error("credits", str(wrong))
        return None


def _open_payments(account: Account) -> list[Payment]:
    """Those that may still take money, so that nobody pays twice out of impatience."""
    waiting = Payment.objects.filter(account=account, state__in=[State.CREATED, State.UNKNOWN, State.PROCESSING])
    return list(waiting.order_by("-created_at", "-pk")[:5])


def _buy(request: HttpRequest, account: Account, form: TopUpForm) -> HttpResponse:
    submit = SubmitForm(request.POST)
    if not submit.is_valid():
        return redirect("billing:top-up", account)
    made = payments.top_up(
        account=account,
        credits_ucr=form.cleaned_data["credits"],
        method=form.cleaned_data["method"],
        key=str(submit.cleaned_data["key"]),
        now=timezone.now(),
        actor=f"user:{request.user.pk}",
    )
    return redirect("billing:payment", account, made.pk)


@require_http_methods(["GET", "HEAD", "POST"])
def pay_invoice(request: HttpRequest, account: Account, pk: UUID) -> HttpResponse:
    """What is due on an invoice, with what to pay it, and the button that does."""
    roles.require_payer(request.user, account)
    invoice = get_object_or_404(Invoice.objects.filter(account=account).select_related("account"), pk=pk)
    if request.method == "POST":
        form, submit = PayForm(request.POST, account=account), SubmitForm(request.POST)
        if form.is_valid() and submit.is_valid():
            made = payments.pay_invoice(
                invoice=invoice,
                method=form.cleaned_data["method"],
                key=str(submit.cleaned_data["key"]),
                now=timezone.now(),
                actor=f"user:{request.user.pk}",
            )
            return redirect("billing:payment", account, made.pk)
    elif invoice.state not in (Invoice.State.OPEN, Invoice.State.UNCOLLECTIBLE):
        return redirect("billing:invoice", account, invoice.pk)
    else:
        form = PayForm(account=account)
    context = {
        "invoice": invoice,
        "form": form,
        "has_methods": bool(choices(account)),
        "submit": SubmitForm(initial={"key": uuid7()}),
    }
    return render(request, "billing/invoice_pay.html", context, status=422 if form.errors else 200)
