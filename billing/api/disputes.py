"""`disputes`: payments whose payers want them back; staff hand in what speaks for us."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.shortcuts import get_object_or_404
from django.utils import timezone
from drf_spectacular.utils import extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from billing import evidence_texts, payments
from billing.api import acting
from billing.api.fields import MONEY, SixPlacesField, money
from billing.api.serializers import ListQuery
from billing.models import Dispute, DisputeEvidence


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
            "evidence_due_at",
            "created_at",
            "settled_at",
        ]

    @extend_schema_field(MONEY)
    def get_amount(self, dispute: Dispute) -> dict[str, str]:
        return money(dispute.amount, dispute.payment.currency)


class EvidenceRequest(serializers.Serializer[Any]):
    evidence = serializers.DictField(
        child=serializers.CharField(max_length=evidence_texts.MOST_LETTERS, trim_whitespace=False),
        allow_empty=False,
        help_text=f"Texts by name: {', '.join(evidence_texts.FIELDS)}.",
    )


class EvidenceAnswer(serializers.ModelSerializer[DisputeEvidence]):
    dispute = serializers.UUIDField(source="dispute_id")
    evidence = serializers.DictField(source="texts", child=serializers.CharField())
    detail = serializers.CharField(help_text="What the gateway said, where it did not take it.")

    class Meta:
        model = DisputeEvidence
        fields = ["id", "dispute", "state", "evidence", "detail", "created_at", "settled_at"]


class DisputeViewSet(acting.BillingViewSet):
    """What the gateway tells of disputed payments; it decides them."""

    queryset = Dispute.objects.none()
    staff_actions = {"give_evidence", "evidence"}
    idempotency_required = {"give_evidence"}
    request_serializers = {"give_evidence": EvidenceRequest}
    query_serializers = {"list": DisputeQuery}

    @extend_schema(parameters=[DisputeQuery], responses=DisputeAnswer(many=True))
    def list(self, request: Request) -> Response:
        rows = Dispute.objects.filter(account=acting.account_of(request)).select_related("payment")
        return self.page(acting.between(rows, self.asked(request), "state"), DisputeAnswer)

    @extend_schema(responses=DisputeAnswer)
    def retrieve(self, request: Request, pk: UUID) -> Response:
        return Response(DisputeAnswer(_dispute(request, pk)).data)

    @extend_schema(request=EvidenceRequest, responses={201: EvidenceAnswer})
    def give_evidence(self, request: Request, pk: UUID) -> Response:
        """Hand in what speaks for us, for an open dispute. `unknown` is asked about by itself; `refused` says why."""
        given = self.given(request)
        made = payments.give_evidence(
            dispute=_dispute(request, pk),
            texts=given["evidence"],
            key=acting.act_key(request),
            now=timezone.now(),
            actor=acting.actor(request),
            request_id=acting.request_id(request),
        )
        return Response(EvidenceAnswer(made).data, status=201)

    @extend_schema(responses=EvidenceAnswer(many=True))
    def evidence(self, request: Request, pk: UUID) -> Response:
        """What staff handed in, the newest first."""
        return self.page(DisputeEvidence.objects.filter(dispute=_dispute(request, pk)), EvidenceAnswer)


def _dispute(request: Request, pk: UUID) -> Dispute:
    found: Dispute = get_object_or_404(Dispute.objects.visible_to(request.user).select_related("payment"), pk=pk)
    return found
