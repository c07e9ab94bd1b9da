"""`bank`: what the bank's statements say came, for staff; what was matched wrongly is undone."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.db.models import F, Prefetch, QuerySet
from django.shortcuts import get_object_or_404
from django.utils import timezone
from drf_spectacular.utils import extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from billing import bank_undoing
from billing.api import acting
from billing.api.fields import MONEY, money
from billing.api.payment_serializers import PLAIN
from billing.models import BankLine, BankMatch, BankUndo


class LineQuery(serializers.Serializer[Any]):
    waiting = serializers.BooleanField(required=False, help_text="Only lines of which something is left to match.")


class UndoRequest(serializers.Serializer[Any]):
    reason = serializers.RegexField(PLAIN, max_length=300, help_text="Why it was wrong; the customer reads it.")


class UndoAnswer(serializers.ModelSerializer[BankUndo]):
    payment = serializers.UUIDField(source="payment_id", allow_null=True, help_text="That waits again, if one does.")
    transaction = serializers.UUIDField(source="taken_id", allow_null=True, help_text="That took its credits back.")

    class Meta:
        model = BankUndo
        fields = ["id", "match", "payment", "transaction", "actor", "reason", "created_at"]


class MatchAnswer(serializers.ModelSerializer[BankMatch]):
    amount = serializers.SerializerMethodField()
    payment = serializers.SerializerMethodField()
    undo = serializers.SerializerMethodField()

    class Meta:
        model = BankMatch
        fields = ["id", "kind", "payment", "amount", "actor", "reason", "created_at", "undo"]

    @extend_schema_field(MONEY)
    def get_amount(self, match: BankMatch) -> dict[str, str]:
        return money(match.amount, match.line.currency)

    def get_payment(self, match: BankMatch) -> str | None:
        return match.transfer.key if match.transfer else None

    @extend_schema_field(UndoAnswer(allow_null=True))
    def get_undo(self, match: BankMatch) -> Any:
        found = getattr(match, "undo", None)
        return UndoAnswer(found).data if found else None


class BankLineAnswer(serializers.ModelSerializer[BankLine]):
    amount = serializers.SerializerMethodField()
    left = serializers.SerializerMethodField()
    matches = MatchAnswer(many=True)

    class Meta:
        model = BankLine
        fields = ["id", "booked_on", "amount", "left", "text", "reference", "payer_name", "payer_iban", "matches"]

    @extend_schema_field(MONEY)
    def get_amount(self, line: BankLine) -> dict[str, str]:
        return money(line.amount, line.currency)

    @extend_schema_field(MONEY)
    def get_left(self, line: BankLine) -> dict[str, str]:
        return money(line.left, line.currency)


class BankViewSet(acting.BillingViewSet):
    """Money that came at the bank, of every account."""

    queryset = BankLine.objects.none()
    staff_actions = {"lines", "line", "undo"}
    idempotency_required = {"undo"}
    request_serializers = {"undo": UndoRequest}
    query_serializers = {"lines": LineQuery}

    @extend_schema(parameters=[LineQuery], responses=BankLineAnswer(many=True))
    def lines(self, request: Request) -> Response:
        """What came, the newest first, with what each line was matched with."""
        rows = _lines()
        if self.asked(request).get("waiting"):
            rows = rows.filter(matched__lt=F("amount"))
        return self.page(rows, BankLineAnswer)

    @extend_schema(responses=BankLineAnswer)
    def line(self, request: Request, pk: UUID) -> Response:
        return Response(BankLineAnswer(get_object_or_404(_lines(), pk=pk)).data)

    @extend_schema(request=UndoRequest, responses={200: UndoAnswer, 201: UndoAnswer})
    def undo(self, request: Request, pk: UUID) -> Response:
        """Take a wrong match back: the line waits again, and the payment that had succeeded by it does too; its credits
        are taken back, and the invoice that it paid is open again. Undone already: 200 with the first undoing."""
        given = self.given(request)
        get_object_or_404(BankMatch, pk=pk)
        made, is_new = bank_undoing.undo(
            match_id=pk, reason=given["reason"], actor=acting.actor(request), now=timezone.now()
        )
        return Response(UndoAnswer(made).data, status=201 if is_new else 200)


def _lines() -> QuerySet[BankLine]:
    matches = BankMatch.objects.select_related("line", "transfer", "undo").order_by("created_at", "pk")
    lines = BankLine.objects.annotate(created_at=F("statement__created_at"))
    return lines.prefetch_related(Prefetch("matches", matches))
