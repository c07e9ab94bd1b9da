"""Forms about coins that go back: with which transaction they were sent, or why they cannot be."""

from __future__ import annotations

from django import forms

from billing.money_forms import INPUT

CODE = {**INPUT, "autocomplete": "off", "spellcheck": "false"}


class SentForm(forms.Form):
    transaction = forms.CharField(
        max_length=80, help_text="Its hash: 0x and 64 digits.", widget=forms.TextInput(attrs=CODE)
    )
    address = forms.CharField(
        required=False,
        max_length=60,
        label="Where it went",
        help_text="Empty: the address above. Another one only if the customer named it.",
        widget=forms.TextInput(attrs=CODE),
    )


class GiveUpForm(forms.Form):
    reason = forms.CharField(
        max_length=200, label="Why it cannot be sent", help_text="The customer reads it.",
        widget=forms.TextInput(attrs=INPUT),
    )  # fmt: skip
