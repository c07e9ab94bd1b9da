"""Forms about people: signing in, invitations, members, keys, profiles."""

from __future__ import annotations

import zoneinfo
from datetime import datetime, timedelta
from typing import Any

from django import forms
from django.contrib.auth import password_validation
from django.contrib.auth.forms import AuthenticationForm, PasswordResetForm
from django.core.exceptions import ValidationError
from django.http import HttpRequest

from billing import keys, lockout
from billing.models import Account, Role, User

INPUT = {"class": "input"}
SELECT = {"class": "select"}
PERIODS = (
    ("daily", "Every day"),
    ("weekly", "Every week"),
    ("monthly", "Every month"),
    ("yearly", "Every year"),
    ("pay_as_you_go", "All since the last one"),
)
AREA_WORDS = {
    "sandboxes": "Sandboxes and executions",
    "federation": "Federations, agents and tasks",
    "billing": "Credits, usage and invoices",
    "scaling": "Nodes and scaling",
    "account": "Account, members and keys",
}


class ResetForm(PasswordResetForm):
    """Whom to send a link that sets a new password."""

    email = forms.EmailField(label="E-mail", max_length=254, widget=forms.EmailInput(attrs={"autocomplete": "email"}))


class SignInForm(AuthenticationForm):
    """E-mail and password; raises lockout.TooManyFailures before it looks at one more guess."""

    error_messages = {
        "invalid_login": "That e-mail address and password do not belong together.",
        "inactive": "This login was closed.",
    }

    def __init__(self, request: HttpRequest | None = None, *args: Any, **kwargs: Any) -> None:
        super().__init__(request, *args, **kwargs)
        self.fields["username"].label = "E-mail"
        self.fields["username"].widget = forms.EmailInput(attrs=INPUT | {"autocomplete": "email", "autofocus": True})
        self.fields["password"].widget.attrs |= INPUT

    def clean_username(self) -> str:
        return str(self.cleaned_data["username"]).strip().lower()

    def clean(self) -> dict[str, Any]:
        who = {"email": self.cleaned_data.get("username", ""), "address": getattr(self.request, "address", "")}
        lockout.check(**who)
        try:
            cleaned: dict[str, Any] = super().clean()
        except ValidationError:
            lockout.failed(**who)
            raise
        lockout.succeeded(**who)
        return cleaned


class NewMemberForm(forms.Form):
    """What somebody new says when accepting an invitation."""

    name = forms.CharField(max_length=120, widget=forms.TextInput(attrs=INPUT | {"autocomplete": "name"}))
    password = forms.CharField(
        strip=False,
        widget=forms.PasswordInput(attrs=INPUT | {"autocomplete": "new-password"}),
        help_text="At least 10 characters.",
    )

    def __init__(self, *args: Any, email: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.email = email

    def clean_password(self) -> str:
        password: str = self.cleaned_data["password"]
        password_validation.validate_password(password, User(email=self.email, name=self.data.get("name", "")))
        return password


class InviteForm(forms.Form):
    email = forms.EmailField(label="E-mail", widget=forms.EmailInput(attrs=INPUT))
    role = forms.ChoiceField(choices=Role.choices, initial=Role.OPERATOR, widget=forms.Select(attrs=SELECT))


class RoleForm(forms.Form):
    role = forms.ChoiceField(choices=Role.choices)


class KeyForm(forms.Form):
    """A new API key."""

    DAYS = (("", "Never"), ("7", "In 7 days"), ("30", "In 30 days"), ("90", "In 90 days"), ("365", "In a year"))

    name = forms.CharField(
        max_length=120, widget=forms.TextInput(attrs=INPUT), help_text="Where it is used, for example prod-bot."
    )
    scopes = forms.MultipleChoiceField(
        widget=forms.CheckboxSelectMultiple,
        error_messages={"required": "Choose at least one scope."},
        help_text="Writing includes reading.",
    )
    expires = forms.ChoiceField(choices=DAYS, required=False, widget=forms.Select(attrs=SELECT))

    def __init__(self, *args: Any, may_scale: bool, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        areas = [area for area in keys.AREAS if may_scale or area != "scaling"]
        self.fields["scopes"].choices = [
            (f"{area}:{act}", f"{AREA_WORDS[area]}: {act}") for area in areas for act in ("read", "write")
        ]

    def expires_at(self, now: datetime) -> datetime | None:
        days = self.cleaned_data["expires"]
        return now + timedelta(days=int(days)) if days else None


def _zones() -> list[tuple[str, str]]:
    return [(name, name.replace("_", " ")) for name in sorted(zoneinfo.available_timezones())]


class ZoneField(forms.ChoiceField):
    def __init__(self) -> None:
        super().__init__(choices=_zones, label="Time zone", widget=forms.Select(attrs=SELECT))


class AccountForm(forms.ModelForm):  # type: ignore[type-arg]
    """What an owner may say about the account; status and money are staff's."""

    time_zone = ZoneField()
    billing_period = forms.ChoiceField(choices=PERIODS, label="An invoice for", widget=forms.Select(attrs=SELECT))

    class Meta:
        model = Account
        fields = ["name", "legal_name", "address", "tax_id", "billing_period", "time_zone"]
        labels = {"tax_id": "Tax id", "legal_name": "Legal name"}
        widgets = {
            "name": forms.TextInput(attrs=INPUT),
            "legal_name": forms.TextInput(attrs=INPUT),
            "address": forms.Textarea(attrs={"class": "textarea", "rows": 3}),
            "tax_id": forms.TextInput(attrs=INPUT),
        }
        help_texts = {"legal_name": "As it stands on invoices."}


class ProfileForm(forms.ModelForm):  # type: ignore[type-arg]
    THEMES = (("", "As the system"), ("light", "Light"), ("dark", "Dark"))

    time_zone = ZoneField()
    theme = forms.ChoiceField(choices=THEMES, required=False, widget=forms.Select(attrs=SELECT))

    class Meta:
        model = User
        fields = ["name", "time_zone"]
        widgets = {"name": forms.TextInput(attrs=INPUT | {"autocomplete": "name"})}
