"""Django admin, for looking: everything here changes only through operations."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from billing.admin.read_only import ReadOnly
from federation.models import (
    Agent,
    Attempt,
    DeadLetter,
    Dependency,
    Event,
    Federation,
    MemoryEntry,
    MemoryNamespace,
    Message,
    Sitting,
    Task,
)


class Attempts(admin.TabularInline):
    model = Attempt
    extra = 0
    can_delete = False
    fields = ("epoch", "agent", "state", "execution", "assigned_at", "started_at", "ended_at", "cost_ucr")
    readonly_fields = fields

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(Federation)
class FederationAdmin(ReadOnly):
    list_display = ("name", "account", "topology", "strategy", "topology_version", "epoch", "created_at", "deleted_at")
    list_filter = ("topology", "strategy")
    list_select_related = ("account",)
    search_fields = ("name", "account__slug")


@admin.register(Agent)
class AgentAdmin(ReadOnly):
    list_display = ("name", "federation", "runtime", "availability", "last_heartbeat_at", "left_at")
    list_filter = ("runtime", "availability")
    list_select_related = ("federation",)
    search_fields = ("name", "federation__name")
    exclude = ("token_digest",)


@admin.register(Task)
class TaskAdmin(ReadOnly):
    list_display = ("id", "federation", "type", "label", "state", "priority", "tries", "created_at")
    list_filter = ("state", "type")
    list_select_related = ("federation",)
    search_fields = ("id__exact", "label", "federation__name")
    inlines = (Attempts,)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Task]:
        rows: Any = super().get_queryset(request)
        match = request.resolver_match
        return rows.light() if match and str(match.url_name).endswith("_changelist") else rows


@admin.register(Sitting)
class SittingAdmin(ReadOnly):
    list_display = ("started_at", "agent", "taken", "done", "failed", "ended_at", "cost_ucr")
    list_select_related = ("agent",)
    search_fields = ("agent__name", "agent__federation__name")


@admin.register(Message)
class MessageAdmin(ReadOnly):
    list_display = ("id", "federation", "type", "recipients", "delivered", "expired", "dead", "created_at")
    list_filter = ("type",)
    list_select_related = ("federation",)


@admin.register(DeadLetter)
class DeadLetterAdmin(ReadOnly):
    list_display = ("id", "federation", "kind", "reason", "created_at", "replayed_at")
    list_filter = ("reason",)
    list_select_related = ("federation",)


@admin.register(Event)
class EventAdmin(ReadOnly):
    list_display = ("created_at", "federation", "kind", "text")
    list_filter = ("kind",)
    list_select_related = ("federation",)


@admin.register(Dependency)
class DependencyAdmin(ReadOnly):
    list_display = ("task", "needs", "federation")
    list_select_related = ("task", "needs", "federation")
    search_fields = ("task__id__exact", "needs__id__exact")


@admin.register(MemoryNamespace)
class MemoryNamespaceAdmin(ReadOnly):
    list_display = ("name", "federation", "entries", "bytes", "dimension", "metric")
    list_select_related = ("federation",)
    search_fields = ("name", "federation__name")


@admin.register(MemoryEntry)
class MemoryEntryAdmin(ReadOnly):
    list_display = ("key", "namespace", "version", "bytes", "expires_at", "updated_at")
    list_select_related = ("namespace",)
    search_fields = ("key", "namespace__name", "namespace__federation__name")
    # A thousand numbers say nothing to a person.
    exclude = ("embedding",)
