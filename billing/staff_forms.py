"""Forms of what only staff may do: an account's terms, and taking a transaction back."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from django import forms

from billing import amounts
from billing.models import Account
from billing.money_forms import INPUT, SELECT

NUMBER = {**INPUT, "inputmode": "decimal", "autocomplete": "off"}


class TermsForm(forms.Form):
    """On what terms a customer uses the product."""

    status = forms.ChoiceField(
        choices=Account.Status.choices,
        help_text="Suspended: all stays readable and what runs ends; nothing new begins. Closed is for good.",
        widget=forms.Select(attrs=SELECT),
    )
    overdraft = forms.DecimalField(
        min_value=0,
        max_value=amounts.MAX_CREDITS,
        decimal_places=6,
        help_text="Credits that may be spent before they are paid for. 0: none.",
        widget=forms.TextInput(attrs=NUMBER),
    )
    tax_percent = forms.DecimalField(
        label="Tax",
        min_value=0,
        max_value=100,
        decimal_places=2,
        help_text="Percent, on invoices and on what is bought.",
        widget=forms.TextInput(attrs=NUMBER),
    )
    reverse_charge = forms.BooleanField(
        required=False, help_text="The customer owes the tax where it is. Needs a tax id, and a tax of 0."
    )
    # As it was when the form was made, so that nobody overwrites what somebody else has changed since.
    version = forms.IntegerField(widget=forms.HiddenInput)

    @staticmethod
    def of(account: Account, *, overdraft_ucr: int) -> dict[str, Any]:
        """What it says now."""
        return {
            "status": account.status,
            "overdraft": amounts.plain(overdraft_ucr),
            "tax_percent": f"{(account.tax_rate * 100).normalize():f}",
            "reverse_charge": account.reverse_charge,
            "version": account.version,
        }

    def changes(self) -> dict[str, Any]:
        """As details.change takes them."""
        given = self.cleaned_data
        return {
            "status": given["status"],
            "overdraft_ucr": int(given["overdraft"] * amounts.UCR),
            "tax_rate": given["tax_percent"] / Decimal(100),
            "reverse_charge": given["reverse_charge"],
        }


class ReverseForm(forms.Form):
    """Why a transaction is taken back."""

    reason = forms.CharField(
        max_length=300, help_text="Kept in the ledger for good.", widget=forms.TextInput(attrs=INPUT)
    )
    # Made with the form, so that sending it twice takes it back once.
    key = forms.UUIDField(widget=forms.HiddenInput)
