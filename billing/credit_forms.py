"""The form of a credit note: a field for each line of the invoice that has something left."""

from __future__ import annotations

from typing import Any

from django import forms

from billing import amounts, crediting
from billing.models import Invoice
from billing.money_forms import INPUT


class CreditForm(forms.Form):
    """Net amounts by line; with none of them, all that is left is credited."""

    reason = forms.CharField(max_length=300, help_text="Printed on the note.", widget=forms.TextInput(attrs=INPUT))
    # Made with the form, so that sending it twice makes one note.
    key = forms.UUIDField(widget=forms.HiddenInput)

    def __init__(self, *args: Any, invoice: Invoice, standing: crediting.Standing, **options: Any) -> None:
        super().__init__(*args, **options)
        self.invoice, self.positions = invoice, []
        for line in invoice.lines.order_by("position"):
            left = standing.left_of(line.position)
            if left:
                self.positions.append(line.position)
                self.fields[f"line_{line.position}"] = forms.CharField(
                    required=False,
                    label=line.description,
                    help_text=f"Before tax, at most {invoice.money(left)} {invoice.currency}. No lines: all of it.",
                    widget=forms.TextInput(attrs={**INPUT, "inputmode": "decimal", "autocomplete": "off"}),
                )

    def clean(self) -> dict[str, Any]:
        given = super().clean() or {}
        for position in self.positions:
            name = f"line_{position}"
            if given.get(name):
                try:
                    given[name] = amounts.parse_money(given[name].strip(), self.invoice.currency)
                except ValueError as wrong:
                    self.add_error(name, str(wrong))
        return given

    def wanted(self) -> dict[int, int] | None:
        """Position -> minor units; None for all that is left."""
        found = {position: self.cleaned_data[f"line_{position}"] for position in self.positions}
        return {position: amount for position, amount in found.items() if amount} or None
