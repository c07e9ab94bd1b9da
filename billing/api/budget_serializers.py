"""Budgets and alerts, as the API takes and shows them."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from billing import budgets
from billing.api.fields import CreditsField, SixPlacesField
from billing.api.serializers import ListQuery
from billing.models import Alert, Budget


def _thresholds(**options: Any) -> serializers.ListField:
    each = serializers.IntegerField(min_value=1, max_value=budgets.HIGHEST_THRESHOLD)
    return serializers.ListField(
        child=each,
        max_length=budgets.MOST_THRESHOLDS,
        required=False,
        help_text="Percents of the limit; each is told once a window.",
        **options,
    )


class BudgetRequest(serializers.Serializer[Any]):
    scope = serializers.ChoiceField(choices=Budget.Scope.choices)
    target = serializers.CharField(
        max_length=100,
        required=False,
        allow_null=True,
        default=None,
        help_text="The meter, the agent, or the id of the API key; nothing for all of the account.",
    )
    window = serializers.ChoiceField(
        choices=Budget.Period.choices, help_text="Calendar windows in the account's time zone; total never ends."
    )
    limit = CreditsField()
    action = serializers.ChoiceField(choices=Budget.Action.choices)
    thresholds = _thresholds(default=list(budgets.THRESHOLDS))


class BudgetChange(serializers.Serializer[Any]):
    limit = CreditsField(required=False)
    action = serializers.ChoiceField(choices=Budget.Action.choices, required=False)
    thresholds = _thresholds()


class BudgetAnswer(serializers.Serializer[Any]):
    """A budget with its present window: a `Standing`."""

    id = serializers.UUIDField(source="budget.pk")
    scope = serializers.ChoiceField(choices=Budget.Scope.choices, source="budget.scope")
    target = serializers.SerializerMethodField()
    window = serializers.ChoiceField(choices=Budget.Period.choices, source="budget.period")
    limit = SixPlacesField(source="budget.limit_ucr")
    action = serializers.ChoiceField(choices=Budget.Action.choices, source="budget.action")
    thresholds = serializers.ListField(child=serializers.IntegerField(), source="budget.thresholds")
    window_start = serializers.DateTimeField(source="period_start")
    spent = SixPlacesField(source="spent_ucr")
    held = SixPlacesField(source="held_ucr")
    created_at = serializers.DateTimeField(source="budget.created_at")

    def get_target(self, standing: budgets.Standing) -> str | None:
        return standing.budget.target or None


class BudgetQuery(ListQuery):
    scope = serializers.ChoiceField(choices=Budget.Scope.choices, required=False)
    action = serializers.ChoiceField(choices=Budget.Action.choices, required=False)


class AlertQuery(ListQuery):
    kind = serializers.ChoiceField(choices=Alert.Kind.choices, required=False)


class AlertAnswer(serializers.ModelSerializer[Alert]):
    budget = serializers.UUIDField(source="budget_id", allow_null=True)
    threshold = serializers.SerializerMethodField(help_text="Percent of the limit that was reached.")
    amount = SixPlacesField(source="amount_ucr", help_text="Spent of the budget, or left of the credits.")
    limit = SixPlacesField(source="limit_ucr")

    class Meta:
        model = Alert
        fields = ["id", "kind", "budget", "threshold", "amount", "limit", "created_at", "told_at"]

    def get_threshold(self, alert: Alert) -> int | None:
        return alert.threshold or None
