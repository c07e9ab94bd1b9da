"""Requests and answers of the other half: usage, prices, invoices."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema_field, extend_schema_serializer
from rest_framework import serializers

from billing import amounts, dunning, pricing
from billing.api.fields import (
    MONEY,
    AmountUsedField,
    MomentField,
    MoneyField,
    PropertiesField,
    QuantityField,
    SixPlacesField,
    money,
)
from billing.api.serializers import ListQuery
from billing.models import Invoice, InvoiceLine, Price, UsageRecord

METERS = [meter.value for meter in pricing.Meter]
MOST_EVENTS = 1000


class EventRequest(serializers.Serializer[Any]):
    id = serializers.CharField(max_length=255)
    source = serializers.CharField(max_length=190)
    meter = serializers.ChoiceField(choices=METERS)
    quantity = QuantityField()
    occurred_at = MomentField(required=False, allow_null=True, default=None)
    agent = serializers.CharField(max_length=100, required=False, allow_null=True, allow_blank=True, default="")
    properties = PropertiesField(required=False, default=dict)


@extend_schema_field({"type": "array", "minItems": 1, "maxItems": MOST_EVENTS, "items": {}})
class EventList(serializers.ListField):
    """Events, each checked (and answered) by itself."""

    child = serializers.JSONField(allow_null=True)

    def __init__(self, **options: Any) -> None:
        super().__init__(min_length=1, max_length=MOST_EVENTS, **options)


class EventBatch(serializers.Serializer[Any]):
    """Up to 1,000 events; one that is not right is answered as `invalid` and harms no other."""

    events = EventList()


class EventsRequest(serializers.Serializer[Any]):
    """One event, or up to 1,000 as `events`, each of which is answered for itself."""

    events = EventList(required=False)
    id = serializers.CharField(max_length=255, required=False)
    source = serializers.CharField(max_length=190, required=False)
    meter = serializers.CharField(max_length=40, required=False)
    quantity = QuantityField(required=False)
    occurred_at = MomentField(required=False, allow_null=True)
    agent = serializers.CharField(max_length=100, required=False, allow_null=True, allow_blank=True)
    properties = PropertiesField(required=False)


class EventAnswer(serializers.Serializer[Any]):
    id = serializers.CharField(allow_null=True)
    status = serializers.ChoiceField(
        choices=["accepted", "duplicate", "conflict", "insufficient_credits", "budget_exceeded", "invalid"]
    )
    detail = serializers.CharField(required=False)
    usage = serializers.UUIDField(required=False, allow_null=True)
    cost_credits = SixPlacesField(required=False)
    cost_ucr = serializers.IntegerField(required=False)
    transaction = serializers.UUIDField(required=False, allow_null=True)
    late = serializers.BooleanField(required=False)


class EventResults(serializers.Serializer[Any]):
    results = EventAnswer(many=True)


class UsageQuery(serializers.Serializer[Any]):
    meter = serializers.ChoiceField(choices=METERS, required=False)
    agent = serializers.CharField(max_length=100, required=False)
    api_key = serializers.UUIDField(required=False)

    def get_fields(self) -> dict[str, Any]:
        # `from` is a word of Python, so it cannot be written as a field above.
        moments = {name: MomentField(required=False) for name in ("from", "to")}
        return {**super().get_fields(), **moments}


class WindowQuery(UsageQuery):
    window = serializers.ChoiceField(choices=["hour", "day", "month"], required=False)
    by = serializers.ChoiceField(choices=["agent", "key"], required=False)


class KeyThatUsed(serializers.UUIDField):
    """Null is an answer, that no key used it; where nobody asked `by=key` there is none."""

    def get_attribute(self, instance: Any) -> Any:
        if self.field_name not in instance:
            raise serializers.SkipField
        return super().get_attribute(instance)


class UsageRow(serializers.Serializer[Any]):
    window_start = serializers.DateTimeField(required=False)
    meter = serializers.CharField()
    agent = serializers.CharField(required=False)
    api_key = KeyThatUsed(required=False, allow_null=True)
    api_key_name = serializers.CharField(required=False)
    quantity = AmountUsedField()
    credits = SixPlacesField(source="cost_ucr")
    cost_ucr = serializers.IntegerField()


@extend_schema_serializer(many=False)
class UsageRows(serializers.Serializer[Any]):
    results = UsageRow(many=True)
    next = serializers.URLField(allow_null=True)
    previous = serializers.URLField(allow_null=True)


class RecordAnswer(serializers.ModelSerializer[UsageRecord]):
    credits = SixPlacesField(source="cost_ucr")
    quantity = AmountUsedField()
    event = serializers.CharField(source="key")

    class Meta:
        model = UsageRecord
        fields = (
            "id", "source", "event", "meter", "quantity", "credits", "agent", "occurred_at", "late", "transaction",
            "created_at",
        )  # fmt: skip
        read_only_fields = fields


class TierAnswer(serializers.Serializer[Any]):
    up_to = serializers.CharField(allow_null=True)
    credits = serializers.CharField()
    fee = serializers.CharField()


class PriceAnswer(serializers.ModelSerializer[Price]):
    credits = SixPlacesField(source="amount_ucr")
    per = AmountUsedField()
    minimum = SixPlacesField(source="minimum_ucr")
    unit = serializers.SerializerMethodField()
    per_name = serializers.CharField(source="unit")
    tiers = serializers.SerializerMethodField()
    book = serializers.CharField(source="book.name")
    version = serializers.IntegerField(source="book.version")

    class Meta:
        model = Price
        fields = (
            "id", "meter", "name", "shape", "credits", "per", "unit", "per_name", "minimum", "tiers", "book", "version",
        )  # fmt: skip
        read_only_fields = fields

    def get_unit(self, price: Price) -> str:
        return pricing.UNITS[price.meter]

    @extend_schema_field(TierAnswer(many=True))
    def get_tiers(self, price: Price) -> list[dict[str, Any]]:
        return [
            {
                "up_to": tier["up_to"],
                "credits": amounts.six_places(tier["amount_ucr"]),
                "fee": amounts.six_places(tier.get("fee_ucr", 0)),
            }
            for tier in price.tiers
        ]


@extend_schema_serializer(many=False)
class PriceList(serializers.Serializer[Any]):
    results = PriceAnswer(many=True)
    next = serializers.URLField(allow_null=True)
    previous = serializers.URLField(allow_null=True)


class EstimateItem(serializers.Serializer[Any]):
    meter = serializers.ChoiceField(choices=METERS)
    quantity = QuantityField()


class EstimateRequest(serializers.Serializer[Any]):
    items = serializers.ListField(child=EstimateItem(), min_length=1, max_length=100)


class EstimatedItem(serializers.Serializer[Any]):
    meter = serializers.CharField()
    quantity = AmountUsedField()
    credits = SixPlacesField()


class EstimateAnswer(serializers.Serializer[Any]):
    total_credits = SixPlacesField()
    items = EstimatedItem(many=True)


class LineAnswer(serializers.ModelSerializer[InvoiceLine]):
    quantity = AmountUsedField()
    per = AmountUsedField()
    unit_price = serializers.SerializerMethodField()
    amount = serializers.SerializerMethodField()
    credits = SixPlacesField(source="cost_ucr")

    class Meta:
        model = InvoiceLine
        fields = ("meter", "description", "quantity", "unit", "unit_price", "per", "per_unit", "credits", "amount")
        read_only_fields = fields

    @extend_schema_field({**MONEY, "type": ["object", "null"]})
    def get_unit_price(self, line: InvoiceLine) -> dict[str, str] | None:
        return {"amount": line.unit_price, "currency": self.context["currency"]} if line.unit_price else None

    @extend_schema_field(MONEY)
    def get_amount(self, line: InvoiceLine) -> dict[str, str]:
        return money(line.amount, self.context["currency"])


class Party(serializers.Serializer[Any]):
    name = serializers.CharField(required=False)
    address = serializers.CharField(required=False, allow_blank=True)
    tax_id = serializers.CharField(required=False, allow_blank=True)


class InvoiceAnswer(serializers.ModelSerializer[Invoice]):
    overdue = serializers.SerializerMethodField()
    lines = serializers.SerializerMethodField()
    subtotal = MoneyField()
    tax = MoneyField()
    total = MoneyField()
    credits_applied = MoneyField()
    # What was due, less what credit notes took off it.
    amount_due = MoneyField(source="left_due")
    credited = MoneyField()
    seller = Party()
    customer = Party()

    class Meta:
        model = Invoice
        fields = (
            "id", "number", "account", "state", "overdue", "period_start", "period_end", "currency", "lines",
            "subtotal",
            "tax_rate", "tax_note", "tax", "total", "credits_applied", "amount_due", "credited", "seller",
            "customer", "reason", "created_at", "finalized_at", "due_at", "paid_at", "voided_at",
        )  # fmt: skip
        read_only_fields = fields

    def get_overdue(self, invoice: Invoice) -> bool:
        return invoice.is_overdue(self.context["now"])

    @extend_schema_field(LineAnswer(many=True))
    def get_lines(self, invoice: Invoice) -> Any:
        lines = sorted(invoice.lines.all(), key=lambda line: line.position)
        return LineAnswer(lines, many=True, context={"currency": invoice.currency}).data


class ReminderAnswer(serializers.Serializer[Any]):
    """A step of dunning: due so many days after the invoice's due date."""

    days = serializers.IntegerField()
    at = serializers.DateTimeField(help_text="When it is to be sent.")
    sent_at = serializers.DateTimeField(allow_null=True, help_text="When it was; null while it is to come.")
    suspends = serializers.BooleanField(help_text="Whether the account is suspended with it until the invoice is paid.")


class InvoiceDetail(InvoiceAnswer):
    reminders = serializers.SerializerMethodField(
        help_text="Sent, and while it is open to come; none is sent while a payment of it is under way."
    )

    class Meta(InvoiceAnswer.Meta):
        fields = (*InvoiceAnswer.Meta.fields, "reminders")
        read_only_fields = fields

    @extend_schema_field(ReminderAnswer(many=True))
    def get_reminders(self, invoice: Invoice) -> Any:
        return ReminderAnswer(dunning.reminders(invoice), many=True).data


class PreviewAnswer(serializers.Serializer[Any]):
    """The running period as its invoice would be now; nothing is stored."""

    state = serializers.SerializerMethodField()
    period_start = serializers.DateTimeField(source="period.start")
    period_end = serializers.DateTimeField(source="period.end")
    currency = serializers.CharField(source="statement.currency")
    lines = serializers.SerializerMethodField()
    tax_rate = serializers.DecimalField(source="statement.tax_rate", max_digits=5, decimal_places=4)
    tax_note = serializers.CharField(source="statement.tax_note")
    subtotal = MoneyField(source="statement.subtotal")
    tax = MoneyField(source="statement.tax")
    total = MoneyField(source="statement.total")
    credits_applied = MoneyField(source="statement.credits_applied")
    amount_due = MoneyField(source="statement.amount_due")

    def get_state(self, preview: Any) -> str:
        return "draft"

    @extend_schema_field(LineAnswer(many=True))
    def get_lines(self, preview: Any) -> Any:
        found = preview.statement
        return LineAnswer(found.lines, many=True, context={"currency": found.currency}).data


class InvoiceQuery(ListQuery):
    state = serializers.ChoiceField(choices=Invoice.State.choices, required=False)


class GenerateRequest(serializers.Serializer[Any]):
    """Without a period: the account's last one that is over; of pay-as-you-go, from the last invoice until now."""

    account = serializers.UUIDField()
    period_start = MomentField(required=False)
    period_end = MomentField(required=False)

    def validate(self, given: dict[str, Any]) -> dict[str, Any]:
        missing = {"period_start", "period_end"} - given.keys()
        if len(missing) == 1:
            raise serializers.ValidationError({missing.pop(): ["Send both ends of the period, or none."]})
        return given


class ReasonRequest(serializers.Serializer[Any]):
    reason = serializers.CharField(max_length=300, required=False, allow_blank=True, default="")
