"""What people type: shapes and cleaning, no writes."""

from __future__ import annotations

import ast
import json
from typing import Any
from uuid import UUID

from django import forms

from federation import topology, workloads
from federation.models import Agent, Event, Federation, Task
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
    topology.ADAPTIVE: "Adaptive: what costs least for its traffic",
}
STRATEGY_WORDS = {
    "round_robin": "Round robin: in turn",
    "least_loaded": "Least loaded: who has most room",
    "capability_match": "Capability match: the least over-qualified",
    "random": "Random",
    "priority": "Priority: urgent tasks on the freest agent",
}
DELIVERY_WORDS = {
    "logical": "Logical: straight into the recipient's inbox",
    "relayed": "Relayed: through the inboxes of those on the way",
}
CODE = {"class": "textarea code", "rows": 18, "spellcheck": "false", "autocapitalize": "off"}
# Where writing code is what the page is for.
EDITOR = {**CODE, "class": "textarea code tall"}


class FederationForm(forms.Form):
    name = forms.CharField(max_length=120)
    topology = forms.ChoiceField(choices=list(SHAPE_WORDS.items()))
    strategy = forms.ChoiceField(choices=list(STRATEGY_WORDS.items()), help_text="Who gets the next task.")
    max_agents = forms.IntegerField(min_value=1, max_value=2000, label="Agents at most")


class SettingsForm(FederationForm):
    """Shape and strategy, limits, timings."""

    GROUPS = (
        ("Wiring", ("name", "topology", "fan_out", "strategy")),
        ("Messages", ("delivery", "max_hops", "inbox_limit")),
        ("Limits", ("max_agents",)),
        (
            "Timings",
            ("heartbeat_seconds", "agent_timeout_seconds", "lease_seconds", "ageing_seconds", "redelivery_seconds"),
        ),
    )
    redelivery_seconds = forms.IntegerField(
        min_value=1,
        max_value=3600,
        label="Redelivery (seconds)",
        help_text="A message that is not acknowledged is offered again after this time.",
    )
    fan_out = forms.IntegerField(
        min_value=2, max_value=64, label="Fan-out", help_text="Children of each member of a hierarchy."
    )
    lease_seconds = forms.IntegerField(
        min_value=2,
        max_value=3600,
        label="Lease (seconds)",
        help_text="How long a remote agent may keep a task without a sign of life.",
    )
    ageing_seconds = forms.IntegerField(
        min_value=1,
        max_value=86_400,
        label="Ageing (seconds)",
        help_text="A waiting task gains one step of priority in this time.",
    )
    heartbeat_seconds = forms.IntegerField(
        min_value=1,
        max_value=300,
        label="Heartbeat (seconds)",
        help_text="How often agents say they are alive. A leader that misses two is replaced.",
    )
    agent_timeout_seconds = forms.IntegerField(
        min_value=2,
        max_value=3600,
        label="Agent time-out (seconds)",
        help_text="An agent that is silent for longer is lost.",
    )
    inbox_limit = forms.IntegerField(min_value=1, max_value=1_000_000, help_text="Messages an inbox takes.")
    delivery = forms.ChoiceField(choices=list(DELIVERY_WORDS.items()))
    max_hops = forms.IntegerField(
        min_value=0,
        max_value=1000,
        label="Hops at most",
        help_text="Links a message may go over; 0 is no limit, or 5 where relayed.",
    )

    @classmethod
    def of(cls, federation: Federation, *given: Any) -> SettingsForm:
        return cls(*given, initial={name: getattr(federation, name) for name in cls.base_fields})

    def groups(self) -> list[tuple[str, list[Any]]]:
        return [(title, [self[name] for name in names]) for title, names in self.GROUPS]

    def words(self) -> list[tuple[str, Any]]:
        """For those who may only read: what each field is called, and says."""
        chosen = {name: dict(getattr(field, "choices", ())) for name, field in self.fields.items()}
        return [(bound.label, chosen[bound.name].get(bound.initial, bound.initial)) for bound in self]

    def clean(self) -> dict[str, Any]:
        found = super().clean() or {}
        beat, timeout = found.get("heartbeat_seconds"), found.get("agent_timeout_seconds")
        if beat and timeout and timeout <= beat:
            self.add_error("agent_timeout_seconds", f"Give more than the {beat} s between two heartbeats.")
        return found


class Words(forms.CharField):
    """Words, separated by commas or spaces."""

    def clean(self, value: Any) -> list[str]:
        words = str(super().clean(value)).replace(",", " ").split()
        if any(len(word) > 60 for word in words):
            raise forms.ValidationError("A capability has at most 60 characters.")
        return sorted(set(words))


SAMPLES = {
    "execute": '{\n  "language": "python",\n  "code": "print(6 * 7)"\n}',
    "train": '{\n  "model": "ridge",\n  "horizon": 5\n}',
    "backtest": '{\n  "strategy": "momentum",\n  "parameters": {"lookback": 126, "top": 1}\n}',
    "mcp.tool": '{\n  "tool": "add",\n  "arguments": {"a": 20, "b": 22}\n}',
}


class _Ids(forms.CharField):
    """Ids, separated by commas or spaces."""

    def clean(self, value: Any) -> list[UUID]:
        try:
            return [UUID(word) for word in str(super().clean(value)).replace(",", " ").split()]
        except ValueError:
            raise forms.ValidationError("Give the ids of tasks.") from None


class TaskForm(forms.Form):
    type = forms.CharField(
        max_length=60,
        initial="execute",
        help_text="execute, backtest, strategy, train, infer, mcp.tool, or one of your own.",
    )
    payload = forms.CharField(
        required=False,
        widget=forms.Textarea(attrs={**CODE, "rows": 8}),
        initial=SAMPLES["execute"],
        help_text="JSON: what the agent gets.",
    )
    priority = forms.IntegerField(min_value=0, max_value=9, initial=5, help_text="9 is most urgent.")
    max_attempts = forms.IntegerField(min_value=1, max_value=100, initial=3, label="Attempts at most")
    required_capabilities = Words(required=False, help_text="Only an agent with all of these gets it.")
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
            value = json.loads(self.cleaned_data["payload"] or "{}", parse_constant=no_constant)
        except (ValueError, RecursionError) as wrong:
            raise forms.ValidationError(f"This is not JSON: {str(wrong)[:200]}") from wrong
        if "\\u0000" in json.dumps(value):
            raise forms.ValidationError("The character U+0000 cannot be kept.")
        return value

    def clean(self) -> dict[str, Any]:
        found = super().clean() or {}
        if found.get("type") in workloads.MANAGED_TYPES and "payload" in found:
            try:
                workloads.check(type=found["type"], payload=found["payload"])
            except workloads.BadPayload as bad:
                self.add_error("payload", str(bad))
        return found


def no_constant(name: str) -> None:
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
        widget=forms.Textarea(attrs=EDITOR),
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


class AgentFilter(forms.Form):
    """Query parameters of a list; what makes no sense filters nothing."""

    q = forms.CharField(required=False, max_length=100)
    status = forms.ChoiceField(required=False, choices=[("", ""), *((each, each) for each in Agent.MARKS)])
    runtime = forms.ChoiceField(required=False, choices=[("", ""), *Agent.Runtime.choices])
    capability = forms.CharField(required=False, max_length=60)

    def narrow(self, rows: Any) -> Any:
        self.is_valid()
        found = self.cleaned_data
        if found.get("status"):
            rows = rows.in_status(found["status"])
        if found.get("runtime"):
            rows = rows.filter(runtime=found["runtime"])
        if found.get("capability"):
            rows = rows.filter(capabilities__contains=[found["capability"]])
        if found.get("q"):
            rows = rows.filter(name__icontains=found["q"]) | rows.filter(capabilities__contains=[found["q"]])
        return rows

    @property
    def is_used(self) -> bool:
        return any(self.cleaned_data.values())


class EventFilter(forms.Form):
    """Query parameters of a list; what makes no sense filters nothing."""

    q = forms.CharField(required=False, max_length=200)
    kind = forms.ChoiceField(required=False, choices=[("", ""), *Event.Kind.choices])

    def narrow(self, rows: Any) -> Any:
        self.is_valid()
        found = self.cleaned_data
        if found.get("kind"):
            rows = rows.filter(kind=found["kind"])
        if found.get("q"):
            rows = rows.filter(text__icontains=found["q"])
        return rows

    @property
    def is_used(self) -> bool:
        return any(self.cleaned_data.values())


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
