"""`invoices`: list, detail, preview; generate, finalize, void and mark-paid are staff's, pay is the customer's."""

from __future__ import annotations

from uuid import UUID

from django.http import HttpResponse
from django.shortcuts import get_object_or_404
from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from billing import documents, invoice_csv, invoicing, payments, periods, roles
from billing.api import acting, files, metered
from billing.api.files import CSV, PDF
from billing.api.payment_serializers import PaidInvoice, PayRequest
from billing.api.serializers import Nothing
from billing.models import Invoice


class InvoiceViewSet(acting.BillingViewSet):
    """Statements of a period in money: draft -> open -> paid | void | uncollectible."""

    queryset = Invoice.objects.none()
    serializer_class = Nothing
    idempotency_required = {"pay"}
    staff_actions = {"generate", "finalize", "void", "mark_paid"}
    request_serializers = {
        "generate": metered.GenerateRequest,
        "finalize": Nothing,
        "void": metered.ReasonRequest,
        "mark_paid": metered.ReasonRequest,
        "pay": PayRequest,
    }
    query_serializers = {"list": metered.InvoiceQuery}

    @extend_schema(parameters=[metered.InvoiceQuery], responses=metered.InvoiceAnswer(many=True))
    def list(self, request: Request) -> Response:
        asked = self.asked(request)
        rows = Invoice.objects.filter(account=acting.account_of(request)).prefetch_related("lines")
        return self.page(acting.between(rows, asked, "state"), metered.InvoiceAnswer, now=timezone.now())

    @extend_schema(responses=metered.InvoiceDetail)
    def retrieve(self, request: Request, pk: UUID) -> Response:
        return _answer(get_object_or_404(Invoice.objects.visible_to(request.user), pk=pk))

    @extend_schema(responses={(200, "application/pdf"): PDF})
    def pdf(self, request: Request, pk: UUID) -> HttpResponse:
        """The invoice as PDF."""
        found = _visible(request, pk)
        return files.pdf(documents.of_invoice(found), name=f"invoice-{found.number or 'draft'}")

    @extend_schema(responses={(200, "text/csv"): CSV})
    def csv(self, request: Request, pk: UUID) -> HttpResponse:
        """Its lines and totals as CSV."""
        found = _visible(request, pk)
        return files.csv(invoice_csv.of_invoice(found), name=f"invoice-{found.number or 'draft'}")

    @extend_schema(responses=metered.PreviewAnswer)
    def preview(self, request: Request) -> Response:
        """The running period as its invoice would be now."""
        found = invoicing.preview(account=acting.account_of(request), now=timezone.now())
        return Response(metered.PreviewAnswer(found).data)

    @extend_schema(request=metered.GenerateRequest, responses={200: metered.InvoiceDetail, 201: metered.InvoiceDetail})
    def generate(self, request: Request) -> Response:
        """The draft of a period (201); asked again, the same one with what was used since (200)."""
        given = self.given(request)
        account = acting.visible_account(request, given["account"])
        now = timezone.now()
        if "period_start" in given:
            period = periods.Period(given["period_start"], given["period_end"])
        else:
            period = invoicing.period_to_close(account=account, now=now)
        draft, is_new = invoicing.generate(account=account, period=period, now=now)
        return _answer(draft, status=201 if is_new else 200)

    @extend_schema(request=None, responses=metered.InvoiceDetail)
    def finalize(self, request: Request, pk: UUID) -> Response:
        """Number the draft and fix it for good; with nothing due it is paid at once."""
        self.given(request)
        invoice = get_object_or_404(Invoice.objects.editable_by(request.user), pk=pk)
        return _answer(invoicing.finalize(invoice_id=invoice.pk, now=timezone.now()))

    @extend_schema(request=metered.ReasonRequest, responses=metered.InvoiceDetail)
    def void(self, request: Request, pk: UUID) -> Response:
        """Declare a draft or open invoice void."""
        invoice = get_object_or_404(Invoice.objects.editable_by(request.user), pk=pk)
        reason = self.given(request)["reason"]
        return _answer(invoicing.void(invoice_id=invoice.pk, reason=reason, now=timezone.now()))

    @extend_schema(request=PayRequest, responses=PaidInvoice)
    def pay(self, request: Request, pk: UUID) -> Response:
        """Pay what is due. The answer is the invoice, with the payment; it is paid when that succeeded."""
        invoice = get_object_or_404(Invoice.objects.editable_by(request.user).select_related("account"), pk=pk)
        roles.require_payer(request.user, invoice.account)
        payment = payments.pay_invoice(
            invoice=invoice,
            method=self.given(request)["payment_method"],
            key=acting.act_key(request),
            now=timezone.now(),
            actor=acting.actor(request),
            request_id=acting.request_id(request),
        )
        invoice.refresh_from_db()
        invoice.payment = payment
        return Response(PaidInvoice(invoice, context={"now": timezone.now()}).data)

    @extend_schema(request=metered.ReasonRequest, responses=metered.InvoiceDetail)
    def mark_paid(self, request: Request, pk: UUID) -> Response:
        """Note that an open invoice was paid elsewhere."""
        invoice = get_object_or_404(Invoice.objects.editable_by(request.user), pk=pk)
        reason = self.given(request)["reason"]
        paid = invoicing.mark_paid(
            invoice_id=invoice.pk, reason=reason, now=timezone.now(), actor=acting.actor(request)
        )
        return _answer(paid)


def _visible(request: Request, pk: UUID) -> Invoice:
    found: Invoice = get_object_or_404(Invoice.objects.visible_to(request.user).select_related("account"), pk=pk)
    return found


def _answer(invoice: Invoice, status: int = 200) -> Response:
    return Response(metered.InvoiceDetail(invoice, context={"now": timezone.now()}).data, status=status)
