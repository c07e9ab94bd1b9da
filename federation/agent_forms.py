"""What people type of agents: a form for each runtime, and the editor of a handler. No writes."""

from __future__ import annotations

import shlex
from typing import Any

from django import forms

from federation.forms import CODE, EDITOR, Words
from federation.models import Agent, Handler, McpServer
from sandboxes.models import Template

HANDLER = '''def handle(payload):
    """payload: what the task was given. What you return is its result; it must be JSON."""
    return {"doubled": 2 * payload["n"]}


def on_message(message):
    """Leave this out, and messages wait in the inbox. What you return goes back to the sender; None: nothing does."""
    return {"heard": message["payload"]}
'''
SERVER = '''from mcp.server.mcpserver import MCPServer

server = MCPServer("tools")


@server.tool()
def add(a: int, b: int) -> int:
    """Adds two numbers."""
    return a + b


server.run("stdio")
'''


class AgentChangeForm(forms.Form):
    """What every agent has, and may change."""

    name = forms.CharField(max_length=120)
    capabilities = Words(required=False, help_text="Such as: momentum research")
    max_concurrent_tasks = forms.IntegerField(min_value=1, max_value=1000, initial=2, label="Tasks at once")
    weight = forms.IntegerField(min_value=0, max_value=1_000_000, initial=1, help_text="Its weight in votes.")
    region = forms.CharField(max_length=60, required=False)

    @classmethod
    def of(cls, agent: Agent, *given: Any) -> AgentChangeForm:
        initial = {name: getattr(agent, name) for name in cls.base_fields}
        return cls(*given, initial=initial | {"capabilities": " ".join(agent.capabilities)})


class AgentForm(forms.Form):
    """What every new agent is asked; weight and region can be given later."""

    runtime: str
    name = forms.CharField(max_length=120)
    capabilities = Words(required=False, help_text="Such as: momentum research")
    max_concurrent_tasks = forms.IntegerField(min_value=1, max_value=1000, initial=2, label="Tasks at once")

    def __init__(self, *given: Any, account: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        if "template" in self.fields:
            usable = Template.objects.usable_by(account).filter(language="python", state=Template.State.READY)
            names = usable.order_by("name").values_list("name", flat=True)
            self.fields["template"].choices = [(name, name) for name in names]

    def asked(self) -> dict[str, Any]:
        """The keyword arguments of `coordination.add_agent`."""
        names = ("name", "capabilities", "max_concurrent_tasks")
        return {"runtime": self.runtime, **{name: self.cleaned_data[name] for name in names}}

    def blame(self, errors: dict[str, str]) -> None:
        """What the operation refused, at the field that says it."""
        for name, words in errors.items():
            self.add_error(name if name in self.fields else None, words)


class RemoteForm(AgentForm):
    runtime = Agent.Runtime.REMOTE


class HandlerForm(AgentForm):
    """The editor: what a handler is and within what it runs."""

    code = forms.CharField(strip=False, widget=forms.Textarea(attrs=EDITOR), label="Handler")
    types = Words(
        required=False, help_text="Task types it handles, such as: price risk. Empty: every type of your own."
    )
    template = forms.ChoiceField(initial="python", help_text="What its sandbox starts from.")
    timeout_seconds = forms.FloatField(min_value=1, max_value=3600, initial=60, label="Time-out (seconds)")
    memory_mb = forms.IntegerField(min_value=16, max_value=16_384, initial=512, label="Memory (MB)")
    network = forms.BooleanField(required=False, label="It may use the network")

    def handler(self) -> dict[str, Any]:
        names = ("types", "template", "timeout_seconds", "network")
        code = self.cleaned_data["code"].replace("\r\n", "\n")
        limits = {"memory_mb": self.cleaned_data["memory_mb"]}
        return {"code": code, "limits": limits, **{name: self.cleaned_data[name] for name in names}}


class ManagedForm(HandlerForm):
    runtime = Agent.Runtime.MANAGED
    template = forms.ChoiceField(initial="python", required=False)
    timeout_seconds = forms.FloatField(
        min_value=1, max_value=3600, initial=60, required=False, label="Time-out (seconds)"
    )
    memory_mb = forms.IntegerField(min_value=16, max_value=16_384, initial=512, required=False, label="Memory (MB)")
    code = forms.CharField(
        strip=False,
        required=False,
        label="Handler",
        widget=forms.Textarea(attrs={**CODE, "rows": 12, "placeholder": HANDLER}),
        help_text="For tasks of your own types. Without one it does execute, backtest, strategy, train and infer.",
    )

    def asked(self) -> dict[str, Any]:
        if not self.cleaned_data["code"].strip():
            return super().asked()
        given = {name: value for name, value in self.handler().items() if value not in ("", None)}
        if self.cleaned_data["memory_mb"] is None:
            given["limits"] = {}
        return {**super().asked(), "handler": given}


class HandlerEditor(HandlerForm):
    """Of an agent that is there."""

    name = capabilities = max_concurrent_tasks = None

    @classmethod
    def of(cls, agent: Agent, shown: Handler | None, *given: Any) -> HandlerEditor:
        initial = {"code": HANDLER}
        if shown is not None:
            names = ("code", "template", "timeout_seconds", "network")
            initial = {name: getattr(shown, name) for name in names} | {"types": " ".join(shown.types)}
            initial["memory_mb"] = shown.limits.get("memory_mb", 512)
        return cls(*given, account=agent.federation.account, initial=initial)


class Unshown(forms.Textarea):
    """Takes secrets, and gives none back: also not with the errors of a form."""

    def __init__(self) -> None:
        super().__init__({"class": "textarea code", "rows": 3, "spellcheck": "false", "autocomplete": "off"})

    def format_value(self, value: Any) -> str:
        return ""


class McpForm(AgentForm):
    runtime = Agent.Runtime.MCP
    capabilities = Words(required=False, help_text="Beside its tools, whose names are added by themselves.")
    url = forms.CharField(
        required=False, max_length=500, label="Address", help_text="Of a server over streamable HTTP: https://..."
    )
    command = forms.CharField(
        required=False,
        max_length=2000,
        help_text="Or a command that speaks over stdin and stdout, in a sandbox.",
    )
    code = forms.CharField(
        strip=False,
        required=False,
        label="server.py",
        widget=forms.Textarea(attrs={**CODE, "rows": 12, "placeholder": SERVER}),
        help_text="A file beside the command, if it needs one: python server.py",
    )
    template = forms.ChoiceField(required=False, initial="python", help_text="What its sandbox starts from.")
    network = forms.BooleanField(required=False, label="The command may use the network")
    timeout_seconds = forms.FloatField(min_value=1, max_value=300, initial=30, label="Longest answer (seconds)")
    secrets = forms.CharField(
        strip=False,
        required=False,
        widget=Unshown,
        help_text="One a line. For an address, headers: <code>Authorization: Bearer …</code> For a command, variables: "
        "<code>API_KEY=…</code> They are kept sealed and never shown again.",
    )

    def clean_command(self) -> list[str]:
        try:
            return shlex.split(self.cleaned_data["command"])
        except ValueError as wrong:
            raise forms.ValidationError(f"This is no command: {wrong}.") from wrong

    def asked(self) -> dict[str, Any]:
        return {**super().asked(), "mcp": self.server()}

    def clean(self) -> dict[str, Any]:
        """The secrets as they are asked of the server: `headers` or `env`, by name."""
        found: dict[str, Any] = super().clean() or {}
        sign, kind = (":", "headers") if found.get("url") else ("=", "env")
        said: dict[str, str | None] = {}
        for number, line in enumerate(found.get("secrets", "").splitlines(), start=1):
            name, has_sign, value = line.partition(sign)
            if line.strip() and not (has_sign and name.strip()):
                self.add_error("secrets", f"Line {number} is no name{sign}value.")
            elif line.strip():
                said[name.strip()] = value.strip()
        found["secrets"] = {kind: said}
        return found

    def server(self) -> dict[str, Any]:
        """What `servers.change` is asked."""
        found = self.cleaned_data
        mcp: dict[str, Any] = {"timeout_seconds": found["timeout_seconds"], "template": found["template"] or "python"}
        if found["url"]:
            mcp["url"] = found["url"].strip()
        if found["command"]:
            code = found["code"].replace("\r\n", "\n")
            mcp |= {"command": found["command"], "files": {"server.py": code} if code.strip() else {}}
            mcp["network"] = found["network"]
        return mcp | {kind: said for kind, said in found["secrets"].items() if said}

    def blame(self, errors: dict[str, str]) -> None:
        shown = {"headers": "secrets", "env": "secrets", "files": "code"}
        super().blame({shown.get(name, name): words for name, words in errors.items()})


class McpEditor(McpForm):
    """Of an agent that is there. Secrets that are not named stay."""

    name = capabilities = max_concurrent_tasks = None
    forgotten = forms.MultipleChoiceField(
        required=False,
        widget=forms.CheckboxSelectMultiple,
        label="Forget",
        help_text="Secrets it has and needs no more.",
    )

    @classmethod
    def of(cls, agent: Agent, *given: Any) -> McpEditor:
        server: McpServer = agent.mcp
        code = server.files.get("server.py", "")
        initial = {name: getattr(server, name) for name in ("url", "template", "network", "timeout_seconds")}
        initial |= {"command": shlex.join(server.command), "code": code if isinstance(code, str) else ""}
        made = cls(*given, account=agent.federation.account, initial=initial)
        made.kept, names = server.files, sorted(server.secrets)
        made.fields["forgotten"].choices = [(name, name) for name in names]
        if not names:
            del made.fields["forgotten"]
        made.fields["secrets"].help_text += " Those not named here stay as they are."
        return made

    def clean(self) -> dict[str, Any]:
        found = super().clean()
        if not (self.errors or found["url"] or found["command"]):
            self.add_error(None, "Give either the address of the server, or its command.")
        return found

    def server(self) -> dict[str, Any]:
        asked = super().server()
        if "files" in asked:
            others = {path: content for path, content in self.kept.items() if path != "server.py"}
            asked["files"] = others | asked["files"]
        forgotten = dict.fromkeys(self.cleaned_data.get("forgotten", ()))
        for kind, said in self.cleaned_data["secrets"].items():
            if forgotten or said:
                asked[kind] = forgotten | said
        return asked


FORMS: dict[str, type[AgentForm]] = {form.runtime: form for form in (ManagedForm, RemoteForm, McpForm)}
WORDS = {
    "managed": "The product runs its tasks in sandboxes.",
    "remote": "Your own program claims its tasks, over the API or a WebSocket.",
    "mcp": "An MCP server: its tools are what it can do.",
}
