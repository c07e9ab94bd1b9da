"""USDC to send back: what to send where, and with which transaction it was."""

from __future__ import annotations

from uuid import UUID

from django.conf import settings
from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_POST

from billing import amounts, coin_refunds, roles
from billing.chains import keccak, simulated
from billing.coin_forms import GiveUpForm, SentForm
from billing.gateways import registry
from billing.models import Account, CoinRefund


@require_http_methods(["GET", "HEAD", "POST"])
def coin_refund(request: HttpRequest, account: Account, pk: UUID) -> HttpResponse:
    """What is to be sent; a POST says that it was."""
    roles.require_staff(request.user)
    back = _found(pk)
    form = SentForm(request.POST or None)
    if request.method == "POST" and form.is_valid() and _note(request, back, form):
        return redirect("billing:coin-refund", account, pk)
    return _shown(request, back, sent_form=form)


def _note(request: HttpRequest, back: CoinRefund, form: SentForm) -> bool:
    try:
        coin_refunds.mark_sent(
            refund_id=back.pk,
            tx_hash=form.cleaned_data["transaction"],
            recipient=form.cleaned_data["address"],
            chain=registry.chain(),
            actor=_actor(request),
            now=timezone.now(),
        )
    except coin_refunds.BadTransfer as wrong:
        form.add_error(wrong.field, str(wrong))
        return False
    messages.success(request, "It is noted as sent. It is confirmed when the chain has it.")
    return True


@require_POST
def coin_refund_fail(request: HttpRequest, account: Account, pk: UUID) -> HttpResponse:
    """It cannot be sent."""
    roles.require_staff(request.user)
    back = _found(pk)
    form = GiveUpForm(request.POST, prefix="up")
    if not form.is_valid():
        return _shown(request, back, up_form=form)
    said = {"chain": registry.chain(), "actor": _actor(request), "now": timezone.now()}
    coin_refunds.fail(refund_id=pk, reason=form.cleaned_data["reason"], **said)
    messages.success(request, "It is given up, and the credits are given back.")
    return redirect("billing:coin-refund", account, pk)


@require_POST
def coin_refund_send(request: HttpRequest, account: Account, pk: UUID) -> HttpResponse:
    """What the operator's wallet would do, on the chain that is played here."""
    roles.require_staff(request.user)
    back = _found(pk)
    if not settings.SIMULATED_CHAIN or back.state != CoinRefund.State.PENDING:
        raise Http404("There is nothing to send.")
    now = timezone.now()
    sent = simulated.send(recipient=back.recipient, units=back.units, sender=simulated.SHOP, now=now)
    said = {"chain": registry.chain(), "actor": _actor(request), "now": now}
    coin_refunds.mark_sent(refund_id=pk, tx_hash=sent.tx_hash, **said)
    messages.success(request, "The simulated wallet has sent it.")
    return redirect("billing:coin-refund", account, pk)


def _found(pk: UUID) -> CoinRefund:
    found: CoinRefund = get_object_or_404(CoinRefund, pk=pk)
    return found


def _shown(request: HttpRequest, back: CoinRefund, **forms: object) -> HttpResponse:
    context = {
        "back": back,
        "payment": coin_refunds.payment_of(back),
        "address": keccak.checksummed(back.recipient),
        "amount": amounts.usdc_text(back.units),
        "is_due": back.state in (CoinRefund.State.PENDING, CoinRefund.State.SENT),
        "plays_chain": settings.SIMULATED_CHAIN,
        "sent_form": SentForm(),
        "up_form": GiveUpForm(prefix="up"),
        **forms,
    }
    is_wrong = any(getattr(form, "errors", None) for form in forms.values())
    return render(request, "billing/coin_refund.html", context, status=422 if is_wrong else 200)


def _actor(request: HttpRequest) -> str:
    return f"user:{request.user.pk}"
