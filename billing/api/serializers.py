"""Requests and answers of the credits half of the API: account, ledger, grants, holds."""

from __future__ import annotations

import zoneinfo
from typing import Any

from django.conf import settings
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from billing.api.fields import CreditsField, CreditsOrZeroField, MomentField, RateField, SixPlacesField
from billing.models import Account, Entry, Grant, Hold, Transaction
from billing.periods import Cadence


class Nothing(serializers.Serializer[Any]):
    """An act that needs no body."""


class ListQuery(serializers.Serializer[Any]):
    created_after = MomentField(required=False)
    created_before = MomentField(required=False)


class AutoTopUpAnswer(serializers.Serializer[Any]):
    threshold = SixPlacesField(source="threshold_ucr")
    credits = SixPlacesField(source="credits_ucr")
    payment_method = serializers.UUIDField(source="method_id")
    paused_until = serializers.DateTimeField(allow_null=True)
    last_error = serializers.CharField()


class AutoTopUpChange(serializers.Serializer[Any]):
    threshold = CreditsField(source="threshold_ucr")
    credits = CreditsField(source="credits_ucr")
    payment_method = serializers.RegexField(r"^[^\x00-\x1f\x7f]*$", max_length=100, allow_null=True, default=None)


class AccountAnswer(serializers.ModelSerializer[Account]):
    overdraft_credits = SixPlacesField(source="wallet_overdraft_ucr")
    low_balance_credits = SixPlacesField(source="low_balance_ucr", allow_null=True)
    auto_topup = AutoTopUpAnswer(allow_null=True)

    class Meta:
        model = Account
        fields = (
            "id", "name", "slug", "status", "time_zone", "currency", "locale", "legal_name", "address", "tax_id",
            "tax_rate", "reverse_charge", "billing_period", "overdraft_credits", "low_balance_credits", "auto_topup",
            "version", "created_at",
        )  # fmt: skip
        read_only_fields = fields


class AccountChange(serializers.Serializer[Any]):
    name = serializers.CharField(max_length=120, required=False)
    status = serializers.ChoiceField(choices=Account.Status.choices, required=False)
    time_zone = serializers.ChoiceField(choices=sorted(zoneinfo.available_timezones()), required=False)
    currency = serializers.ChoiceField(choices=[settings.CREDIT_CURRENCY], required=False)
    locale = serializers.RegexField(r"^[A-Za-z]{2,3}([-_][A-Za-z0-9]{2,8}){0,2}$", max_length=16, required=False)
    legal_name = serializers.CharField(max_length=200, required=False, allow_blank=True)
    address = serializers.CharField(max_length=1000, required=False, allow_blank=True)
    tax_id = serializers.CharField(max_length=40, required=False, allow_blank=True)
    tax_rate = RateField(required=False)
    reverse_charge = serializers.BooleanField(required=False)
    billing_period = serializers.ChoiceField(choices=[each.value for each in Cadence], required=False)
    overdraft_credits = CreditsOrZeroField(required=False, source="overdraft_ucr")
    low_balance_credits = CreditsField(
        required=False,
        allow_null=True,
        source="low_balance_ucr",
        help_text="Below it the owners are warned; null never.",
    )
    auto_topup = AutoTopUpChange(required=False, allow_null=True)


class NextExpiry(serializers.Serializer[Any]):
    expires_at = serializers.DateTimeField()
    amount = SixPlacesField()


class BalanceAnswer(serializers.Serializer[Any]):
    available = SixPlacesField(source="available_ucr")
    held = SixPlacesField(source="held_ucr")
    posted = SixPlacesField(source="posted_ucr")
    overdraft = SixPlacesField(source="overdraft_ucr")
    available_ucr = serializers.IntegerField()
    held_ucr = serializers.IntegerField()
    posted_ucr = serializers.IntegerField()
    overdraft_ucr = serializers.IntegerField()
    next_expiry = serializers.SerializerMethodField()

    @extend_schema_field(NextExpiry(allow_null=True))
    def get_next_expiry(self, balance: Any) -> dict[str, Any] | None:
        if balance.next_expiry_at is None:
            return None
        return NextExpiry({"expires_at": balance.next_expiry_at, "amount": balance.next_expiry_ucr}).data


class EntryQuery(ListQuery):
    kind = serializers.ChoiceField(choices=Transaction.Kind.choices, required=False)


class EntryAnswer(serializers.ModelSerializer[Entry]):
    transaction = serializers.UUIDField(source="transaction_id")
    kind = serializers.CharField(source="transaction.kind")
    description = serializers.CharField(source="transaction.description")
    amount = SixPlacesField(source="amount_ucr")
    balance_after = SixPlacesField(source="balance_after_ucr")

    class Meta:
        model = Entry
        fields = (
            "id", "line", "transaction", "kind", "description", "amount", "amount_ucr", "balance_after",
            "balance_after_ucr", "created_at",
        )  # fmt: skip
        read_only_fields = fields


class LegAnswer(serializers.ModelSerializer[Entry]):
    ledger_account = serializers.CharField(source="ledger_account.code")
    amount = SixPlacesField(source="amount_ucr")
    balance_after = SixPlacesField(source="balance_after_ucr", allow_null=True)

    class Meta:
        model = Entry
        fields = ("id", "ledger_account", "amount", "amount_ucr", "balance_after", "created_at")
        read_only_fields = fields


class TransactionAnswer(serializers.ModelSerializer[Transaction]):
    entries = LegAnswer(many=True, source="shown_entries")
    reversed_by = serializers.UUIDField(source="reversal_id", allow_null=True)

    class Meta:
        model = Transaction
        fields = (
            "id", "account", "kind", "source", "key", "description", "actor", "reverses", "reversed_by", "entries",
            "created_at",
        )  # fmt: skip
        read_only_fields = fields


# What the database can keep and a person can read.
SAID = r"^[^\x00-\x1f\x7f]*[^\x00-\x20\x7f][^\x00-\x1f\x7f]*$"


class TransferRequest(serializers.Serializer[Any]):
    to = serializers.UUIDField(help_text="Id of the account that gets them.")
    amount = CreditsField()
    reason = serializers.RegexField(SAID, max_length=300, help_text="Kept in the ledger for good.")


class ReverseRequest(serializers.Serializer[Any]):
    reason = serializers.RegexField(SAID, max_length=300, help_text="Kept in the ledger for good.")


class CheckAnswer(serializers.Serializer[Any]):
    name = serializers.CharField()
    ok = serializers.BooleanField()
    detail = serializers.CharField(allow_blank=True)


class VerifyAnswer(serializers.Serializer[Any]):
    ok = serializers.BooleanField()
    checks = CheckAnswer(many=True)


class GrantQuery(ListQuery):
    category = serializers.ChoiceField(choices=Grant.Category.choices, required=False)


class GrantRequest(serializers.Serializer[Any]):
    account = serializers.UUIDField()
    amount = CreditsField()
    category = serializers.ChoiceField(choices=["signup", "paid", "promo", "refund", "adjust"])
    priority = serializers.IntegerField(min_value=0, max_value=100, default=50)
    expires_at = MomentField(required=False, allow_null=True, default=None)
    reason = serializers.CharField(max_length=300, required=False, allow_blank=True, default="")

    def validate(self, given: dict[str, Any]) -> dict[str, Any]:
        if given["category"] == Grant.Category.ADJUST and not given["reason"]:
            raise serializers.ValidationError({"reason": ["An adjustment needs a reason."]})
        return given


class GrantAnswer(serializers.ModelSerializer[Grant]):
    amount = SixPlacesField(source="amount_ucr")
    remaining = SixPlacesField(source="remaining_ucr")

    class Meta:
        model = Grant
        fields = (
            "id", "account", "amount", "remaining", "category", "priority", "expires_at", "reason", "transaction",
            "amount_ucr", "remaining_ucr", "created_at",
        )  # fmt: skip
        read_only_fields = fields


class HoldQuery(ListQuery):
    state = serializers.ChoiceField(choices=Hold.State.choices, required=False)


class HoldRequest(serializers.Serializer[Any]):
    amount = CreditsField()
    expires_in_seconds = serializers.IntegerField(min_value=1, max_value=30 * 86400)
    purpose = serializers.CharField(max_length=200, required=False, allow_blank=True, default="")


class CaptureRequest(serializers.Serializer[Any]):
    amount = CreditsField()


class HoldAnswer(serializers.ModelSerializer[Hold]):
    amount = SixPlacesField(source="amount_ucr")
    captured = SixPlacesField(source="captured_ucr")

    class Meta:
        model = Hold
        fields = (
            "id", "account", "state", "amount", "captured", "purpose", "transaction", "amount_ucr", "captured_ucr",
            "expires_at", "created_at", "resolved_at",
        )  # fmt: skip
        read_only_fields = fields
