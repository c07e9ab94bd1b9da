"""Django admin, for looking: state and cost change only through operations."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest

from billing.admin.read_only import ReadOnly
from sandboxes.models import Attempt, Build, Execution, Pool, Sandbox, Template


class Attempts(admin.TabularInline):
    model = Attempt
    extra = 0
    can_delete = False
    fields = ("number", "outcome", "error", "sandbox", "node", "claimed_at", "started_at", "finished_at")
    readonly_fields = fields

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(Execution)
class ExecutionAdmin(ReadOnly):
    list_display = ("id", "account", "state", "language", "attempt", "node", "duration_ms", "cost_ucr", "created_at")
    list_filter = ("state", "language", "breach")
    list_select_related = ("account",)
    search_fields = ("id__exact", "account__slug", "agent")
    exclude = ("stdin",)
    inlines = (Attempts,)

    def get_queryset(self, request: HttpRequest) -> Any:
        rows = super().get_queryset(request)
        is_list = request.resolver_match is not None and request.resolver_match.url_name.endswith("_changelist")
        return rows.light() if is_list else rows


@admin.register(Sandbox)
class SandboxAdmin(ReadOnly):
    list_display = ("id", "account", "template", "state", "node", "expires_at", "cost_ucr", "created_at")
    list_filter = ("state", "node")
    list_select_related = ("account", "template")
    search_fields = ("id__exact", "account__slug")
    # It may hold a customer's secrets.
    exclude = ("env",)


@admin.register(Pool)
class PoolAdmin(ReadOnly):
    list_display = ("name", "account", "template", "min_size", "max_size", "size", "created_at")
    list_select_related = ("account", "template")


@admin.register(Template)
class TemplateAdmin(ReadOnly):
    list_display = ("name", "account", "language", "state", "created_at")
    list_filter = ("language", "state")
    list_select_related = ("account",)


@admin.register(Build)
class BuildAdmin(ReadOnly):
    list_display = ("address", "language", "state", "size_bytes", "attempt", "node", "created_at", "finished_at")
    list_filter = ("language", "state")
    search_fields = ("address",)
