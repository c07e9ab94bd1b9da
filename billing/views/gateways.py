"""Staff's view of the gateways: payments whose outcome is open, and the webhooks that came."""

from __future__ import annotations

import json
from uuid import UUID

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.http import require_POST, require_safe

from billing import gateway_webhooks, payments, roles
from billing.gateways import registry
from billing.models import Account, GatewayWebhook, Payment, Refund
from billing.models.payments import LIVE, REFUND_LIVE
from billing.views import paging


@require_safe
def gateways(request: HttpRequest, account: Account) -> HttpResponse:
    """Of every account: what is not known yet, and what came lately."""
    roles.require_staff(request.user)
    state = request.GET.get("state", "")
    rows = GatewayWebhook.objects.select_related("payment__account").order_by("-received_at", "-pk")
    if state in GatewayWebhook.State.values:
        rows = rows.filter(state=state)
    open_ones = Payment.objects.filter(state__in=LIVE).select_related("account")
    open_refunds = Refund.objects.filter(state__in=REFUND_LIVE).select_related("payment__account")
    context = {
        "gateways": registry.names(),
        # They tell us, and nobody can be asked.
        "told": registry.TOLD,
        "open_payments": open_ones.order_by("created_at", "pk")[:100],
        "open_refunds": open_refunds.order_by("created_at", "pk")[:100],
        "page": paging.page(request, rows),
        "state": state,
        "states": GatewayWebhook.State.choices,
    }
    template = "billing/_webhooks.html" if request.wants_partial else "billing/gateways.html"
    return render(request, template, context)


@require_POST
def ask(request: HttpRequest, account: Account, pk: UUID) -> HttpResponse:
    """Ask a gateway about a payment of any account."""
    roles.require_staff(request.user)
    found = get_object_or_404(Payment.objects.select_related("account", "invoice"), pk=pk)
    asked = payments.ask(payment=found, now=timezone.now())
    messages.info(request, f"The gateway was asked: the payment is {asked.state.replace('_', ' ')}.")
    return redirect("billing:gateways", account)


@require_safe
def webhook(request: HttpRequest, account: Account, pk: UUID) -> HttpResponse:
    """One webhook as it came."""
    roles.require_staff(request.user)
    found = get_object_or_404(GatewayWebhook.objects.select_related("payment__account"), pk=pk)
    return render(request, "billing/webhook.html", {"webhook": found, "body": _readable(bytes(found.body))})


def _readable(body: bytes) -> str:
    """JSON on lines of its own; anything else as it came."""
    try:
        return json.dumps(json.loads(body), indent=2, ensure_ascii=False)
    except (ValueError, RecursionError):
        return body.decode(errors="replace")


@require_POST
def webhook_retry(request: HttpRequest, account: Account, pk: UUID) -> HttpResponse:
    roles.require_staff(request.user)
    found = get_object_or_404(GatewayWebhook.objects.filter(state__in=["received", "failed"]), pk=pk)
    gateway_webhooks.retry(webhook=found, now=timezone.now())
    found.refresh_from_db()
    messages.info(request, f"It was tried again, and is {found.state}.")
    return redirect("billing:webhook", account, pk)
