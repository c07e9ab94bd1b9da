"""Forms about webhook endpoints."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from django import forms

from billing.outgoing import addresses, endpoints, event_types

INPUT = {"class": "input"}
SELECT = {"class": "select"}


class EndpointForm(forms.Form):
    url = forms.CharField(
        label="URL",
        max_length=addresses.LONGEST_URL,
        widget=forms.URLInput(attrs=INPUT | {"placeholder": "https://", "spellcheck": "false"}),
    )
    description = forms.CharField(
        max_length=200, required=False, widget=forms.TextInput(attrs=INPUT), help_text="What it is for."
    )
    events = forms.MultipleChoiceField(
        widget=forms.CheckboxSelectMultiple, error_messages={"required": "Choose at least one event."}
    )

    def __init__(self, *args: Any, is_operator: bool, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        named = [each for each in event_types.CATALOGUE if is_operator or not each.is_operator]
        self.fields["events"].choices = [
            (event_types.EVERYTHING, "Everything, also what is added later"),
            *((each.name, f"{each.name}: {each.sentence}") for each in named),
        ]


class RotateForm(forms.Form):
    HOURS = (
        ("0", "Stops signing at once"),
        ("1", "Signs for an hour"),
        ("24", "Signs for a day"),
        ("168", "Signs for a week"),
    )

    overlap = forms.ChoiceField(label="The old secret", choices=HOURS, initial="24", widget=forms.Select(attrs=SELECT))

    def overlap_time(self) -> timedelta:
        return min(endpoints.LONGEST_OVERLAP, timedelta(hours=int(self.cleaned_data["overlap"])))


class ReplayForm(forms.Form):
    SPANS = (("1", "The last hour"), ("24", "The last day"), ("168", "The last week"), ("720", "The last 30 days"))

    span = forms.ChoiceField(label="Send again", choices=SPANS, widget=forms.Select(attrs=SELECT))

    def since(self, now: datetime) -> datetime:
        return now - timedelta(hours=int(self.cleaned_data["span"]))
