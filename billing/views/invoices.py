"""Invoices: list, one, the running period; staff draft, finalize, void and mark paid."""

from __future__ import annotations

from uuid import UUID
from zoneinfo import ZoneInfo

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.http import require_POST, require_safe

from billing import closing, documents, dunning, invoice_csv, invoicing, paper, periods, roles
from billing.models import Account, Invoice
from billing.money_forms import PeriodForm
from billing.views import paging

MOST_REASON = 300


@require_safe
def invoices(request: HttpRequest, account: Account) -> HttpResponse:
    now = timezone.now()
    state = request.GET.get("state", "")
    rows = Invoice.objects.filter(account=account).order_by("-created_at", "-pk")
    if state in Invoice.State.values:
        rows = rows.filter(state=state)
    page = paging.page(request, rows)
    for invoice in page.results:
        invoice.shown_state = "overdue" if invoice.is_overdue(now) else invoice.state
    context = {
        "page": page,
        "state": state,
        "states": Invoice.State.choices,
        "period_form": PeriodForm(initial=_last_period(account)) if request.user.is_staff else None,
    }
    return render(request, "billing/_invoices.html" if request.wants_partial else "billing/invoices.html", context)


def _last_period(account: Account) -> dict[str, object]:
    zone = ZoneInfo(account.time_zone)
    cadence = periods.Cadence(account.billing_period)
    last = periods.preceding(periods.containing(timezone.now(), cadence, zone), cadence, zone)
    days = list(periods.days(last, zone))
    return {"first_day": days[0], "last_day": days[-1]}


@require_safe
def invoice(request: HttpRequest, account: Account, pk: UUID) -> HttpResponse:
    found = _invoice(account, pk)
    context = {
        "invoice": found,
        "document": documents.of_invoice(found),
        "credit_notes": found.credit_notes.order_by("sequence"),
        "is_overdue": found.is_overdue(timezone.now()),
        "is_over": found.period_end <= timezone.now(),
        "may_pay": roles.may_pay(request.user, account),
        "reminders": dunning.reminders(found),
        "payments": found.payments.order_by("-created_at", "-pk")[:10],
    }
    template = "billing/_invoice.html" if request.wants_partial else "billing/invoice.html"
    return render(request, template, context)


def _invoice(account: Account, pk: UUID) -> Invoice:
    found: Invoice = get_object_or_404(Invoice.objects.filter(account=account).select_related("account"), pk=pk)
    return found


@require_safe
def pdf(request: HttpRequest, account: Account, pk: UUID) -> HttpResponse:
    found = _invoice(account, pk)
    name = f"invoice-{found.number or 'draft'}"
    return paging.download(paper.pdf(documents.of_invoice(found)), name=f"{name}.pdf", kind="application/pdf")


@require_safe
def lines_csv(request: HttpRequest, account: Account, pk: UUID) -> HttpResponse:
    found = _invoice(account, pk)
    name = f"invoice-{found.number or 'draft'}"
    return paging.download(invoice_csv.of_invoice(found), name=f"{name}.csv", kind="text/csv; charset=utf-8")


@require_safe
def preview(request: HttpRequest, account: Account) -> HttpResponse:
    """The running period as its invoice would be now."""
    found = invoicing.preview(account=account, now=timezone.now())
    context = {
        "preview": found,
        "document": documents.of_preview(found, account=account),
    }
    return render(request, "billing/invoice_preview.html", context)


@require_POST
def generate(request: HttpRequest, account: Account) -> HttpResponse:
    roles.require_staff(request.user)
    form = PeriodForm(request.POST)
    if not form.is_valid():
        messages.error(request, " ".join(form.non_field_errors()) or "Choose a first and a last day.")
        return redirect("billing:invoices", account)
    draft, _ = invoicing.generate(account=account, period=form.period(account), now=timezone.now())
    messages.success(request, "The draft is up to date.")
    return redirect("billing:invoice", account, draft.pk)


@require_POST
def close(request: HttpRequest, account: Account) -> HttpResponse:
    """Invoice the account's oldest period that is over and not invoiced."""
    roles.require_staff(request.user)
    final = closing.close(account_id=account.pk, now=timezone.now())
    if final is None:
        messages.info(request, "Nothing is left to invoice: what is over is invoiced, or nothing was used in it.")
        return redirect("billing:invoices", account)
    messages.success(request, f"Invoice {final.number} is {final.state}.")
    return redirect("billing:invoice", account, final.pk)


@require_POST
def finalize(request: HttpRequest, account: Account, pk: UUID) -> HttpResponse:
    roles.require_staff(request.user)
    get_object_or_404(Invoice.objects.filter(account=account), pk=pk)
    final = invoicing.finalize(invoice_id=pk, now=timezone.now())
    messages.success(request, f"Invoice {final.number} is {final.state}.")
    return redirect("billing:invoice", account, pk)


@require_POST
def void(request: HttpRequest, account: Account, pk: UUID) -> HttpResponse:
    roles.require_staff(request.user)
    get_object_or_404(Invoice.objects.filter(account=account), pk=pk)
    invoicing.void(invoice_id=pk, reason=request.POST.get("reason", "")[:MOST_REASON], now=timezone.now())
    messages.success(request, "The invoice is void.")
    return redirect("billing:invoice", account, pk)


@require_POST
def mark_paid(request: HttpRequest, account: Account, pk: UUID) -> HttpResponse:
    roles.require_staff(request.user)
    get_object_or_404(Invoice.objects.filter(account=account), pk=pk)
    reason = request.POST.get("reason", "")[:MOST_REASON]
    invoicing.mark_paid(invoice_id=pk, reason=reason, now=timezone.now(), actor=f"user:{request.user.pk}")
    messages.success(request, "The invoice is paid.")
    return redirect("billing:invoice", account, pk)
