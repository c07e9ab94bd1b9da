"""Forms about payments: what to buy and with what, what to give back, what to keep, when to buy by itself."""

from __future__ import annotations

from typing import Any

from django import forms

from billing import amounts, evidence_texts, methods
from billing.gateways import bank, registry, simulated_remote
from billing.models import Account, Payment
from billing.money_forms import INPUT, SELECT

NUMBER = {**INPUT, "inputmode": "decimal", "autocomplete": "off"}


class CreditsField(forms.CharField):
    """Credits as people type them, as micro-credits."""

    def __init__(self, **options: Any) -> None:
        super().__init__(widget=forms.TextInput(attrs=NUMBER), max_length=20, **options)

    def clean(self, value: Any) -> int:
        text = super().clean(value).strip()
        try:
            return amounts.parse_credits(text)
        except ValueError as wrong:
            raise forms.ValidationError(str(wrong)) from wrong


def choices(account: Account) -> list[tuple[str, str]]:
    """What the account can pay with: kept methods, the default first, then a bank transfer and simulated methods."""
    kept = [(str(method.pk), method.choice) for method in methods.kept(account) if method.gateway in registry.names()]
    kept += methods.on_the_spot().items()
    tokens = {method.token for method in methods.kept(account)}
    if bank.NAME in registry.names():
        kept.append((bank.METHOD, bank.LABEL))
    if "simulated" not in registry.names():
        return kept
    simulated = [(token, methods.label_of("simulated", token)) for token in simulated_remote.METHODS]
    return [*kept, *(each for each in simulated if each[0] not in tokens)]


class PayForm(forms.Form):
    method = forms.ChoiceField(label="Pay with", widget=forms.Select(attrs=SELECT))

    def __init__(self, *args: Any, account: Account, **options: Any) -> None:
        super().__init__(*args, **options)
        self.fields["method"].choices = choices(account)


class TopUpForm(PayForm):
    credits = CreditsField(help_text="How many to buy. At most six decimal places.")
    field_order = ("credits", "method")


class SubmitForm(forms.Form):
    """Made with the page, so that pressing the button twice pays once."""

    key = forms.UUIDField(widget=forms.HiddenInput)


class RefundForm(SubmitForm):
    amount = forms.CharField(required=False, max_length=20, widget=forms.TextInput(attrs=NUMBER))
    reason = forms.CharField(required=False, max_length=300, widget=forms.TextInput(attrs=INPUT))
    allow_debt = forms.BooleanField(
        required=False,
        label="Also when its credits are spent",
        help_text="The account then owes them, and can spend nothing before they are repaid.",
    )

    def __init__(self, *args: Any, payment: Payment, is_staff: bool, **options: Any) -> None:
        super().__init__(*args, **options)
        self.payment = payment
        left = f"{payment.money(payment.refundable)} {payment.currency}"
        self.fields["amount"].help_text = f"In {payment.currency}. Empty: all that is left, {left}."
        if not is_staff:
            del self.fields["allow_debt"]

    def clean_amount(self) -> int | None:
        text = self.cleaned_data["amount"].strip()
        if not text:
            return None
        try:
            return amounts.parse_money(text, self.payment.currency)
        except ValueError as wrong:
            raise forms.ValidationError(str(wrong)) from wrong


class EvidenceForm(SubmitForm):
    """What speaks for us in a dispute: a field for each text, of which one at least must be there."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        for name, label in evidence_texts.FIELDS.items():
            short = evidence_texts.SHORT.get(name)
            box = forms.TextInput(attrs=INPUT) if short else forms.Textarea(attrs={**INPUT, "rows": 3})
            most = short or evidence_texts.MOST_LETTERS
            self.fields[name] = forms.CharField(label=label, required=False, max_length=most, widget=box)

    def texts(self) -> dict[str, str]:
        return {name: self.cleaned_data[name] for name in evidence_texts.FIELDS}

    def clean(self) -> dict[str, Any]:
        given = super().clean() or {}
        if not self.errors:
            try:
                evidence_texts.clean(self.texts())
            except evidence_texts.NoEvidence as wrong:
                for name, sentences in wrong.errors.items():
                    self.add_error(name, sentences)
        return given


class MethodForm(forms.Form):
    """A method to keep: one of the simulated gateway's, or what the real one gave for a card.

    Stripe's are given on its own page instead.
    """

    gateway = forms.ChoiceField(widget=forms.Select(attrs=SELECT))
    token = forms.CharField(
        max_length=200,
        help_text="What the gateway gave for the card. Never a card number.",
        widget=forms.TextInput(attrs={**INPUT, "autocomplete": "off"}),
    )
    label = forms.CharField(
        required=False, max_length=80, help_text="How it is called here.", widget=forms.TextInput(attrs=INPUT)
    )

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        names = [name for name in registry.keeping() if name != "stripe"]
        self.has_gateways = bool(names)
        self.fields["gateway"].choices = [(name, name.capitalize()) for name in names]
        if names == ["simulated"]:
            self.fields["gateway"].widget = forms.HiddenInput()
            self.fields["gateway"].initial = "simulated"
            known = [(token, f"{each.label} ({token})") for token, each in simulated_remote.METHODS.items()]
            self.fields["token"] = forms.ChoiceField(label="Method", choices=known, widget=forms.Select(attrs=SELECT))


class AutoTopUpForm(forms.Form):
    threshold = CreditsField(label="When fewer than", help_text="Credits that are left.")
    credits = CreditsField(label="Buy", help_text="Credits, each time.")
    method = forms.ChoiceField(label="With", widget=forms.Select(attrs=SELECT))

    def __init__(self, *args: Any, account: Account, **options: Any) -> None:
        super().__init__(*args, **options)
        kept = [(str(method.pk), method.choice) for method in methods.kept(account)]
        self.fields["method"].choices = kept
