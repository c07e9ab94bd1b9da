"""`disputes`: payments whose payers want them back."""

from __future__ import annotations

from uuid import UUID

from django.shortcuts import get_object_or_404
from drf_spectacular.utils import extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from billing.api import acting
from billing.api.fields import MONEY, SixPlacesField, money
from billing.api.serializers import ListQuery
from billing.models import Dispute


class DisputeQuery(ListQuery):
    state = serializers.ChoiceField(choices=Dispute.State.choices, required=False)


class DisputeAnswer(serializers.ModelSerializer[Dispute]):
    payment = serializers.UUIDField(source="payment_id")
    amount = serializers.SerializerMethodField()
    credits = SixPlacesField(source="credits_ucr", help_text="What the disputed money had bought.")
    taken = SixPlacesField(source="taken_ucr", help_text="What of them was unspent and is set aside.")

    class Meta:
        model = Dispute
        fields = [
            "id",
            "payment",
            "state",
            "reason",
            "amount",
            "credits",
            "taken",
            "created_at",
            "settled_at",
        ]

    @extend_schema_field(MONEY)
    def get_amount(self, dispute: Dispute) -> dict[str, str]:
        return money(dispute.amount, dispute.payment.currency)


class DisputeViewSet(acting.BillingViewSet):
    """What the gateway tells of disputed payments; it decides them."""

    queryset = Dispute.objects.none()
    query_serializers = {"list": DisputeQuery}

    @extend_schema(parameters=[DisputeQuery], responses=DisputeAnswer(many=True))
    def list(self, request: Request) -> Response:
        rows = Dispute.objects.filter(account=acting.account_of(request)).select_related("payment")
        return self.page(acting.between(rows, self.asked(request), "state"), DisputeAnswer)

    @extend_schema(responses=DisputeAnswer)
    def retrieve(self, request: Request, pk: UUID) -> Response:
        rows = Dispute.objects.visible_to(request.user).select_related("payment")
        return Response(DisputeAnswer(get_object_or_404(rows, pk=pk)).data)
