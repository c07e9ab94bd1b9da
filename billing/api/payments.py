"""`topups`, `payments`, `payment-methods`, and the address gateways send their webhooks to."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.db.models import QuerySet
from django.shortcuts import get_object_or_404
from django.utils import timezone
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import permissions
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from billing import gateway_webhooks, methods, payments, roles, x402_top_ups
from billing.api import acting, fields
from billing.api import payment_serializers as shapes
from billing.api.serializers import Nothing
from billing.gateways import signatures
from billing.gateways.x402 import gateway as x402
from billing.gateways.x402 import wire
from billing.models import Payment, PaymentMethod, Refund


class PaymentViewSet(acting.BillingViewSet):
    """Money asked of the customer, and what the gateway said of it."""

    queryset = Payment.objects.none()
    idempotency_required = {"top_up", "refund", "confirm", "cancel"}
    request_serializers = {
        "top_up": shapes.TopUpRequest,
        "refund": shapes.RefundRequest,
        "confirm": Nothing,
        "cancel": Nothing,
    }
    query_serializers = {"list": shapes.PaymentQuery}

    @extend_schema(
        request=shapes.TopUpRequest,
        responses={201: shapes.PaymentDetail},
        parameters=[OpenApiParameter(wire.SIGNATURE, str, OpenApiParameter.HEADER)],
    )
    def top_up(self, request: Request) -> Response:
        """Buy credits. A decline is a payment that `failed`; `unknown` is found out by itself, so do not pay again.

        With the method `x402` the request pays for itself: without PAYMENT-SIGNATURE the answer is 402 and says how.
        """
        account = acting.account_of(request)
        roles.require_payer(request.user, account)
        given = self.given(request)
        said = {
            "account": account,
            "credits_ucr": given["credits"],
            "key": acting.act_key(request),
            "now": timezone.now(),
            "actor": acting.actor(request),
            "request_id": acting.request_id(request),
        }
        if given["payment_method"] != x402.NAME:
            return _answer(payments.top_up(**said, method=given["payment_method"]), status=201)
        url = request.build_absolute_uri(request.path)
        made = x402_top_ups.top_up(**said, signature=request.headers.get(wire.SIGNATURE), url=url)
        answer = _answer(made, status=201)
        for name, value in x402_top_ups.response(made).items():
            answer[name] = value
        return answer

    @extend_schema(parameters=[shapes.PaymentQuery], responses=shapes.PaymentAnswer(many=True))
    def list(self, request: Request) -> Response:
        asked = self.asked(request)
        rows = Payment.objects.filter(account=acting.account_of(request)).select_related("grant")
        return self.page(acting.between(rows, asked, "state", "purpose"), shapes.PaymentAnswer)

    @extend_schema(responses=shapes.PaymentDetail)
    def retrieve(self, request: Request, pk: UUID) -> Response:
        return _answer(get_object_or_404(_rows(Payment.objects.visible_to(request.user)), pk=pk))

    @extend_schema(request=shapes.RefundRequest, responses={201: shapes.RefundAnswer})
    def refund(self, request: Request, pk: UUID) -> Response:
        """Give money back, and take the unspent credits back that it paid for. All that is left, without an amount."""
        payment = self._editable(request, pk)
        given = self.given(request)
        if given["allow_debt"]:
            roles.require_staff(request.user)
        money = given["amount"]
        made = payments.refund(
            payment=payment,
            amount=money and fields.minor_of(money, currency=payment.currency, field="amount"),
            key=acting.act_key(request),
            now=timezone.now(),
            allow_debt=given["allow_debt"],
            reason=given["reason"],
            actor=acting.actor(request),
            request_id=acting.request_id(request),
        )
        return Response(shapes.RefundAnswer(made).data, status=201)

    @extend_schema(responses=shapes.RefundAnswer(many=True))
    def refunds(self, request: Request, pk: UUID) -> Response:
        payment = get_object_or_404(Payment.objects.visible_to(request.user), pk=pk)
        rows = Refund.objects.filter(payment=payment).select_related("payment")
        return self.page(rows, shapes.RefundAnswer)

    @extend_schema(request=None, responses=shapes.PaymentDetail)
    def confirm(self, request: Request, pk: UUID) -> Response:
        """Go on with a payment that `requires_action`, when the customer has done at `action_url` what was asked."""
        payment = self._editable(request, pk)
        self.given(request)
        return _answer(payments.confirm(payment=payment, now=timezone.now()))

    @extend_schema(request=None, responses=shapes.PaymentDetail)
    def cancel(self, request: Request, pk: UUID) -> Response:
        """Give a payment up that has not taken money yet."""
        payment = self._editable(request, pk)
        self.given(request)
        return _answer(payments.cancel(payment=payment, now=timezone.now()))

    def _editable(self, request: Request, pk: UUID) -> Payment:
        payment = get_object_or_404(_rows(Payment.objects.editable_by(request.user)), pk=pk)
        roles.require_payer(request.user, payment.account)
        return payment


def _rows(payments: Any) -> QuerySet[Payment]:
    found: QuerySet[Payment] = payments.select_related("grant", "account", "invoice")
    return found


def _answer(payment: Payment, status: int = 200) -> Response:
    return Response(shapes.PaymentDetail(payment).data, status=status)


class MethodViewSet(acting.BillingViewSet):
    """What the account pays with."""

    queryset = PaymentMethod.objects.none()
    request_serializers = {"create": shapes.MethodRequest, "partial_update": shapes.MethodChange}
    serializer_class = Nothing

    @extend_schema(responses=shapes.MethodAnswer(many=True))
    def list(self, request: Request) -> Response:
        rows = PaymentMethod.objects.filter(account=acting.account_of(request), removed_at=None)
        return self.page(rows, shapes.MethodAnswer)

    @extend_schema(request=shapes.MethodRequest, responses={201: shapes.MethodAnswer})
    def create(self, request: Request) -> Response:
        """Keep a method; the same token again answers the same one. The first is the default."""
        account = acting.account_of(request)
        roles.require_payer(request.user, account)
        made = methods.add(account=account, now=timezone.now(), **self.given(request))
        return Response(shapes.MethodAnswer(made).data, status=201)

    @extend_schema(responses=shapes.MethodAnswer)
    def retrieve(self, request: Request, pk: UUID) -> Response:
        rows = PaymentMethod.objects.visible_to(request.user).filter(removed_at=None)
        return Response(shapes.MethodAnswer(get_object_or_404(rows, pk=pk)).data)

    @extend_schema(request=shapes.MethodChange, responses=shapes.MethodAnswer)
    def partial_update(self, request: Request, pk: UUID) -> Response:
        method, given = self._editable(request, pk), self.given(request)
        changed = methods.change(method=method, label=given.get("label"), is_default="is_default" in given)
        return Response(shapes.MethodAnswer(changed).data)

    @extend_schema(request=None, responses={204: None})
    def destroy(self, request: Request, pk: UUID) -> Response:
        methods.remove(method=self._editable(request, pk), now=timezone.now())
        return Response(status=204)

    def _editable(self, request: Request, pk: UUID) -> PaymentMethod:
        rows = PaymentMethod.objects.editable_by(request.user).filter(removed_at=None).select_related("account")
        method: PaymentMethod = get_object_or_404(rows, pk=pk)
        roles.require_payer(request.user, method.account)
        return method


class GatewayWebhookView(APIView):
    """Where gateways say what happened. Their signature is all that lets them in."""

    authentication_classes: list[Any] = []
    permission_classes = [permissions.AllowAny]
    request_serializer = shapes.WebhookRequest

    @extend_schema(
        request=shapes.WebhookRequest,
        responses=shapes.WebhookAnswer,
        parameters=[
            OpenApiParameter(name, str, OpenApiParameter.HEADER)
            for name in (signatures.ID, signatures.TIMESTAMP, signatures.SIGNATURE)
        ],
    )
    def post(self, request: Request, name: str) -> Response:
        """An event of a payment, signed by the gateway. Repeats and unknown types are taken without effect."""
        http = request._request
        gateway_webhooks.receive(gateway=name, body=http.body, headers=http.headers, now=timezone.now())
        return Response({"received": True})
