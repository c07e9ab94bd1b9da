"""Requests and answers about payments, refunds, payment methods and what gateways send."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from billing import amounts, bank_details, coins, methods
from billing.api.fields import CreditsField, MoneyField, MoneyRequestField, PropertiesField, SixPlacesField
from billing.api.metered import InvoiceAnswer
from billing.api.serializers import ListQuery
from billing.chains import keccak
from billing.models import CardSetup, CoinQuote, CoinRefund, CoinTransfer, Payment, PaymentEvent, PaymentMethod, Refund
from billing.models.payments import STATES

# What the database can keep and a person can read.
PLAIN = r"^[^\x00-\x1f\x7f]*$"


class TopUpRequest(serializers.Serializer[Any]):
    credits = CreditsField()
    payment_method = serializers.RegexField(
        PLAIN,
        max_length=100,
        required=False,
        allow_null=True,
        default=None,
        help_text="Id of a kept method, `bank_transfer`, `usdc`, `x402`, `stripe_checkout` (go to `action_url`), a "
        "simulated one's name, or null: the default.",
    )


class PayRequest(serializers.Serializer[Any]):
    payment_method = serializers.RegexField(PLAIN, max_length=100, required=False, allow_null=True, default=None)


class RefundRequest(serializers.Serializer[Any]):
    amount = MoneyRequestField(required=False, allow_null=True, default=None, help_text="All that is left, if null.")
    reason = serializers.RegexField(PLAIN, max_length=300, required=False, allow_blank=True, default="")
    allow_debt = serializers.BooleanField(
        required=False, default=False, help_text="Staff's: also when its credits are spent; the account then owes them."
    )


class CoinBackAnswer(serializers.ModelSerializer[CoinRefund]):
    """USDC on its way back: how much, where, and with which transaction once it was sent."""

    address = serializers.SerializerMethodField()
    amount = serializers.SerializerMethodField(help_text="USDC.")
    transaction = serializers.CharField(source="tx_hash")

    class Meta:
        model = CoinRefund
        fields = ("state", "network", "address", "amount", "transaction")
        read_only_fields = fields

    def get_address(self, back: CoinRefund) -> str:
        return keccak.checksummed(back.recipient)

    def get_amount(self, back: CoinRefund) -> str:
        return amounts.usdc_text(back.units)


class RefundAnswer(serializers.ModelSerializer[Refund]):
    amount = MoneyField()
    credits = SixPlacesField(source="credits_ucr")
    payment = serializers.UUIDField(source="payment_id")
    transaction = serializers.UUIDField(source="taken_id", allow_null=True)
    usdc = serializers.SerializerMethodField()

    class Meta:
        model = Refund
        fields = (
            "id", "payment", "account", "state", "amount", "credits", "reason", "failure_code", "failure_message",
            "transaction", "usdc", "created_at", "settled_at",
        )  # fmt: skip
        read_only_fields = fields

    @extend_schema_field(CoinBackAnswer(allow_null=True))
    def get_usdc(self, refund: Refund) -> Any:
        if refund.payment.gateway not in methods.UNKEPT:
            return None
        found = CoinRefund.objects.filter(key=str(refund.pk)).first()
        return found and CoinBackAnswer(found).data


class PaymentAnswer(serializers.ModelSerializer[Payment]):
    credits = SixPlacesField(source="credits_ucr")
    subtotal = MoneyField()
    tax = MoneyField()
    amount = MoneyField()
    refunded = MoneyField()
    payment_method = serializers.SerializerMethodField()
    method_label = serializers.CharField()
    transaction = serializers.SerializerMethodField()

    class Meta:
        model = Payment
        fields = (
            "id", "account", "purpose", "state", "credits", "subtotal", "tax", "amount", "refunded", "gateway",
            "payment_method", "method_label", "action_url", "failure_code", "failure_message", "invoice", "grant",
            "transaction", "created_at", "settled_at",
        )  # fmt: skip
        read_only_fields = fields

    def get_payment_method(self, payment: Payment) -> str:
        """As it can be named again: an id, or a simulated method."""
        return str(payment.method_id or payment.method_token)

    @extend_schema_field({"type": ["string", "null"], "format": "uuid"})
    def get_transaction(self, payment: Payment) -> str | None:
        return str(payment.grant.transaction_id) if payment.grant else None


class PaymentEventAnswer(serializers.ModelSerializer[PaymentEvent]):
    class Meta:
        model = PaymentEvent
        fields = ("source", "state", "effect", "detail", "refund", "created_at")
        read_only_fields = fields


class BankTransferAnswer(serializers.Serializer[Any]):
    """Where a transfer goes, and what of it has not come yet."""

    holder = serializers.CharField()
    iban = serializers.CharField()
    bic = serializers.CharField()
    reference = serializers.CharField()
    missing = MoneyField()
    received = MoneyField()


class TransferAnswer(serializers.ModelSerializer[CoinTransfer]):
    amount = serializers.SerializerMethodField(help_text="USDC.")

    class Meta:
        model = CoinTransfer
        fields = ("tx_hash", "log_index", "block", "amount", "state", "why", "resolution", "seen_at")
        read_only_fields = fields

    def get_amount(self, transfer: CoinTransfer) -> str:
        return amounts.usdc_text(transfer.units)


class QuoteAnswer(serializers.ModelSerializer[CoinQuote]):
    """What to send where, in USDC, and what came."""

    address = serializers.SerializerMethodField()
    amount = serializers.SerializerMethodField(help_text="USDC.")
    transfers = serializers.SerializerMethodField()

    class Meta:
        model = CoinQuote
        fields = ("network", "token", "address", "amount", "units", "expires_at", "transfers")
        read_only_fields = fields

    def get_address(self, quote: CoinQuote) -> str:
        return keccak.checksummed(quote.address)

    def get_amount(self, quote: CoinQuote) -> str:
        return amounts.usdc_text(quote.units)

    @extend_schema_field(TransferAnswer(many=True))
    def get_transfers(self, quote: CoinQuote) -> Any:
        return TransferAnswer(quote.transfers.order_by("block", "log_index"), many=True).data


class PaymentDetail(PaymentAnswer):
    bank_transfer = serializers.SerializerMethodField()
    usdc = serializers.SerializerMethodField()
    refunds = serializers.SerializerMethodField()
    events = serializers.SerializerMethodField()

    class Meta(PaymentAnswer.Meta):
        fields = (*PaymentAnswer.Meta.fields, "bank_transfer", "usdc", "refunds", "events")
        read_only_fields = fields

    @extend_schema_field(BankTransferAnswer(allow_null=True))
    def get_bank_transfer(self, payment: Payment) -> Any:
        awaited = bank_details.of(payment)
        return BankTransferAnswer(awaited).data if awaited else None

    @extend_schema_field(QuoteAnswer(allow_null=True))
    def get_usdc(self, payment: Payment) -> Any:
        quote = coins.quote_of(payment)
        return quote and QuoteAnswer(quote).data

    @extend_schema_field(RefundAnswer(many=True))
    def get_refunds(self, payment: Payment) -> Any:
        return RefundAnswer(payment.refunds.select_related("payment").order_by("created_at", "pk"), many=True).data

    @extend_schema_field(PaymentEventAnswer(many=True))
    def get_events(self, payment: Payment) -> Any:
        return PaymentEventAnswer(payment.events.order_by("created_at", "pk"), many=True).data


class PaidInvoice(InvoiceAnswer):
    payment = PaymentDetail()

    class Meta(InvoiceAnswer.Meta):
        fields = (*InvoiceAnswer.Meta.fields, "payment")
        read_only_fields = fields


class PaymentQuery(ListQuery):
    state = serializers.ChoiceField(choices=STATES, required=False)
    purpose = serializers.ChoiceField(choices=Payment.Purpose.choices, required=False)


class MethodRequest(serializers.Serializer[Any]):
    token = serializers.RegexField(
        r"^[\x21-\x7e]+$", max_length=200, help_text="What the gateway gave for the card, or a simulated method."
    )
    gateway = serializers.RegexField(r"^[a-z0-9_]+$", max_length=20, required=False)
    label = serializers.RegexField(PLAIN, max_length=80, required=False, allow_blank=True, default="")
    is_default = serializers.BooleanField(required=False, default=False)


class MethodChange(serializers.Serializer[Any]):
    label = serializers.RegexField(PLAIN, max_length=80, required=False)
    is_default = serializers.ChoiceField(
        choices=[True], required=False, help_text="Only true: another method takes its place."
    )


class MethodAnswer(serializers.ModelSerializer[PaymentMethod]):
    class Meta:
        model = PaymentMethod
        fields = (
            "id", "gateway", "token", "label", "is_default", "brand", "last4", "exp_month", "exp_year", "created_at",
        )  # fmt: skip
        read_only_fields = fields


class CardSetupRequest(serializers.Serializer[Any]):
    label = serializers.RegexField(
        PLAIN, max_length=80, required=False, allow_blank=True, default="", help_text="Its brand and digits, if empty."
    )
    is_default = serializers.BooleanField(required=False, default=False)


class CardSetupAnswer(serializers.ModelSerializer[CardSetup]):
    payment_method = serializers.UUIDField(source="method_id", allow_null=True)

    class Meta:
        model = CardSetup
        fields = ("id", "account", "state", "action_url", "payment_method", "failure_message", "created_at", "ended_at")
        read_only_fields = fields


class CardSetupQuery(ListQuery):
    state = serializers.ChoiceField(choices=CardSetup.State.choices, required=False)


class WebhookRequest(serializers.Serializer[Any]):
    """As the gateway sends it; signed as the Standard Webhooks say."""

    id = serializers.CharField()
    type = serializers.CharField()
    created_at = serializers.DateTimeField(required=False)
    data = PropertiesField(required=False)


class WebhookAnswer(serializers.Serializer[Any]):
    received = serializers.BooleanField()
