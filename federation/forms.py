"""What people type: shapes and cleaning, no writes."""

from __future__ import annotations

import ast
import json
from typing import Any
from uuid import UUID

from django import forms

from federation import topology, workloads
from federation.models import Agent, Federation, Task
from federation.models.traffic import MESSAGE_TYPES
from federation.sample import shelf

TEMPLATE = '''import pandas as pd


def positions(prices: pd.DataFrame, lookback: int = 60) -> pd.DataFrame:
    """prices: one row a day, one column a symbol, daily closes.

    Return the share of the capital to hold in each after that day's close; 0 holds nothing.
    Row t may use prices up to row t. The shares of a day add up to at most 1.
    """
    rising = prices > prices.shift(lookback)
    return rising / prices.shape[1]
'''
SHAPE_WORDS = {
    topology.MESH: "Mesh: everyone with everyone",
    topology.RING: "Ring: each with two neighbours",
    topology.STAR: "Star: all through one leader",
    topology.HIERARCHICAL: "Hierarchical: layers under a leader",
    topology.ADAPTIVE: "Adaptive: chosen by size",
}
STRATEGY_WORDS = {
    "round_robin": "Round robin: in turn",
    "least_loaded": "Least loaded: who has most room",
    "capability_match": "Capability match: the least over-qualified",
    "random": "Random",
    "priority": "Priority: urgent tasks on the freest agent",
}
CODE = {"class": "textarea code", "rows": 18, "spellcheck": "false", "autocapitalize": "off"}


class FederationForm(forms.Form):
    name = forms.CharField(max_length=120)
    topology = forms.ChoiceField(choices=list(SHAPE_WORDS.items()))
    strategy = forms.ChoiceField(choices=list(STRATEGY_WORDS.items()), help_text="Who gets the next task.")
    max_agents = forms.IntegerField(min_value=1, max_value=2000)


class SettingsForm(FederationForm):
    fan_out = forms.IntegerField(min_value=2, max_value=64, help_text="Children of each member of a hierarchy.")
    lease_seconds = forms.IntegerField(
        min_value=2, max_value=3600, help_text="How long a remote agent may keep a task without a sign of life."
    )
    ageing_seconds = forms.IntegerField(
        min_value=1, max_value=86_400, help_text="A waiting task gains one step of priority in this time."
    )
    heartbeat_seconds = forms.IntegerField(min_value=1, max_value=300)
    agent_timeout_seconds = forms.IntegerField(min_value=2, max_value=3600, help_text="Silent longer: lost.")
    inbox_limit = forms.IntegerField(min_value=1, max_value=1_000_000, help_text="Messages an inbox takes.")

    @classmethod
    def of(cls, federation: Federation, *given: Any) -> SettingsForm:
        return cls(*given, initial={name: getattr(federation, name) for name in cls.base_fields})


class _Capabilities(forms.CharField):
    """Words, separated by commas or spaces."""

    def clean(self, value: Any) -> list[str]:
        words = str(super().clean(value)).replace(",", " ").split()
        if any(len(word) > 60 for word in words):
            raise forms.ValidationError("A capability has at most 60 characters.")
        return sorted(set(words))


class _Ids(forms.CharField):
    """Ids, separated by commas or spaces."""

    def clean(self, value: Any) -> list[UUID]:
        try:
            return [UUID(word) for word in str(super().clean(value)).replace(",", " ").split()]
        except ValueError:
            raise forms.ValidationError("Give the ids of tasks.") from None


class AgentForm(forms.Form):
    name = forms.CharField(max_length=120)
    runtime = forms.ChoiceField(
        choices=[
            (Agent.Runtime.MANAGED, "Managed: the product runs its tasks in sandboxes"),
            (Agent.Runtime.REMOTE, "Remote: your own program claims its tasks by the API"),
        ]
    )
    capabilities = _Capabilities(required=False, help_text="Such as: momentum research")
    max_concurrent_tasks = forms.IntegerField(min_value=1, max_value=1000, initial=2)


class TaskForm(forms.Form):
    type = forms.CharField(
        max_length=60, initial="execute", help_text="Managed agents run execute, backtest and strategy."
    )
    payload = forms.CharField(
        required=False,
        widget=forms.Textarea(attrs={**CODE, "rows": 8}),
        initial='{\n  "language": "python",\n  "code": "print(6 * 7)"\n}',
        help_text="JSON.",
    )
    priority = forms.IntegerField(min_value=0, max_value=9, initial=5)
    max_attempts = forms.IntegerField(min_value=1, max_value=100, initial=3)
    required_capabilities = _Capabilities(required=False)
    strategy = forms.ChoiceField(
        required=False, choices=[("", "As the federation"), *STRATEGY_WORDS.items()], help_text="Who gets it."
    )
    deadline = forms.DateTimeField(
        required=False,
        widget=forms.DateTimeInput(attrs={"type": "datetime-local"}, format="%Y-%m-%dT%H:%M"),
        help_text="It ends as expired when it is not done by then.",
    )
    depends_on = _Ids(required=False, help_text="Ids of tasks that must have succeeded before.")
    queue_if_empty = forms.BooleanField(required=False, label="Queue it even when there is no agent")

    def clean_payload(self) -> Any:
        try:
            value = json.loads(self.cleaned_data["payload"] or "{}", parse_constant=_no_constant)
        except (ValueError, RecursionError) as wrong:
            raise forms.ValidationError(f"This is not JSON: {str(wrong)[:200]}") from wrong
        if "\\u0000" in json.dumps(value):
            raise forms.ValidationError("The character U+0000 cannot be kept.")
        return value

    def clean(self) -> dict[str, Any]:
        found = super().clean() or {}
        if found.get("type") in workloads.MANAGED_TYPES and "payload" in found:
            try:
                workloads.execution_arguments(type=found["type"], payload=found["payload"])
            except workloads.BadPayload as bad:
                self.add_error("payload", str(bad))
        return found


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")


class StrategyForm(forms.Form):
    name = forms.CharField(max_length=80, initial="my strategy")
    symbols = forms.MultipleChoiceField(
        choices=[(symbol, symbol) for symbol in shelf.SYMBOLS],
        initial=list(shelf.SYMBOLS),
        widget=forms.CheckboxSelectMultiple,
    )
    code = forms.CharField(
        strip=False,
        initial=TEMPLATE,
        widget=forms.Textarea(attrs=CODE),
        help_text="One function, positions(prices). numpy and pandas are there; there is no network.",
    )

    def clean_code(self) -> str:
        source: str = self.cleaned_data["code"].replace("\r\n", "\n")
        try:
            tree = ast.parse(source)
        except (SyntaxError, ValueError, RecursionError, MemoryError) as wrong:
            line = getattr(wrong, "lineno", None)
            raise forms.ValidationError(f"{getattr(wrong, 'msg', wrong)}{f', line {line}' if line else ''}.") from wrong
        named = [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]
        if "positions" not in named:
            raise forms.ValidationError("Define a function `positions(prices)` at the top level.")
        return source

    def clean(self) -> dict[str, Any]:
        found = super().clean() or {}
        if not self.errors:
            try:
                workloads.execution_arguments(type=workloads.STRATEGY, payload=self.payload())
            except workloads.BadPayload as bad:
                self.add_error(None, str(bad))
        return found

    def payload(self) -> dict[str, Any]:
        return {name: self.cleaned_data[name] for name in ("name", "symbols", "code")}


class MessageForm(forms.Form):
    sender = forms.ChoiceField(label="From")
    recipient = forms.ChoiceField(label="To", required=False)
    type = forms.ChoiceField(choices=[(kind, kind.replace("_", " ")) for kind in MESSAGE_TYPES], initial="custom")
    payload = forms.CharField(required=False, widget=forms.Textarea(attrs={"class": "textarea code", "rows": 3}))
    ttl_seconds = forms.IntegerField(min_value=1, max_value=604_800, initial=300, label="Lives for (seconds)")

    def __init__(self, *given: Any, agents: list[Agent], **named: Any) -> None:
        super().__init__(*given, **named)
        names = [(str(agent.pk), agent.name) for agent in agents]
        self.fields["sender"].choices = names  # type: ignore[attr-defined]
        self.fields["recipient"].choices = [("", "Everyone"), *names]  # type: ignore[attr-defined]

    def clean_payload(self) -> Any:
        """JSON, or else the text itself."""
        text = self.cleaned_data["payload"].strip()
        try:
            return json.loads(text, parse_constant=_no_constant) if text else None
        except (ValueError, RecursionError):
            return text


class TaskFilter(forms.Form):
    """Query parameters of a list; what makes no sense filters nothing."""

    q = forms.CharField(required=False, max_length=200)
    state = forms.ChoiceField(required=False, choices=[("", ""), *Task.State.choices])
    agent = forms.UUIDField(required=False)
    type = forms.CharField(required=False, max_length=60)

    def narrow(self, rows: Any) -> Any:
        self.is_valid()
        found = self.cleaned_data
        if found.get("state"):
            rows = rows.filter(state=found["state"])
        for name, column in (("agent", "assigned_to"), ("type", "type")):
            if found.get(name):
                rows = rows.filter(**{column: found[name]})
        if found.get("q"):
            rows = rows.filter(label__icontains=found["q"]) | rows.filter(type__icontains=found["q"])
        return rows

    @property
    def is_used(self) -> bool:
        return any(self.cleaned_data.values())
