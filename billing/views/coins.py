"""Payments in USDC: where to send it, and staff's list of transfers that nobody asked for so."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

import segno
from django.conf import settings
from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.utils.safestring import SafeString, mark_safe
from django.views.decorators.http import require_POST, require_safe

from billing import amounts, coin_refunds, coins, roles
from billing.chains import keccak, simulated
from billing.models import Account, CoinQuote, CoinRefund, CoinTransfer, Payment
from billing.payment_states import State
from billing.views import paging


@dataclass(frozen=True)
class ToPay:
    """What a customer has to send where, and what came. Amounts are USDC as people write them."""

    quote: CoinQuote
    address: str
    amount: str
    missing: str
    transfers: list[CoinTransfer]
    qr: SafeString


def to_pay(payment: Payment) -> ToPay | None:
    """None for a payment that has no address."""
    quote = coins.quote_of(payment)
    if quote is None:
        return None
    transfers = list(quote.transfers.exclude(state=CoinTransfer.State.ORPHANED).order_by("block", "log_index"))
    came = sum(each.units for each in transfers)
    address = keccak.checksummed(quote.address)
    missing = max(0, quote.units - came)
    qr = _qr(_link(quote, missing)) if missing else SafeString("")
    return ToPay(quote, address, amounts.usdc_text(quote.units), amounts.usdc_text(missing), transfers, qr)


def _link(quote: CoinQuote, units: int) -> str:
    """What wallets read from a QR code (EIP-681): a transfer of the token."""
    token, chain_id = keccak.checksummed(quote.token), quote.network.removeprefix("eip155:")
    return f"ethereum:{token}@{chain_id}/transfer?address={keccak.checksummed(quote.address)}&uint256={units}"


def _qr(text: str) -> SafeString:
    """Dark on light whatever the theme, since that is what cameras read."""
    made = segno.make(text, error="m").svg_inline(scale=4, border=3, dark="#000", light="#fff", omitsize=True)
    return mark_safe(made)  # noqa: S308 - made here, of digits and addresses


@require_POST
def send_simulated(request: HttpRequest, account: Account, pk: UUID) -> HttpResponse:
    """What a customer's wallet would do, on the chain that is played here."""
    roles.require_payer(request.user, account)
    payment = get_object_or_404(Payment.objects.filter(account=account), pk=pk)
    found = to_pay(payment)
    if found is None or not settings.SIMULATED_CHAIN or payment.state == State.SUCCEEDED:
        raise Http404("There is nothing to send.")
    came = sum(each.units for each in found.transfers)
    units = max(0, found.quote.units - came) or found.quote.units
    simulated.send(recipient=found.quote.address, units=units, now=timezone.now())
    messages.success(request, "The simulated wallet has sent it. It counts when enough blocks lie on it.")
    return redirect("billing:payment", account, pk)


@require_safe
def transfers(request: HttpRequest, account: Account) -> HttpResponse:
    """Of every account: what came in USDC and is no part of a payment, oldest first."""
    roles.require_staff(request.user)
    page = paging.page(request, coins.queue())
    rows = [
        (each, coins.payment_of(each), amounts.usdc_text(each.surplus_units or each.units)) for each in page.results
    ]
    back = [(each, coin_refunds.payment_of(each), amounts.usdc_text(each.units)) for each in _to_send()]
    return render(request, "billing/transfers.html", {"page": page, "rows": rows, "back": back})


def _to_send() -> list[CoinRefund]:
    return list(coin_refunds.waiting()[:100])


@require_POST
def transfer_resolve(request: HttpRequest, account: Account, pk: UUID) -> HttpResponse:
    """Credit what came, or leave it be."""
    roles.require_staff(request.user)
    found = get_object_or_404(CoinTransfer, pk=pk)
    act = coins.credit if request.POST.get("answer") == "credit" else coins.dismiss
    done = act(transfer=found, actor=f"user:{request.user.pk}", now=timezone.now())
    messages.success(request, f"The transfer is {done.resolution}.")
    return redirect("billing:transfers", account)
