"""Credit notes: one of them, as a page, PDF and CSV; staff issue them for an invoice."""

from __future__ import annotations

from uuid import UUID

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_safe
from uuid_utils.compat import uuid7

from billing import credit_notes, documents, invoice_csv, paper, roles
from billing.credit_forms import CreditForm
from billing.models import Account, CreditNote, Invoice
from billing.views import paging


@require_safe
def credit_note(request: HttpRequest, account: Account, pk: UUID) -> HttpResponse:
    note = _note(account, pk)
    return render(request, "billing/credit_note.html", {"note": note, "document": documents.of_credit_note(note)})


def _note(account: Account, pk: UUID) -> CreditNote:
    rows = CreditNote.objects.filter(account=account).select_related("invoice", "account", "payment", "refund", "grant")
    found: CreditNote = get_object_or_404(rows, pk=pk)
    return found


@require_safe
def pdf(request: HttpRequest, account: Account, pk: UUID) -> HttpResponse:
    note = _note(account, pk)
    content = paper.pdf(documents.of_credit_note(note))
    return paging.download(content, name=f"credit-note-{note.number}.pdf", kind="application/pdf")


@require_safe
def lines_csv(request: HttpRequest, account: Account, pk: UUID) -> HttpResponse:
    note = _note(account, pk)
    content = invoice_csv.of_credit_note(note)
    return paging.download(content, name=f"credit-note-{note.number}.csv", kind="text/csv; charset=utf-8")


@require_http_methods(["GET", "HEAD", "POST"])
def new(request: HttpRequest, account: Account, pk: UUID) -> HttpResponse:
    """Take part or all of an invoice off; sent twice, it is one note."""
    roles.require_staff(request.user)
    invoice = get_object_or_404(Invoice.objects.filter(account=account), pk=pk)
    standing = credit_notes.standing_of(invoice)
    form = CreditForm(request.POST or None, initial={"key": uuid7()}, standing=standing, invoice=invoice)
    if request.method == "POST" and form.is_valid():
        note = _issue(request, invoice, form)
        if note is not None:
            messages.success(request, f"Credit note {note.number} takes {credit_notes.money(note, note.total)} off.")
            return redirect("billing:credit-note", account, note.pk)
    context = {"form": form, "invoice": invoice, "left": standing.left}
    return render(request, "billing/credit_note_new.html", context, status=422 if form.errors else 200)


def _issue(request: HttpRequest, invoice: Invoice, form: CreditForm) -> CreditNote | None:
    try:
        note, _ = credit_notes.issue(
            invoice_id=invoice.pk,
            lines=form.wanted(),
            reason=form.cleaned_data["reason"],
            key=f"staff:{form.cleaned_data['key']}",
            now=timezone.now(),
            actor=f"user:{request.user.pk}",
        )
    except (credit_notes.CreditExceedsInvoice, credit_notes.NotCreditable) as refused:
        form.add_error(None, str(refused))
        return None
    return credit_notes.send_refund(note=note, now=timezone.now())
