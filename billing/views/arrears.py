"""Money that does not come or is taken back: disputes of an account, and staff's list of everybody's."""

from __future__ import annotations

from uuid import UUID

from django.contrib import messages
from django.core.exceptions import BadRequest
from django.db.models import Max
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.http import require_POST, require_safe
from uuid_utils.compat import uuid7

from billing import payments, roles
from billing.gateways.simulated import NAME as SIMULATED
from billing.models import Account, Dispute, DisputeEvidence, Invoice, Payment
from billing.payment_forms import EvidenceForm
from billing.views import paging

SHOWN = 100


@require_safe
def disputes(request: HttpRequest, account: Account) -> HttpResponse:
    rows = Dispute.objects.filter(account=account).select_related("payment").order_by("-created_at", "-pk")
    template = "_disputes" if request.wants_partial else "disputes"
    return render(request, f"billing/{template}.html", {"page": paging.page(request, rows)})


@require_safe
def dispute(request: HttpRequest, account: Account, pk: UUID) -> HttpResponse:
    """One dispute: what it is about, what was taken, and what comes next."""
    return render(request, "billing/dispute.html", _context(request, _dispute(account, pk)))


def _context(request: HttpRequest, found: Dispute, form: EvidenceForm | None = None) -> dict[str, object]:
    is_staff, given = request.user.is_staff, found.evidence.order_by("-created_at", "-pk")
    if form is None and is_staff and found.is_open and not any(each.is_open for each in given):
        form = EvidenceForm(initial={"key": uuid7(), "customer_name": found.account.legal_name or found.account.name})
    return {
        "dispute": found,
        "is_played": is_staff and found.gateway == SIMULATED and found.is_open,
        "is_late": found.is_open and found.evidence_due_at is not None and found.evidence_due_at <= timezone.now(),
        "given": given if is_staff else [],
        "form": form,
    }


@require_POST
def give_evidence(request: HttpRequest, account: Account, pk: UUID) -> HttpResponse:
    """Staff hand in what speaks for us."""
    roles.require_staff(request.user)
    found = _dispute(account, pk)
    form = EvidenceForm(request.POST)
    if not form.is_valid():
        return render(request, "billing/dispute.html", _context(request, found, form), status=422)
    made = payments.give_evidence(
        dispute=found,
        texts=form.texts(),
        key=str(form.cleaned_data["key"]),
        now=timezone.now(),
        actor=f"user:{request.user.pk}",
    )
    if made.state == DisputeEvidence.State.ACCEPTED:
        messages.success(request, "The evidence is handed in.")
    elif made.state == DisputeEvidence.State.REFUSED:
        messages.error(request, f"The gateway did not take it: {made.detail}")
    else:
        messages.warning(
            request, "The gateway has not said yet whether it took the evidence. It is told again by itself."
        )
    return redirect("billing:dispute", account, pk)


@require_POST
def play(request: HttpRequest, account: Account, pk: UUID) -> HttpResponse:
    """Staff say what the simulated gateway decides."""
    roles.require_staff(request.user)
    found = _dispute(account, pk)
    word = request.POST.get("word", "")
    if word not in Dispute.State.values:
        raise BadRequest("Choose what the gateway says.")
    payments.play_dispute(dispute=found, word=word, now=timezone.now())
    messages.success(request, "The simulated gateway has spoken.")
    return redirect("billing:dispute", account, pk)


@require_POST
def begin(request: HttpRequest, account: Account, pk: UUID) -> HttpResponse:
    """Staff let the payer of a simulated payment dispute it."""
    roles.require_staff(request.user)
    found: Payment = get_object_or_404(Payment.objects.filter(account=account), pk=pk)
    payments.raise_dispute(payment=found, now=timezone.now())
    messages.success(request, "The payer disputes this payment.")
    return redirect("billing:disputes", account)


@require_safe
def arrears(request: HttpRequest, account: Account) -> HttpResponse:
    """Of every account: invoices past their date with their last reminder, and disputes that are open."""
    roles.require_staff(request.user)
    now = timezone.now()
    late = Invoice.objects.filter(state=Invoice.State.OPEN, due_at__lte=now, amount_due__gt=0)
    late = late.select_related("account").annotate(last_step=Max("dunning_steps__days"))
    opened = Dispute.objects.filter(state__in=Dispute.OPEN_STATES).select_related("payment", "account")
    context = {
        "invoices": late.order_by("due_at", "pk")[:SHOWN],
        "disputes": opened.order_by("created_at", "pk")[:SHOWN],
        "suspended": Account.objects.filter(suspended_for_debt=True).order_by("name", "pk")[:SHOWN],
    }
    return render(request, "billing/arrears.html", context)


def _dispute(account: Account, pk: UUID) -> Dispute:
    rows = Dispute.objects.filter(account=account).select_related("payment", "account", "taken", "rest", "restored")
    found: Dispute = get_object_or_404(rows, pk=pk)
    return found
