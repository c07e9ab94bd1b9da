"""`credit-notes`: list, detail, PDF, CSV; staff issue them."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.db.models import QuerySet
from django.http import HttpResponse
from django.shortcuts import get_object_or_404
from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework import exceptions
from rest_framework.request import Request
from rest_framework.response import Response

from billing import credit_notes, documents, invoice_csv
from billing.api import acting, fields, files
from billing.api import credit_serializers as shapes
from billing.api.files import CSV, PDF
from billing.models import CreditNote, Invoice


class CreditNoteViewSet(acting.BillingViewSet):
    """What was taken off final invoices."""

    queryset = CreditNote.objects.none()
    staff_actions = {"create"}
    request_serializers = {"create": shapes.CreditNoteRequest}
    query_serializers = {"list": shapes.CreditNoteQuery}

    @extend_schema(parameters=[shapes.CreditNoteQuery], responses=shapes.CreditNoteAnswer(many=True))
    def list(self, request: Request) -> Response:
        asked = self.asked(request)
        rows = _rows(CreditNote.objects.filter(account=acting.account_of(request)))
        return self.page(acting.between(rows, asked, "invoice"), shapes.CreditNoteAnswer)

    @extend_schema(responses=shapes.CreditNoteAnswer)
    def retrieve(self, request: Request, pk: UUID) -> Response:
        return Response(shapes.CreditNoteAnswer(_visible(request, pk)).data)

    @extend_schema(responses={(200, "application/pdf"): PDF})
    def pdf(self, request: Request, pk: UUID) -> HttpResponse:
        """The credit note as PDF."""
        note = _visible(request, pk)
        return files.pdf(documents.of_credit_note(note), name=f"credit-note-{note.number}")

    @extend_schema(responses={(200, "text/csv"): CSV})
    def csv(self, request: Request, pk: UUID) -> HttpResponse:
        """Its lines and totals as CSV."""
        note = _visible(request, pk)
        return files.csv(invoice_csv.of_credit_note(note), name=f"credit-note-{note.number}")

    @extend_schema(
        request=shapes.CreditNoteRequest, responses={200: shapes.CreditNoteAnswer, 201: shapes.CreditNoteAnswer}
    )
    def create(self, request: Request) -> Response:
        """Take part or all of a final invoice off. What was open is owed no more; what was paid goes back to how it
        was paid, and what credits covered is given back as credits."""
        given = self.given(request)
        invoice = Invoice.objects.visible_to(request.user).filter(pk=given["invoice"]).first()
        if invoice is None:
            raise exceptions.ValidationError({"invoice": ["There is no such invoice."]})
        note, is_new = credit_notes.issue(
            invoice_id=invoice.pk,
            amount=_minor(given.get("amount"), invoice, "amount"),
            lines=_lines(given.get("lines"), invoice),
            reason=given["reason"],
            key=acting.act_key(request),
            now=timezone.now(),
            actor=acting.actor(request),
        )
        credit_notes.send_refund(note=note, now=timezone.now())
        return Response(shapes.CreditNoteAnswer(_visible(request, note.pk)).data, status=201 if is_new else 200)


def _minor(given: tuple[str, str] | None, invoice: Invoice, field: str) -> int | None:
    return fields.minor_of(given, currency=invoice.currency, field=field) if given else None


def _lines(given: list[dict[str, Any]] | None, invoice: Invoice) -> dict[int, int] | None:
    if given is None:
        return None
    return {each["line"]: fields.minor_of(each["amount"], currency=invoice.currency, field="lines") for each in given}


def _rows(notes: Any) -> QuerySet[CreditNote]:
    found: QuerySet[CreditNote] = notes.select_related("invoice", "account", "payment").prefetch_related("lines__line")
    return found


def _visible(request: Request, pk: UUID) -> CreditNote:
    return get_object_or_404(_rows(CreditNote.objects.visible_to(request.user)), pk=pk)
