"""The MCP servers that agents are: where each is, and the tools it had when it was last asked."""

from __future__ import annotations

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q
from uuid_utils.compat import uuid7

from federation.models.federations import Agent
from sandboxes.models import Execution


class McpServer(models.Model):
    """At an address (streamable HTTP), or a command that speaks over standard input and output in a sandbox."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    agent = models.OneToOneField(Agent, on_delete=models.CASCADE, related_name="mcp")
    url = models.CharField(max_length=500, blank=True)
    command = ArrayField(models.CharField(max_length=1000), default=list, blank=True)
    files = models.JSONField(default=dict, blank=True)
    # Headers of an address or variables of a command, by name: each sealed (`sandboxes.sealing`).
    secrets = models.JSONField(default=dict, blank=True)
    template = models.CharField(max_length=80, default="python")
    network = models.BooleanField(default=False)
    timeout_seconds = models.FloatField(default=30)
    # [{name, description, input_schema}]; None until it was asked.
    tools = models.JSONField(null=True, blank=True)
    tools_read_at = models.DateTimeField(null=True, blank=True)
    # Why its tools could not be read the last time; empty when they could.
    error = models.TextField(blank=True)
    asked_at = models.DateTimeField(null=True, blank=True)
    # The execution that reads the tools of a command at present.
    reading = models.OneToOneField(Execution, on_delete=models.SET_NULL, null=True, blank=True, related_name="+")

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(url="", command__len__gte=1) | (~Q(url="") & Q(command__len=0)),
                name="an_mcp_server_has_an_address_or_a_command",
            ),
            models.CheckConstraint(
                condition=Q(timeout_seconds__gte=1, timeout_seconds__lte=300), name="mcp_server_timeout"
            ),
        ]

    def __str__(self) -> str:
        return self.url or " ".join(self.command)

    @property
    def is_remote(self) -> bool:
        return bool(self.url)

    @property
    def headers(self) -> list[str]:
        """Names of the secret headers it is asked with."""
        return sorted(self.secrets) if self.url else []

    @property
    def env(self) -> list[str]:
        """Names of the secret variables it is started with."""
        return [] if self.url else sorted(self.secrets)
