"""`prices/what-if`: what a month would have cost by other prices. Staff's."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from billing import pricing, what_if
from billing.api import acting
from billing.api.fields import AmountUsedField, CreditsOrZeroField, QuantityField, SixPlacesField
from billing.api.metered import METERS


class TierRequest(serializers.Serializer[Any]):
    """Up to and including `up_to`; null, for the last tier, is without end."""

    up_to = QuantityField(allow_null=True)
    credits = CreditsOrZeroField()
    fee = CreditsOrZeroField(required=False, default=0)


class PriceRequest(serializers.Serializer[Any]):
    """One meter's price: `credits` for each `per` of the meter's unit, or tiers."""

    meter = serializers.ChoiceField(choices=METERS)
    shape = serializers.ChoiceField(choices=[shape.value for shape in pricing.Shape])
    credits = CreditsOrZeroField(required=False, default=0)
    per = QuantityField(required=False, default=Decimal(1))
    minimum = CreditsOrZeroField(required=False, default=0)
    tiers = serializers.ListField(child=TierRequest(), required=False, max_length=50, default=list)

    def validate(self, given: dict[str, Any]) -> dict[str, Any]:
        given["price"] = price_of(given)
        found = pricing.problems(given["price"])
        if found:
            raise serializers.ValidationError({"tiers" if given["tiers"] else "shape": found})
        return given


class WhatIfRequest(serializers.Serializer[Any]):
    """Meters that are not named keep their price. With `account`, they are that account's own prices."""

    prices = serializers.ListField(child=PriceRequest(), min_length=1, max_length=len(METERS))
    account = serializers.UUIDField(required=False)
    month = serializers.DateField(input_formats=["%Y-%m"], required=False)

    def validate_prices(self, given: list[dict[str, Any]]) -> list[dict[str, Any]]:
        meters = [each["meter"] for each in given]
        if len(set(meters)) < len(meters):
            raise serializers.ValidationError("Name each meter once.")
        return given


class CostsAnswer(serializers.Serializer[Any]):
    charged = SixPlacesField(source="was_ucr")
    would_cost = SixPlacesField(source="would_ucr")
    difference = SixPlacesField(source="more_ucr")


class MeterCosts(CostsAnswer):
    meter = serializers.CharField()
    quantity = AmountUsedField()


class AccountCosts(CostsAnswer):
    account = serializers.UUIDField()


class WhatIfAnswer(serializers.Serializer[Any]):
    month = serializers.CharField()
    total = CostsAnswer()
    meters = MeterCosts(many=True)
    accounts = AccountCosts(many=True)


class WhatIfViewSet(acting.BillingViewSet):
    """Prices that nobody pays yet."""

    pagination_class = None
    staff_only = True
    request_serializers = {"compare": WhatIfRequest}

    @extend_schema(request=WhatIfRequest, responses=WhatIfAnswer)
    def compare(self, request: Request) -> Response:
        """What a month (the last one, unless asked) would have cost by these prices, beside what was charged."""
        given, now = self.given(request), timezone.now()
        owner = acting.visible_account(request, given["account"]).pk if "account" in given else None
        found = what_if.compare(
            prices=[each["price"] for each in given["prices"]],
            first_day=given.get("month") or what_if.last_month(now.date()),
            now=now,
            account_id=owner,
        )
        return Response(WhatIfAnswer(_shown(found)).data)


def price_of(given: dict[str, Any]) -> pricing.Price:
    default = pricing.DEFAULT_BOOK[given["meter"]]
    return pricing.Price(
        meter=given["meter"],
        shape=pricing.Shape(given["shape"]),
        amount_ucr=given["credits"],
        per=given["per"],
        minimum_ucr=given["minimum"],
        tiers=tuple(pricing.Tier(tier["up_to"], tier["credits"], tier["fee"]) for tier in given["tiers"]),
        name=default.name,
        unit=default.unit,
    )


def _shown(found: what_if.Comparison) -> dict[str, Any]:
    return {
        "month": f"{found.first_day:%Y-%m}",
        "total": _costs(found.total),
        "meters": [
            {"meter": meter, "quantity": costs.quantity, **_costs(costs)} for meter, costs in found.meters.items()
        ],
        "accounts": [{"account": account.pk, **_costs(costs)} for account, costs in found.accounts],
    }


def _costs(costs: what_if.Costs) -> dict[str, int]:
    return {"was_ucr": costs.was_ucr, "would_ucr": costs.would_ucr, "more_ucr": costs.more_ucr}
