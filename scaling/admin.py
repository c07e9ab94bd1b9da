"""Read-only: nodes report, groups decide, balancers pick; nobody edits that by hand."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest

from scaling.models import Balancer, Decision, Group, Lease, Node, StatusChange


class ReadOnly(admin.ModelAdmin):  # type: ignore[type-arg]
    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(Node)
class NodeAdmin(ReadOnly):
    list_display = ("name", "status", "role", "region", "draining", "last_seen_at")
    list_filter = ("status", "role", "region", "draining")
    search_fields = ("name",)
    exclude = ("token_digest",)
    ordering = ("name",)


@admin.register(StatusChange)
class StatusChangeAdmin(ReadOnly):
    list_display = ("at", "node", "before", "after", "reason")
    list_filter = ("after",)
    list_select_related = ("node",)
    ordering = ("-at", "-id")


@admin.register(Group)
class GroupAdmin(ReadOnly):
    list_display = ("name", "target_type", "target_id", "policy_type", "min_size", "max_size", "paused")
    ordering = ("name",)


@admin.register(Decision)
class DecisionAdmin(ReadOnly):
    list_display = ("created_at", "group", "action", "current", "recommended", "applied", "limited_by", "by")
    list_filter = ("action", "limited_by")
    list_select_related = ("group",)
    ordering = ("-created_at", "-id")


@admin.register(Balancer)
class BalancerAdmin(ReadOnly):
    list_display = ("name", "strategy", "role", "region")
    ordering = ("name",)


@admin.register(Lease)
class LeaseAdmin(ReadOnly):
    list_display = ("name", "holder", "epoch", "expires_at")
    ordering = ("name",)
