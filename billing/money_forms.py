"""Forms of the money pages: which usage to show, which period to draft, what to give an account."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, timedelta
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from django import forms
from django.db.models import QuerySet

from billing import amounts, periods, pricing, reports
from billing.models import Account, Grant

DATE = {"class": "input", "type": "date"}
INPUT = {"class": "input"}
SELECT = {"class": "select"}
METERS = [("", "Every meter"), *((price.meter, price.name) for price in pricing.DEFAULT_BOOK.values())]


class UsageForm(forms.Form):
    """A stretch of days, the last one included."""

    start = forms.DateField(label="From", widget=forms.DateInput(attrs={**DATE, "aria-label": "First day"}))
    end = forms.DateField(label="To", widget=forms.DateInput(attrs={**DATE, "aria-label": "Last day"}))
    meter = forms.ChoiceField(
        label="Meter", choices=METERS, required=False, widget=forms.Select(attrs={**SELECT, "aria-label": "Meter"})
    )
    agent = forms.CharField(
        label="Agent",
        max_length=100,
        required=False,
        widget=forms.TextInput(attrs={**INPUT, "placeholder": "Any agent", "aria-label": "Agent"}),
    )

    api_key = forms.ChoiceField(
        label="API key", required=False, widget=forms.Select(attrs={**SELECT, "aria-label": "API key"})
    )

    def __init__(self, *given: Any, keys: Iterable[tuple[str, str]] = (), **named: Any) -> None:
        super().__init__(*given, **named)
        self.fields["api_key"].choices = [("", "Any key"), *keys]

    def clean(self) -> dict[str, Any]:
        given = super().clean() or {}
        start, end = given.get("start"), given.get("end")
        if start and end and not timedelta() <= end - start <= reports.LONGEST["day"] - timedelta(days=2):
            raise forms.ValidationError("Choose a first day before the last, at most two years apart.")
        return given

    def range(self, account: Account) -> reports.Range:
        given, zone = self.cleaned_data, ZoneInfo(account.time_zone)
        return reports.Range(
            account.pk,
            periods.midnight(given["start"], zone),
            periods.midnight(given["end"] + timedelta(days=1), zone),
            given["meter"],
            given["agent"],
            UUID(given["api_key"]) if given["api_key"] else None,
        )


class PeriodForm(forms.Form):
    """The days of an invoice, the last one included."""

    first_day = forms.DateField(widget=forms.DateInput(attrs=DATE, format="%Y-%m-%d"))
    last_day = forms.DateField(widget=forms.DateInput(attrs=DATE, format="%Y-%m-%d"))

    def period(self, account: Account) -> periods.Period:
        zone = ZoneInfo(account.time_zone)
        first: date = self.cleaned_data["first_day"]
        last: date = self.cleaned_data["last_day"]
        return periods.Period(periods.midnight(first, zone), periods.midnight(last + timedelta(days=1), zone))

    def clean(self) -> dict[str, Any]:
        given = super().clean() or {}
        first, last = given.get("first_day"), given.get("last_day")
        if first and last and not timedelta() <= last - first < timedelta(days=399):
            raise forms.ValidationError("A period ends after it starts, and is at most 400 days long.")
        return given


class AdjustForm(forms.Form):
    """Credits that staff give an account, and why."""

    credits = forms.CharField(
        help_text="More than 0, with at most six decimal places.",
        widget=forms.TextInput(attrs={**INPUT, "inputmode": "decimal", "autocomplete": "off"}),
    )
    category = forms.ChoiceField(
        choices=[(each, Grant.Category(each).label) for each in ("adjust", "promo", "paid", "refund")],
        widget=forms.Select(attrs=SELECT),
    )
    expires_on = forms.DateField(
        required=False, label="Expires after", help_text="Empty: never.", widget=forms.DateInput(attrs=DATE)
    )
    reason = forms.CharField(
        max_length=300, help_text="Kept in the ledger for good.", widget=forms.TextInput(attrs=INPUT)
    )
    # Made with the form, so that sending it twice gives the credits once.
    key = forms.UUIDField(widget=forms.HiddenInput)

    def clean_credits(self) -> int:
        return _ucr(self.cleaned_data["credits"])


class MoveForm(forms.Form):
    """Credits that go to another account, and why. Staff name any account; owners choose among their own."""

    to = forms.ModelChoiceField(
        queryset=Account.objects.none(), label="To", empty_label="Choose an account", widget=forms.Select(attrs=SELECT)
    )
    credits = forms.CharField(
        help_text="More than 0, with at most six decimal places.",
        widget=forms.TextInput(attrs={**INPUT, "inputmode": "decimal", "autocomplete": "off"}),
    )
    reason = forms.CharField(
        max_length=300, help_text="Kept in the ledger for good.", widget=forms.TextInput(attrs=INPUT)
    )
    # Made with the form, so that sending it twice moves the credits once.
    key = forms.UUIDField(widget=forms.HiddenInput)

    def __init__(self, *given: Any, receivers: QuerySet[Account], is_staff: bool, **named: Any) -> None:
        super().__init__(*given, **named)
        self.fields["to"].queryset = receivers.order_by("name", "pk")
        if is_staff:  # who may name any is not shown all of them
            widget = forms.TextInput(attrs={**INPUT, "autocomplete": "off"})
            found = forms.ModelChoiceField(queryset=receivers, to_field_name="slug", widget=widget, label="To")
            found.help_text = "The account's short name, as it stands in the addresses of its pages."
            self.fields["to"] = found

    def clean_credits(self) -> int:
        return _ucr(self.cleaned_data["credits"])


def _ucr(text: str) -> int:
    try:
        return amounts.parse_credits(text.strip())
    except ValueError as wrong:
        raise forms.ValidationError(str(wrong)) from wrong
