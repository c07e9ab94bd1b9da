"""The editor of a price draft: a form for each meter, and what to publish when."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from django import forms

from billing import amounts, price_texts, pricing
from billing.models import PriceDraft
from billing.money_forms import INPUT, SELECT

NONE = ""
NAMES = {
    pricing.Shape.PER_UNIT: "Per unit",
    pricing.Shape.PACKAGE: "Per package begun",
    pricing.Shape.GRADUATED: "Graduated: each tier at its rate",
    pricing.Shape.VOLUME: "Volume: all at the tier reached",
    pricing.Shape.FLAT: "Flat: once a period",
}
SHAPES = [(NONE, "Not in this book"), *((shape.value, name) for shape, name in NAMES.items())]


def _text(**attributes: Any) -> forms.TextInput:
    return forms.TextInput(attrs={**INPUT, "autocomplete": "off", **attributes})


def _read(form: forms.Form, name: str, read: Callable[[str], Any], empty: Any) -> Any:
    text = form.cleaned_data.get(name, "").strip()
    if not text:
        return empty
    try:
        return read(text)
    except ValueError as wrong:
        form.add_error(name, str(wrong))
        return empty


class PriceForm(forms.Form):
    """One meter's price."""

    shape = forms.ChoiceField(choices=SHAPES, required=False, widget=forms.Select(attrs=SELECT))
    credits = forms.CharField(required=False, widget=_text(inputmode="decimal"), help_text="For one unit.")
    per = forms.CharField(
        required=False,
        widget=_text(inputmode="decimal"),
        help_text="How many are one unit, as 3600 seconds are an hour.",
    )
    minimum = forms.CharField(
        required=False, widget=_text(inputmode="decimal"), help_text="Credits, once anything is used."
    )
    tiers = forms.CharField(
        required=False,
        widget=forms.Textarea(attrs={**INPUT, "rows": 3, "spellcheck": "false"}),
        help_text="For graduated and volume, a line each: up to | credits | fee. The last one: rest | credits.",
    )
    name = forms.CharField(required=False, max_length=80, widget=_text())
    unit = forms.CharField(required=False, max_length=40, widget=_text(), help_text="What one unit is called.")

    def __init__(self, *args: Any, meter: str, **options: Any) -> None:
        super().__init__(*args, prefix=meter, **options)
        self.meter = meter
        self.title = pricing.DEFAULT_BOOK[meter].name
        self.counted_in = pricing.UNITS[meter]
        self.price: pricing.Price | None = None

    @staticmethod
    def initial_of(price: pricing.Price | None, meter: str) -> dict[str, str]:
        shown = price or pricing.DEFAULT_BOOK[meter]
        return {
            "shape": str(price.shape) if price else NONE,
            "credits": amounts.plain(shown.amount_ucr),
            "per": amounts.plain_quantity(shown.per),
            "minimum": amounts.plain(shown.minimum_ucr) if shown.minimum_ucr else "",
            "tiers": price_texts.tiers_text(shown.tiers),
            "name": shown.name,
            "unit": shown.unit,
        }

    def clean(self) -> dict[str, Any]:
        given = super().clean() or {}
        if not given.get("shape"):
            if any(given.get(name) for name in self.changed_data if name != "shape"):
                self.add_error("shape", "Choose how it is priced: what was typed for it is not in this book yet.")
            return given
        shape, default = pricing.Shape(given["shape"]), pricing.DEFAULT_BOOK[self.meter]
        has_tiers = shape in (pricing.Shape.GRADUATED, pricing.Shape.VOLUME)
        price = pricing.Price(
            meter=self.meter,
            shape=shape,
            # A price by tiers has no other rate, and the other shapes have no tiers: what stands there is not meant.
            amount_ucr=0 if has_tiers else _read(self, "credits", price_texts.credits_or_zero, 0),
            per=_read(self, "per", amounts.parse_quantity, Decimal(1)),
            minimum_ucr=_read(self, "minimum", price_texts.credits_or_zero, 0),
            tiers=_read(self, "tiers", price_texts.parse_tiers, ()) if has_tiers else (),
            name=given.get("name") or default.name,
            unit=given.get("unit") or default.unit,
        )
        for sentence in [] if self.errors else pricing.problems(price):
            self.add_error("tiers" if has_tiers else "credits", sentence)
        self.price = price
        return given


class DraftForm(forms.Form):
    """The draft's name, and which version of it was looked at."""

    name = forms.CharField(max_length=80, widget=_text())
    version = forms.IntegerField(min_value=1, widget=forms.HiddenInput)


class Editor:
    """All forms of a draft together."""

    def __init__(self, draft: PriceDraft, given: Any = None) -> None:
        prices = {row["meter"]: price_texts.of_row(row) for row in draft.prices}
        self.head = DraftForm(given, initial={"name": draft.name, "version": draft.version})
        self.meters = [
            PriceForm(given, meter=meter, initial=PriceForm.initial_of(prices.get(meter), meter))
            for meter in pricing.Meter
        ]

    def is_valid(self) -> bool:
        return all([self.head.is_valid(), *(form.is_valid() for form in self.meters)])

    def prices(self) -> list[pricing.Price]:
        return [form.price for form in self.meters if form.price is not None]


class PublishForm(forms.Form):
    """From when the draft is what customers pay."""

    version = forms.IntegerField(min_value=1, widget=forms.HiddenInput)
    valid_from = forms.DateTimeField(
        required=False,
        label="Valid from (UTC)",
        help_text="Empty: from now on.",
        widget=forms.DateTimeInput(attrs={**INPUT, "type": "datetime-local"}),
    )

    def moment(self, now: datetime) -> datetime:
        asked: datetime | None = self.cleaned_data["valid_from"]
        return now if asked is None else asked.replace(tzinfo=UTC)


class MonthForm(forms.Form):
    """Which month to compare."""

    month = forms.DateField(
        required=False,
        input_formats=["%Y-%m"],
        widget=forms.DateInput(attrs={**INPUT, "type": "month"}, format="%Y-%m"),
    )
