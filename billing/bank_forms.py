"""Forms about bank statements: the file and its columns, and what a line of it is."""

from __future__ import annotations

from typing import Any

from django import forms

from billing import amounts
from billing.bank import rows
from billing.bank_importing import MOST_BYTES
from billing.models import BankLine
from billing.money_forms import INPUT, SELECT

FORMATS = [("camt", "CAMT.053 (XML)"), ("csv", "CSV")]
COLUMNS = ("date", "amount", "text", "currency", "bank_ref", "payer_name", "payer_iban")


def _words(value: dict[str, str]) -> list[tuple[str, str]]:
    return [(name, name if name.isupper() else name.capitalize()) for name in value]


def _column(label: str, initial: str = "", help_text: str = "") -> forms.CharField:
    widget = forms.TextInput(attrs=INPUT)
    return forms.CharField(
        label=label, required=False, max_length=60, initial=initial, help_text=help_text, widget=widget
    )


class ImportForm(forms.Form):
    file = forms.FileField(
        help_text=f"At most {MOST_BYTES // 1024 // 1024} MB. A file that comes again books nothing twice.",
        widget=forms.ClearableFileInput(attrs={**INPUT, "accept": ".xml,.csv,.txt"}),
    )
    format = forms.ChoiceField(choices=FORMATS, widget=forms.Select(attrs=SELECT))
    date = _column("Column of the day", "Date", "For CSV only, as the rest below: the names in the file's first line.")
    amount = _column("Column of the amount", "Amount", "Debits with a minus; they are left out.")
    text = _column("Column of what the payer wrote", "Text")
    currency = _column("Column of the currency", help_text="Empty: all is in the account's currency.")
    bank_ref = _column("Column of the bank's reference", help_text="By it a line is known when it comes again.")
    payer_name = _column("Column of the payer's name")
    payer_iban = _column("Column of the payer's IBAN")
    delimiter = forms.ChoiceField(
        required=False, choices=_words(rows.DELIMITERS), label="Between columns", widget=forms.Select(attrs=SELECT)
    )
    decimal = forms.ChoiceField(
        required=False, choices=_words(dict.fromkeys(rows.NUMBERS, "")), widget=forms.Select(attrs=SELECT)
    )
    days = forms.ChoiceField(
        required=False, choices=_words(rows.DATES), label="Days are written", widget=forms.Select(attrs=SELECT)
    )

    def clean_file(self) -> Any:
        file = self.cleaned_data["file"]
        if file.size > MOST_BYTES:
            raise forms.ValidationError(f"A file has at most {MOST_BYTES // 1024 // 1024} MB. Import it in parts.")
        return file

    def clean(self) -> dict[str, Any]:
        given = super().clean() or {}
        if given.get("format") == "csv":
            for name in ("date", "amount", "text"):
                if not given.get(name):
                    self.add_error(name, "A CSV needs this column.")
        return given

    def columns(self) -> rows.Columns | None:
        given = self.cleaned_data
        if given["format"] != "csv":
            return None
        said = {name: given[name] for name in (*COLUMNS, "delimiter", "decimal", "days") if given[name]}
        return rows.Columns(**said)


class PartForm(forms.Form):
    """All that is left of a line, or a part of it."""

    amount = forms.CharField(required=False, max_length=20, widget=forms.TextInput(attrs=INPUT))
    reason = forms.CharField(required=False, max_length=300, widget=forms.TextInput(attrs=INPUT))

    def __init__(self, *args: Any, line: BankLine, **options: Any) -> None:
        super().__init__(*args, **options)
        self.line = line
        left = f"{amounts.money_text(line.left, line.currency)} {line.currency}"
        self.fields["amount"].help_text = f"Empty: as much as fits of the {left} that are left."

    def clean_amount(self) -> int | None:
        text = self.cleaned_data["amount"].strip()
        if not text:
            return None
        try:
            return amounts.parse_money(text, self.line.currency)
        except ValueError as wrong:
            raise forms.ValidationError(str(wrong)) from wrong


class MatchForm(PartForm):
    reference = forms.CharField(
        max_length=40,
        label="Reference of the payment",
        help_text="RF and twelve digits.",
        widget=forms.TextInput(attrs=INPUT),
    )
    field_order = ("reference", "amount", "reason")


class UndoForm(forms.Form):
    reason = forms.CharField(
        max_length=300,
        label="Why it was wrong",
        help_text="The customer reads it, if a payment had succeeded by it.",
        widget=forms.TextInput(attrs=INPUT),
    )


class AsideForm(forms.Form):
    reason = forms.CharField(
        max_length=300, label="What it is", help_text="For whoever looks later.", widget=forms.TextInput(attrs=INPUT)
    )
