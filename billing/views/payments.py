"""Payments: the list, one of them with what was said of it, and what can be done about it."""

from __future__ import annotations

from contextlib import suppress
from uuid import UUID

from django.conf import settings
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_POST, require_safe
from uuid_utils.compat import uuid7

from billing import bank_details, methods, refunds, roles
from billing import payments as operations
from billing.ledger import CreditsSpent
from billing.models import Account, CoinRefund, Payment, Refund
from billing.models.payments import STATES
from billing.payment_forms import RefundForm
from billing.payment_states import RefundState, State
from billing.views import paging
from billing.views.coins import to_pay

SIMULATED = "simulated"


@require_safe
def payments(request: HttpRequest, account: Account) -> HttpResponse:
    state = request.GET.get("state", "")
    rows = Payment.objects.filter(account=account).select_related("invoice").order_by("-created_at", "-pk")
    if state in list(State):
        rows = rows.filter(state=state)
    context = {
        "page": paging.page(request, rows),
        "state": state,
        "states": STATES,
        "may_pay": roles.may_pay(request.user, account),
    }
    template = "billing/_payments.html" if request.wants_partial else "billing/payments.html"
    return render(request, template, context)


@require_safe
def payment(request: HttpRequest, account: Account, pk: UUID) -> HttpResponse:
    """The receipt, which keeps itself true while the outcome is open."""
    found = _payment(account, pk)
    template = "billing/_payment.html" if request.wants_partial else "billing/payment.html"
    return render(request, template, _context(request, found))


def _payment(account: Account, pk: UUID) -> Payment:
    rows = Payment.objects.filter(account=account).select_related("invoice", "grant", "account", "method")
    found: Payment = get_object_or_404(rows, pk=pk)
    return found


def _context(request: HttpRequest, found: Payment) -> dict[str, object]:
    may_pay = roles.may_pay(request.user, found.account)
    can_refund = may_pay and found.state == State.SUCCEEDED and found.refundable > 0
    return {
        "payment": found,
        "may_pay": may_pay,
        "can_cancel": may_pay and found.is_open and found.gateway_ref is not None,
        "bank": bank_details.of(found),
        "coins": to_pay(found),
        "plays_chain": settings.SIMULATED_CHAIN,
        "is_simulated": found.gateway == SIMULATED,
        "events": found.events.select_related("refund").order_by("created_at", "pk"),
        "disputes": found.disputes.order_by("created_at", "pk"),
        "can_dispute": request.user.is_staff and found.gateway == SIMULATED and found.refundable > 0,
        "refunds": _refunds(found),
        "refund_form": _refund_form(request, found) if can_refund else None,
    }


def _refunds(found: Payment) -> list[Refund]:
    """With what is known of the coins that went back."""
    made = list(found.refunds.order_by("created_at", "pk"))
    rows = {row.key: row for row in CoinRefund.objects.filter(reference=str(found.pk))}
    for each in made:
        each.coin = rows.get(str(each.pk))
    return made


def _refund_form(request: HttpRequest, found: Payment, given: object = None) -> RefundForm:
    said = {"initial": {"key": uuid7()}, "payment": found, "is_staff": request.user.is_staff}
    return RefundForm(given, **said)


@require_POST
def refund(request: HttpRequest, account: Account, pk: UUID) -> HttpResponse:
    roles.require_payer(request.user, account)
    found = _payment(account, pk)
    form = _refund_form(request, found, request.POST)
    if form.is_valid() and _give_back(request, found, form):
        return redirect("billing:payment", account, pk)
    context = {**_context(request, found), "refund_form": form}
    return render(request, "billing/payment.html", context, status=422)


def _give_back(request: HttpRequest, found: Payment, form: RefundForm) -> bool:
    try:
        made = operations.refund(
            payment=found,
            amount=form.cleaned_data["amount"],
            key=str(form.cleaned_data["key"]),
            now=timezone.now(),
            allow_debt=form.cleaned_data.get("allow_debt", False),
            reason=form.cleaned_data["reason"],
            actor=f"user:{request.user.pk}",
        )
    except (refunds.RefundExceedsPayment, CreditsSpent) as refused:
        form.add_error("amount", str(refused))
        return False
    money = f"{found.money(made.amount)} {found.currency}"
    if made.state == RefundState.SUCCEEDED:
        messages.success(request, f"{money} are on their way back.")
    elif made.state == RefundState.FAILED:
        messages.error(request, f"The gateway refused: {made.failure_message} The credits are given back.")
    elif found.gateway in methods.UNKEPT:
        messages.success(request, f"The operator sends {money} back in USDC. The credits are taken back.")
    else:
        messages.warning(
            request, f"The gateway has not said yet whether {money} went back. It is asked again by itself."
        )
    return True


@require_POST
def cancel(request: HttpRequest, account: Account, pk: UUID) -> HttpResponse:
    roles.require_payer(request.user, account)
    operations.cancel(payment=_payment(account, pk), now=timezone.now())
    messages.success(request, "The payment is given up; nothing was charged.")
    return redirect("billing:payment", account, pk)


@require_POST
def ask(request: HttpRequest, account: Account, pk: UUID) -> HttpResponse:
    """Ask the gateway what became of it, now."""
    roles.require_payer(request.user, account)
    found = operations.ask(payment=_payment(account, pk), now=timezone.now())
    said = f"The gateway was asked: the payment is {found.state.replace('_', ' ')}."
    (messages.info if found.is_open else messages.success)(request, said)
    return redirect("billing:payment", account, pk)


@require_safe
def returned(request: HttpRequest, account: Account, pk: UUID) -> HttpResponse:
    """Where a gateway's own page sends the customer back to: it is asked at once what became of the payment."""
    roles.require_payer(request.user, account)
    found = _payment(account, pk)
    if found.is_open:
        with suppress(operations.NoAnswer):
            operations.ask(payment=found, now=timezone.now())
    return redirect("billing:payment", account, pk)


@require_http_methods(["GET", "HEAD", "POST"])
def bank(request: HttpRequest, account: Account, pk: UUID) -> HttpResponse:
    """What would be a bank's own page, elsewhere: the simulated one asks whether to pay."""
    roles.require_payer(request.user, account)
    found = _payment(account, pk)
    if request.method == "POST":
        answer = operations.confirm if request.POST.get("answer") == "approve" else operations.decline
        answer(payment=found, now=timezone.now())
        return redirect("billing:payment", account, pk)
    if found.state != State.REQUIRES_ACTION or found.gateway != SIMULATED:
        return redirect("billing:payment", account, pk)
    return render(request, "billing/bank.html", {"payment": found})
