"""Amounts, quantities and money as the API writes them."""

from __future__ import annotations

import json
import re
from decimal import Decimal
from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from billing import amounts

# As in amounts.py, and above zero.
CREDITS_OR_ZERO = {"type": "string", "pattern": f"^({amounts.CREDITS.pattern})$", "examples": ["12.500000"]}
CREDITS = {**CREDITS_OR_ZERO, "pattern": f"^(?=[0-9.]*[1-9])({amounts.CREDITS.pattern})$"}
QUANTITY = {"type": "string", "pattern": f"^(?=[0-9.]*[1-9])({amounts.QUANTITY.pattern})$", "examples": ["2.5"]}
RATE = re.compile(r"0(\.[0-9]{1,4})?|1(\.0{1,4})?")
MOMENT = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?([Zz]|[+-][0-9]{2}:[0-9]{2})")
SIGNED = {"type": "string", "pattern": r"^-?[0-9]+\.[0-9]{6}$", "examples": ["12.500000"]}
# Beyond these, a day more or a zone away is no date any more.
YEARS = (1970, 9990)
MONEY: dict[str, Any] = {
    "type": "object",
    "required": ["amount", "currency"],
    "properties": {
        "amount": {"type": "string", "examples": ["12.50"]},
        "currency": {"type": "string", "examples": ["EUR"]},
    },
}


@extend_schema_field(CREDITS)
class CreditsField(serializers.Field[Any, Any, Any, Any]):
    """Credits of a request, above zero, as micro-credits."""

    def to_internal_value(self, given: Any) -> int:
        try:
            return amounts.parse_credits(given)
        except ValueError as wrong:
            raise serializers.ValidationError(str(wrong)) from wrong

    def to_representation(self, ucr: Any) -> str:
        return amounts.six_places(ucr)


@extend_schema_field(CREDITS_OR_ZERO)
class CreditsOrZeroField(CreditsField):
    """Credits of a request; zero is an answer too."""

    def to_internal_value(self, given: Any) -> int:
        if isinstance(given, str) and amounts.CREDITS.fullmatch(given) and not Decimal(given):
            return 0
        return super().to_internal_value(given)


@extend_schema_field(QUANTITY)
class QuantityField(serializers.Field[Any, Any, Any, Any]):
    """A quantity of a request, above zero."""

    def to_internal_value(self, given: Any) -> Decimal:
        try:
            return amounts.parse_quantity(given)
        except ValueError as wrong:
            raise serializers.ValidationError(str(wrong)) from wrong

    def to_representation(self, quantity: Any) -> str:
        return f"{quantity:f}"


@extend_schema_field(SIGNED)
class SixPlacesField(serializers.Field[Any, Any, Any, Any]):
    """Micro-credits of an answer, as credits with six places."""

    def __init__(self, **options: Any) -> None:
        # A field that may be missing cannot be read-only: OpenAPI would promise that it is always there.
        super().__init__(**{"read_only": options.get("required", True)} | options)

    def to_representation(self, ucr: int) -> str:
        return amounts.six_places(ucr)


@extend_schema_field({"type": "string", "examples": ["2.5"]})
class AmountUsedField(serializers.Field[Any, Any, Any, Any]):
    """A quantity of an answer, without trailing zeros."""

    def __init__(self, **options: Any) -> None:
        super().__init__(read_only=True, **options)

    def to_representation(self, quantity: Decimal) -> str:
        return amounts.plain_quantity(quantity)


@extend_schema_field(MONEY)
class MoneyField(serializers.Field[Any, Any, Any, Any]):
    """Minor units of an answer's own currency."""

    def __init__(self, **options: Any) -> None:
        super().__init__(read_only=True, **options)

    def get_attribute(self, instance: Any) -> Any:
        owner = instance
        for name in self.source_attrs[:-1]:
            owner = getattr(owner, name)
        return super().get_attribute(instance), owner.currency

    def to_representation(self, value: tuple[int, str]) -> dict[str, str]:
        minor, currency = value
        return money(minor, currency)


@extend_schema_field(MONEY)
class MoneyRequestField(serializers.Field[Any, Any, Any, Any]):
    """Money of a request, as its text and currency; what currency it must be, the act knows."""

    FIELDS = {"amount", "currency"}

    def to_internal_value(self, given: Any) -> tuple[str, str]:
        if not isinstance(given, dict) or set(given) != self.FIELDS:
            raise serializers.ValidationError('Send {"amount": "12.50", "currency": "EUR"}.')
        if not all(isinstance(given[name], str) for name in self.FIELDS):
            raise serializers.ValidationError("Both are texts.")
        return given["amount"], given["currency"]

    def to_representation(self, value: Any) -> Any:
        return value


def minor_of(given: tuple[str, str], *, currency: str, field: str) -> int:
    """Minor units of money in this currency. Raises ValidationError."""
    if given[1] != currency:
        raise serializers.ValidationError({field: [f"It is in {currency}."]})
    try:
        return amounts.parse_money(given[0], currency)
    except ValueError as wrong:
        raise serializers.ValidationError({field: [str(wrong)]}) from wrong


def money(minor: int, currency: str) -> dict[str, str]:
    return {"amount": amounts.money_text(minor, currency), "currency": currency}


@extend_schema_field({"type": "object", "additionalProperties": True})
class PropertiesField(serializers.Field[Any, Any, Any, Any]):
    """A JSON object that the database can keep."""

    MOST = 16 * 1024

    def to_internal_value(self, given: Any) -> dict[str, Any]:
        if not isinstance(given, dict):
            raise serializers.ValidationError("Send a JSON object.")
        text = json.dumps(given, ensure_ascii=False)
        if len(text) > self.MOST:
            raise serializers.ValidationError(f"Must be at most {self.MOST} characters.")
        # JSON writes the character so, and a backslash that somebody typed as two.
        if "\\u0000" in text.replace("\\\\", ""):
            raise serializers.ValidationError("Text must not hold the null character.")
        return given

    def to_representation(self, value: Any) -> Any:
        return value


@extend_schema_field({"type": "string", "pattern": f"^({RATE.pattern})$", "examples": ["0.19"]})
class RateField(serializers.Field[Any, Any, Any, Any]):
    """A fraction of one with at most four places."""

    def to_internal_value(self, given: Any) -> Decimal:
        if not isinstance(given, str) or not RATE.fullmatch(given):
            raise serializers.ValidationError('Send a fraction from 0 to 1 as a string, for example "0.19".')
        return Decimal(given)

    def to_representation(self, value: Any) -> str:
        return f"{value:f}"


class MomentField(serializers.DateTimeField):
    """A moment of a request, with its zone."""

    def to_internal_value(self, given: Any) -> Any:
        if not isinstance(given, str) or not MOMENT.fullmatch(given):
            raise serializers.ValidationError("Send a time with its zone, for example 2026-01-31T12:00:00Z.")
        moment = super().to_internal_value(given)
        if not YEARS[0] <= moment.year <= YEARS[1]:
            raise serializers.ValidationError(f"Send a time from {YEARS[0]} to {YEARS[1]}.")
        return moment
