"""`coin-refunds`: USDC that the operator has to send back, and the transactions that did; staff's."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.shortcuts import get_object_or_404
from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from billing import amounts, coin_refunds
from billing.api import acting
from billing.api.payment_serializers import PLAIN
from billing.api.serializers import ListQuery
from billing.chains import keccak
from billing.gateways import registry
from billing.models import CoinRefund


class CoinRefundQuery(ListQuery):
    state = serializers.ChoiceField(choices=CoinRefund.State.choices, required=False)


class SentRequest(serializers.Serializer[Any]):
    transaction = serializers.RegexField(PLAIN, max_length=80, help_text="Its hash, 0x and 64 digits.")
    address = serializers.RegexField(
        PLAIN, max_length=60, required=False, allow_blank=True, default="", help_text="Where it went, if not there."
    )


class FailRequest(serializers.Serializer[Any]):
    reason = serializers.RegexField(PLAIN, max_length=200)


class CoinRefundAnswer(serializers.ModelSerializer[CoinRefund]):
    """Send `amount` USDC to `address`; it is confirmed when the chain has it."""

    refund = serializers.UUIDField(source="key")
    payment = serializers.UUIDField(source="reference")
    address = serializers.SerializerMethodField()
    amount = serializers.SerializerMethodField(help_text="USDC.")
    transaction = serializers.CharField(source="tx_hash")

    class Meta:
        model = CoinRefund
        fields = [
            "id",
            "refund",
            "payment",
            "state",
            "network",
            "token",
            "address",
            "amount",
            "units",
            "transaction",
            "block",
            "why",
            "created_at",
            "sent_at",
            "settled_at",
        ]

    def get_address(self, back: CoinRefund) -> str:
        return keccak.checksummed(back.recipient)

    def get_amount(self, back: CoinRefund) -> str:
        return amounts.usdc_text(back.units)


class CoinRefundViewSet(acting.BillingViewSet):
    """Of every account. No key to send anything is kept here."""

    queryset = CoinRefund.objects.none()
    staff_actions = {"list", "retrieve", "sent", "fail"}
    idempotency_required = {"sent", "fail"}
    request_serializers = {"sent": SentRequest, "fail": FailRequest}
    query_serializers = {"list": CoinRefundQuery}

    @extend_schema(parameters=[CoinRefundQuery], responses=CoinRefundAnswer(many=True))
    def list(self, request: Request) -> Response:
        return self.page(acting.between(CoinRefund.objects.all(), self.asked(request), "state"), CoinRefundAnswer)

    @extend_schema(responses=CoinRefundAnswer)
    def retrieve(self, request: Request, pk: UUID) -> Response:
        return Response(CoinRefundAnswer(get_object_or_404(CoinRefund, pk=pk)).data)

    @extend_schema(request=SentRequest, responses=CoinRefundAnswer)
    def sent(self, request: Request, pk: UUID) -> Response:
        """Say with which transaction it was sent. Another one may be named while the first is nowhere on the chain."""
        given = self.given(request)
        get_object_or_404(CoinRefund, pk=pk)
        done = coin_refunds.mark_sent(
            refund_id=pk,
            tx_hash=given["transaction"],
            recipient=given["address"],
            chain=registry.chain(),
            actor=acting.actor(request),
            now=timezone.now(),
        )
        return Response(CoinRefundAnswer(done).data)

    @extend_schema(request=FailRequest, responses=CoinRefundAnswer)
    def fail(self, request: Request, pk: UUID) -> Response:
        """Give it up: the credits are given back. Refused while the chain shows its transaction."""
        given = self.given(request)
        get_object_or_404(CoinRefund, pk=pk)
        done = coin_refunds.fail(
            refund_id=pk,
            reason=given["reason"],
            chain=registry.chain(),
            actor=acting.actor(request),
            now=timezone.now(),
        )
        return Response(CoinRefundAnswer(done).data)
