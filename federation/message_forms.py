"""What people type of messages: one to send, and which to list. Agents are typed by name, and the page offers some.

A list of two thousand to choose from would be slow to load and to read, so `names` gives the first few.
"""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any
from uuid import UUID

from django import forms
from django.db.models import Q
from django.urls import reverse

from federation.forms import no_constant
from federation.models import Agent, AgentQuerySet, Federation
from federation.models.traffic import MESSAGE_TYPES, OUTCOMES

OFFERED = 20


def names(federation: Federation, text: str) -> list[str]:
    """The first agents, by name, that could be meant."""
    found = Agent.objects.linked().filter(federation=federation, name__icontains=text.strip())
    return list(found.order_by("name").values_list("name", flat=True).distinct()[:OFFERED])


class AgentField(forms.CharField):
    """An agent by its name or its id; cleaned, its id."""

    agents: AgentQuerySet

    def clean(self, value: Any) -> UUID | None:
        text = str(super().clean(value))
        if not text:
            return None
        found = list(self.agents.filter(meant(text)).values_list("pk", flat=True)[:2])
        if not found:
            raise forms.ValidationError(f"There is no agent {text[:80]} here. Choose one of those offered.")
        if len(found) > 1:
            raise forms.ValidationError(f"Several agents are called {text[:80]}. Give the id of one, from its page.")
        return found[0]


def meant(text: str) -> Q:
    by_name = Q(name=text)
    with suppress(ValueError):
        return by_name | Q(pk=UUID(text))
    return by_name


def choosing(federation: Federation, name: str) -> dict[str, str]:
    """Attributes of an input that offers agents while one types (templates/federation/_agent_names.html)."""
    address = reverse("federation:agent-names", args=[federation.account, federation.pk])
    return {
        "list": "agent-names",
        "autocomplete": "off",
        "spellcheck": "false",
        "hx-get": f"{address}?of={name}",
        "hx-trigger": "input changed delay:150ms, focus",
        "hx-target": "#agent-names",
        "hx-swap": "innerHTML",
        "hx-sync": "this:replace",
    }


class MessageForm(forms.Form):
    sender = AgentField(label="From", max_length=120)
    recipient = AgentField(label="To", max_length=120, required=False, help_text="Empty: everyone.")
    type = forms.ChoiceField(
        choices=[(kind, kind.replace("_", " ").capitalize()) for kind in MESSAGE_TYPES], initial="custom"
    )
    payload = forms.CharField(required=False, widget=forms.Textarea(attrs={"class": "textarea code", "rows": 3}))
    ttl_seconds = forms.IntegerField(min_value=1, max_value=604_800, initial=300, label="Lives for (seconds)")
    priority = forms.IntegerField(min_value=0, max_value=9, initial=5, required=False, help_text="9 is most urgent.")

    def __init__(self, *given: Any, federation: Federation, **named: Any) -> None:
        super().__init__(*given, **named)
        for name in ("sender", "recipient"):
            self.fields[name].agents = Agent.objects.linked().filter(federation=federation)
            self.fields[name].widget.attrs.update(choosing(federation, name))
        self.fields["recipient"].widget.attrs["placeholder"] = "Everyone"

    def clean_priority(self) -> int:
        given = self.cleaned_data["priority"]
        return 5 if given is None else int(given)

    def clean_payload(self) -> Any:
        """JSON, or else the text itself."""
        text = self.cleaned_data["payload"].strip()
        try:
            return json.loads(text, parse_constant=no_constant) if text else None
        except (ValueError, RecursionError):
            return text


class MessageFilter(forms.Form):
    """Query parameters of the messages' page; what makes no sense filters nothing."""

    q = forms.CharField(required=False, max_length=200)
    type = forms.ChoiceField(required=False, choices=[("", ""), *((kind, kind) for kind in MESSAGE_TYPES)])
    state = forms.ChoiceField(required=False, choices=[("", ""), *((outcome, outcome) for outcome in OUTCOMES)])
    agent = forms.CharField(required=False, max_length=120)

    def __init__(self, *given: Any, federation: Federation, **named: Any) -> None:
        super().__init__(*given, **named)
        self.federation = federation
        offered = {"class": "input", "placeholder": "Any agent", "aria-label": "Agent", "type": "search"}
        self.fields["agent"].widget.attrs.update(choosing(federation, "agent"), **offered)

    def narrow(self, rows: Any) -> Any:
        self.is_valid()
        found = self.cleaned_data
        if found.get("type"):
            rows = rows.filter(type=found["type"])
        if found.get("agent"):
            rows = rows.of_agents(self._agents(found["agent"]))
        if found.get("state"):
            rows = rows.in_outcome(found["state"])
        return rows.saying(found["q"]) if found.get("q") else rows

    def _agents(self, text: str) -> list[UUID]:
        """Those of the name or the id; else, as one goes on typing, those that have it in their names."""
        everyone = Agent.objects.filter(federation=self.federation)
        exact = list(everyone.filter(meant(text)).values_list("pk", flat=True))
        return exact or list(everyone.filter(name__icontains=text).values_list("pk", flat=True))

    @property
    def is_used(self) -> bool:
        return any(self.cleaned_data.values())
