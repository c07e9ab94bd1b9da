"""Requests and answers about credit notes."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from billing.api.fields import MONEY, MoneyField, MoneyRequestField, SixPlacesField, money
from billing.api.serializers import ListQuery
from billing.models import CreditNote, CreditNoteLine

MOST_LINES = 200


class CreditLineRequest(serializers.Serializer[Any]):
    """A line of the invoice by its position (1 is the first), and how much is taken off it before tax."""

    line = serializers.IntegerField(min_value=1, max_value=32767)
    amount = MoneyRequestField()


class CreditNoteRequest(serializers.Serializer[Any]):
    """`lines`, or an `amount` with its tax; without both all that is left."""

    invoice = serializers.UUIDField()
    amount = MoneyRequestField(required=False)
    lines = serializers.ListField(child=CreditLineRequest(), min_length=1, max_length=MOST_LINES, required=False)
    reason = serializers.CharField(max_length=300)

    def validate(self, given: dict[str, Any]) -> dict[str, Any]:
        if "amount" in given and "lines" in given:
            raise serializers.ValidationError({"amount": ["Send either an amount or lines, not both."]})
        positions = [each["line"] for each in given.get("lines", ())]
        if len(set(positions)) < len(positions):
            raise serializers.ValidationError({"lines": ["Name each line once."]})
        return given


class CreditNoteQuery(ListQuery):
    invoice = serializers.UUIDField(required=False)


class CreditLineAnswer(serializers.ModelSerializer[CreditNoteLine]):
    line = serializers.IntegerField(source="line.position")
    meter = serializers.CharField(source="line.meter")
    description = serializers.CharField(source="line.description")
    amount = serializers.SerializerMethodField()

    class Meta:
        model = CreditNoteLine
        fields = ("line", "meter", "description", "amount")
        read_only_fields = fields

    @extend_schema_field(MONEY)
    def get_amount(self, line: CreditNoteLine) -> dict[str, str]:
        return money(line.amount, self.context["currency"])


class CreditNoteAnswer(serializers.ModelSerializer[CreditNote]):
    lines = serializers.SerializerMethodField()
    currency = serializers.CharField()
    subtotal = MoneyField()
    tax = MoneyField()
    total = MoneyField()
    due_reduced = MoneyField()
    refunded = MoneyField(source="refund_amount")
    granted = MoneyField()
    granted_credits = SixPlacesField(source="granted_ucr")
    grant = serializers.UUIDField(source="grant_id", allow_null=True)
    payment = serializers.UUIDField(source="payment_id", allow_null=True)
    refund = serializers.UUIDField(source="refund_id", allow_null=True)

    class Meta:
        model = CreditNote
        fields = (
            "id", "number", "account", "invoice", "currency", "lines", "subtotal", "tax", "total", "due_reduced",
            "refunded", "granted", "granted_credits", "grant", "payment", "refund", "refund_is_due", "reason",
            "created_at",
        )  # fmt: skip
        read_only_fields = fields

    @extend_schema_field(CreditLineAnswer(many=True))
    def get_lines(self, note: CreditNote) -> Any:
        lines = sorted(note.lines.all(), key=lambda each: each.line.position)
        return CreditLineAnswer(lines, many=True, context={"currency": note.currency}).data
