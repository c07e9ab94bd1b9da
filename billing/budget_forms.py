"""Forms about budgets and the warning of low credits."""

from __future__ import annotations

import re
from typing import Any

from django import forms

from billing import amounts, budgets, pricing
from billing.models import Account, ApiKey, Budget

INPUT = {"class": "input"}
SELECT = {"class": "select"}
SCOPES = (("account", "All of the account"), ("agent", "One agent"))
PERIODS = (("day", "A day"), ("week", "A week"), ("month", "A month"), ("total", "In total"))
ACTIONS = (("notify", "Tell us"), ("block", "Tell us, and refuse what exceeds it"))


class CreditsField(forms.CharField):
    """Credits in words people use, as micro-credits."""

    def __init__(self, **options: Any) -> None:
        super().__init__(widget=forms.TextInput(attrs=INPUT | {"inputmode": "decimal"}), **options)

    def clean(self, value: Any) -> int | None:
        text = super().clean(value)
        if not text:
            return None
        try:
            return amounts.parse_credits(text)
        except ValueError as wrong:
            raise forms.ValidationError(str(wrong)) from wrong


class ThresholdsField(forms.CharField):
    """Percents: 50, 80, 100"""

    def __init__(self) -> None:
        super().__init__(
            required=False,
            initial=", ".join(map(str, budgets.THRESHOLDS)),
            widget=forms.TextInput(attrs=INPUT),
            help_text="Percents of the limit; each is told once a period.",
        )

    def clean(self, value: Any) -> list[int]:
        given = [part for part in re.split(r"[\s,;%]+", super().clean(value)) if part]
        if any(not (part.isascii() and part.isdecimal() and len(part) < 5) for part in given):
            raise forms.ValidationError("Write percents as numbers, for example 50, 80, 100.")
        return [int(part) for part in given]


class BudgetForm(forms.Form):
    """A new budget. What it watches is one choice: everything, a meter, a key, or an agent by its id."""

    watches = forms.ChoiceField(label="For", widget=forms.Select(attrs=SELECT))
    agent = forms.CharField(
        max_length=100,
        required=False,
        widget=forms.TextInput(attrs=INPUT),
        help_text="For a budget of one agent: its id, as in the address of its page.",
    )
    period = forms.ChoiceField(label="In", choices=PERIODS, initial="month", widget=forms.Select(attrs=SELECT))
    limit = CreditsField(label="Credits")
    action = forms.ChoiceField(label="When it is reached", choices=ACTIONS, widget=forms.Select(attrs=SELECT))
    thresholds = ThresholdsField()

    def __init__(self, *args: Any, account: Account, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        keys = ApiKey.objects.filter(account=account, revoked_at=None).order_by("name", "pk")
        meters = [(f"meter:{price.meter}", f"Meter: {price.name}") for price in pricing.DEFAULT_BOOK.values()]
        self.fields["watches"].choices = [
            *SCOPES,
            *meters,
            *((f"api_key:{key.pk}", f"API key: {key.name}") for key in keys),
        ]

    def said(self) -> dict[str, Any]:
        """As budgets.create wants it."""
        given = self.cleaned_data
        scope, _, target = given["watches"].partition(":")
        return {
            "scope": scope,
            "target": given["agent"].strip() if scope == Budget.Scope.AGENT else target,
            "period": given["period"],
            "limit_ucr": given["limit"],
            "action": given["action"],
            "thresholds": given["thresholds"],
        }


class BudgetChangeForm(forms.Form):
    limit = CreditsField(label="Credits")
    action = forms.ChoiceField(label="When it is reached", choices=ACTIONS, widget=forms.Select(attrs=SELECT))
    thresholds = ThresholdsField()


class LowBalanceForm(forms.Form):
    threshold = CreditsField(label="Warn below", required=False, help_text="Credits; empty warns never.")
