"""What people fill in: a new execution, a pool, the filters of the list."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Any

from django import forms
from django.conf import settings
from django.db.models import Q

from billing.models import Account
from sandboxes import engine, lifecycle, programs
from sandboxes.limits import RANGES, Limits
from sandboxes.models import Pool, Template
from sandboxes.models.pools import RUNTIME_ORDERS, Language
from sandboxes.runtimes import LABELS as RUNTIME_LABELS
from sandboxes.runtimes import LOCAL

EXAMPLE = """\
import statistics

prices = [101.2, 101.9, 100.7, 102.4, 103.1]
returns = [b / a - 1 for a, b in zip(prices, prices[1:])]
print(f"mean return {statistics.mean(returns):+.3%}")
"""
HELLO = {"python": 'print("hello")\n', "node": 'console.log("hello");\n'}
SPANS = (
    ("1h", "Last hour", timedelta(hours=1)),
    ("24h", "Last 24 hours", timedelta(hours=24)),
    ("7d", "Last 7 days", timedelta(days=7)),
    ("30d", "Last 30 days", timedelta(days=30)),
)
PART_OF_ID = re.compile(r"[0-9a-fA-F-]{4,36}")
LABELS = {
    "cpu": "CPU cores",
    "memory_mb": "Memory (MB)",
    "disk_mb": "Disk (MB)",
    "processes": "Processes",
    "output_kb": "Output per stream (KB)",
}

LIFETIMES = [
    (300, "5 minutes"),
    (1800, "30 minutes"),
    (3600, "1 hour"),
    (4 * 3600, "4 hours"),
    (12 * 3600, "12 hours"),
    (24 * 3600, "24 hours"),
]


def _limit_fields() -> dict[str, forms.Field]:
    return {
        name: forms.FloatField(label=LABELS[name], required=False, min_value=low, max_value=high)
        if name == "cpu"
        else forms.IntegerField(label=LABELS[name], required=False, min_value=int(low), max_value=int(high))
        for name, (low, high) in RANGES.items()
    }


def _code_field(rows: int, *, kind: str = "textarea code tall") -> forms.CharField:
    shape = {"class": kind, "rows": rows, "spellcheck": "false", "autocapitalize": "off"}
    return forms.CharField(strip=False, widget=forms.Textarea(shape))


class LimitsForm(forms.Form):
    """Adds a field for each limit; an empty one means the pool's."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        usual = Limits().as_dict()
        for name, field in _limit_fields().items():
            field.widget.attrs["placeholder"] = f"{usual[name]:g}"
            self.fields[name] = field

    @property
    def has_limit_errors(self) -> bool:
        return any(name in self.errors for name in RANGES)

    def limits(self) -> dict[str, float | int]:
        return {name: self.cleaned_data[name] for name in RANGES if self.cleaned_data.get(name) is not None}


class ExecutionForm(LimitsForm):
    name = forms.CharField(required=False, max_length=80, help_text="How you will find it in the list.")
    pool = forms.ModelChoiceField(Pool.objects.none(), empty_label=None, label="Runs in")
    code = _code_field(18)
    input = forms.CharField(
        required=False,
        strip=False,
        label="Standard input",
        widget=forms.Textarea({"class": "textarea code", "rows": 3, "spellcheck": "false"}),
    )
    args = forms.CharField(
        required=False,
        label="Arguments",
        help_text="One a line.",
        widget=forms.Textarea({"class": "textarea code", "rows": 2, "spellcheck": "false"}),
    )
    env = forms.CharField(
        required=False,
        label="Environment",
        help_text="One <code>NAME=value</code> a line.",
        widget=forms.Textarea({"class": "textarea code", "rows": 2, "spellcheck": "false"}),
    )
    timeout_seconds = forms.FloatField(
        label="Time-out (seconds)",
        initial=60,
        min_value=programs.SHORTEST_SECONDS,
        max_value=programs.LONGEST_SECONDS,
    )
    network = forms.BooleanField(
        required=False,
        label="Let it reach the network",
        help_text="Outward only, through the proxy that <code>HTTPS_PROXY</code> names. What goes through is counted.",
    )

    def __init__(self, *args: Any, account: Account, **options: Any) -> None:
        super().__init__(*args, **options)
        pools = Pool.objects.usable_by(account).select_related("template")
        self.fields["pool"].queryset = pools.filter(template__state=Template.State.READY).order_by("-name")
        self.fields["pool"].label_from_instance = _pool_label
        if not settings.SANDBOX_NETWORK:
            del self.fields["network"]

    def clean_env(self) -> dict[str, str]:
        return _variables(self.cleaned_data["env"])

    def request(self) -> dict[str, Any]:
        """What `executions.submit` is asked."""
        said = self.cleaned_data
        return {
            "pool": str(said["pool"].pk),
            "code": _unix_lines(said["code"]),
            "input": _unix_lines(said["input"]) or None,
            "args": said["args"].splitlines(),
            "env": said["env"],
            "timeout_seconds": said["timeout_seconds"],
            "limits": self.limits(),
            "network": said.get("network", False),
            "metadata": {"name": said["name"]} if said["name"] else {},
        }

    def take(self, refused: programs.Refused) -> None:
        """Show each fault where its field is."""
        for name, messages in refused.errors.items():
            field = name.removeprefix("limits.")
            self.add_error(field if field in self.fields else None, messages)


def _variables(text: str) -> dict[str, str]:
    lines = [line for line in text.splitlines() if line.strip()]
    if any("=" not in line for line in lines):
        raise forms.ValidationError("Write each line as NAME=value.")
    pairs = (line.split("=", 1) for line in lines)
    return {name.strip(): value for name, value in pairs}


def _unix_lines(text: str) -> str:
    """Browsers send CRLF, which Node takes and Python too, but line numbers and here-texts do better without."""
    return text.replace("\r\n", "\n")


def _pool_label(pool: Pool) -> str:
    language = Language(pool.template.language).label
    return language if pool.is_built_in else f"{pool.name} ({language})"


def _template_label(template: Template) -> str:
    language = Language(template.language).label
    if template.is_built_in:
        return language
    return f"{template.name} ({language})" if template.state == Template.State.READY else f"{template.name} (building)"


class SandboxForm(LimitsForm):
    name = forms.CharField(required=False, max_length=80, help_text="How you will find it in the list.")
    template = forms.ModelChoiceField(Template.objects.none(), empty_label=None)
    ttl_seconds = forms.TypedChoiceField(label="Lives for", choices=LIFETIMES, coerce=int, initial=3600)
    env = forms.CharField(
        required=False,
        label="Environment",
        help_text="One NAME=value a line, for every execution in it.",
        widget=forms.Textarea({"class": "textarea code", "rows": 3, "spellcheck": "false"}),
    )
    network = forms.BooleanField(required=False, label="Let it reach the network")

    def __init__(self, *args: Any, account: Account, **options: Any) -> None:
        super().__init__(*args, **options)
        usable = Template.objects.usable_by(account).filter(state=Template.State.READY)
        self.fields["template"].queryset = usable.order_by("-name", "pk")
        self.fields["template"].label_from_instance = _template_label
        self.fields["disk_mb"].widget.attrs["placeholder"] = f"{Limits.parse_kept({}).disk_mb}"
        if not settings.SANDBOX_NETWORK:
            del self.fields["network"]

    def clean_env(self) -> dict[str, str]:
        return _variables(self.cleaned_data["env"])

    def request(self) -> dict[str, Any]:
        """What `keeping.open_sandbox` is asked."""
        said = self.cleaned_data
        return {
            "template": str(said["template"].pk),
            "ttl_seconds": said["ttl_seconds"],
            "env": said["env"],
            "limits": self.limits(),
            "network": said.get("network", False),
            "metadata": {"name": said["name"]} if said["name"] else {},
        }

    take = ExecutionForm.take


class LifetimeForm(forms.Form):
    ttl_seconds = forms.TypedChoiceField(
        label="Lives from now on for at least", choices=LIFETIMES, coerce=int, initial=3600
    )


class SandboxCodeForm(forms.Form):
    """Code for a sandbox that is there already: it decides everything else."""

    code = _code_field(8, kind="textarea code")
    timeout_seconds = forms.FloatField(
        label="Time-out (seconds)",
        initial=60,
        min_value=programs.SHORTEST_SECONDS,
        max_value=programs.LONGEST_SECONDS,
    )
    queue = forms.BooleanField(required=False, initial=True, label="Wait in line while it is busy")

    def request(self) -> dict[str, Any]:
        """What `executions.submit` is asked, beside the sandbox."""
        return self.cleaned_data | {"code": _unix_lines(self.cleaned_data["code"])}

    take = ExecutionForm.take


class PoolForm(LimitsForm):
    name = forms.CharField(max_length=80)
    template = forms.ModelChoiceField(Template.objects.none(), empty_label=None)
    min_size = forms.IntegerField(label="Kept ready", initial=2, min_value=0, max_value=1000)
    max_size = forms.IntegerField(label="At once, at most", initial=10, min_value=1, max_value=1000)
    idle_timeout_seconds = forms.IntegerField(
        label="Idle time-out (seconds)", initial=300, min_value=1, max_value=86_400
    )
    max_age_seconds = forms.IntegerField(label="Greatest age (seconds)", initial=3600, min_value=1, max_value=86_400)
    runtimes = forms.ChoiceField(
        required=False, label="Runs on", help_text="Where there are two, an execution takes the first that has room."
    )

    def __init__(self, *args: Any, account: Account, **options: Any) -> None:
        super().__init__(*args, **options)
        usable = Template.objects.usable_by(account).exclude(state=Template.State.FAILED)
        self.fields["template"].queryset = usable.order_by("name", "pk")
        self.fields["template"].label_from_instance = _template_label
        self.fields["runtimes"].choices = _runtime_choices()
        # Where there is no choice nobody is asked, unless the pool was given one that is gone.
        if engine.names() == [LOCAL] and not self.initial.get("runtimes"):
            del self.fields["runtimes"]

    def request(self) -> dict[str, Any]:
        """What `pools.open_pool` and `pools.change_pool` are asked."""
        plain = ("name", "min_size", "max_size", "idle_timeout_seconds", "max_age_seconds")
        asked = {name: self.cleaned_data[name] for name in plain}
        if "runtimes" in self.fields:
            asked["runtimes"] = [name for name in self.cleaned_data["runtimes"].split(",") if name]
        return asked | {"template": str(self.cleaned_data["template"].pk), "limits": self.limits()}


def _runtime_choices() -> list[tuple[str, str]]:
    usual = ", then ".join(RUNTIME_LABELS[name] for name in settings.DEFAULT_RUNTIMES)
    orders = [order for order in RUNTIME_ORDERS if order]
    words = [", then ".join(RUNTIME_LABELS[name] for name in order).capitalize() for order in orders]
    named = [(",".join(order), word) for order, word in zip(orders, words, strict=True)]
    return [("", f"As usual here: {usual}"), *named]


class TemplateForm(forms.Form):
    name = forms.CharField(max_length=80, help_text="What pools and executions call it.")
    language = forms.ChoiceField(choices=Language.choices)
    packages = forms.CharField(
        required=False,
        help_text="One a line, each with an exact version: <code>six==1.17.0</code> for Python, "
        "<code>left-pad@1.3.0</code> or <code>@scope/name@1.2.3</code> for Node.",
        widget=forms.Textarea(
            {"class": "textarea code", "rows": 8, "spellcheck": "false", "autocapitalize": "off", "autocomplete": "off"}
        ),
    )

    def request(self) -> dict[str, Any]:
        """What `templates.create_template` is asked."""
        lines = (line.strip() for line in self.cleaned_data["packages"].splitlines())
        return {
            "name": self.cleaned_data["name"],
            "language": self.cleaned_data["language"],
            "packages_asked": [line for line in lines if line],
        }

    def take(self, refused: programs.Refused) -> None:
        """Show each fault where its field is; a package's with all packages."""
        for name, messages in refused.errors.items():
            field = name.partition(".")[0]
            self.add_error(field if field in self.fields else None, messages)


class FilterForm(forms.Form):
    """What the list can be narrowed to; a strange value narrows nothing."""

    q = forms.CharField(required=False)
    state = forms.ChoiceField(required=False, choices=[(state, state) for state in lifecycle.EXECUTION_STATES])
    language = forms.ChoiceField(required=False, choices=Language.choices)
    pool = forms.ModelChoiceField(Pool.objects.none(), required=False)
    since = forms.ChoiceField(required=False, choices=[(name, label) for name, label, _ in SPANS])

    def __init__(self, *args: Any, account: Account, **options: Any) -> None:
        super().__init__(*args, **options)
        self.fields["pool"].queryset = Pool.objects.usable_by(account).order_by("name", "pk")

    def narrow(self, rows: Any, *, now: datetime) -> Any:
        self.is_valid()
        for name in ("state", "language", "pool"):
            if self.cleaned_data.get(name):
                rows = rows.filter(**{name: self.cleaned_data[name]})
        for name, _, span in SPANS:
            if self.cleaned_data.get("since") == name:
                rows = rows.filter(created_at__gte=now - span)
        text = self.cleaned_data.get("q", "").strip().removeprefix("…")
        return rows.filter(_matches(text)) if text else rows

    @property
    def is_used(self) -> bool:
        return any(self.cleaned_data.get(name) for name in self.fields)


def _matches(text: str) -> Q:
    """A part of its name, agent, error, or id, of which people see and copy the end."""
    match = Q(metadata__name__icontains=text) | Q(error__icontains=text) | Q(agent__icontains=text)
    return match | Q(pk__icontains=text) if PART_OF_ID.fullmatch(text) else match
