"""People and accounts in the admin: read; for people, what staff may set. Money and state are never edited."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import Model
from django.http import HttpRequest

from billing.admin.read_only import ReadOnly
from billing.models import Account, ApiKey, IdempotencyRecord, Invitation, Membership, User


class Members(admin.TabularInline):  # type: ignore[type-arg]
    model = Membership
    fields = ["user", "role", "created_at"]
    extra = 0
    can_delete = False

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(Account)
class AccountAdmin(ReadOnly):
    list_display = ["name", "slug", "status", "currency", "created_at"]
    list_filter = ["status"]
    search_fields = ["name", "slug", "legal_name"]
    inlines = [Members]


@admin.register(User)
class UserAdmin(ReadOnly):
    """Staff may close a login and hand out the staff flag; everything else is the person's own."""

    list_display = ["email", "name", "is_staff", "is_active", "last_login", "created_at"]
    list_filter = ["is_staff", "is_active"]
    search_fields = ["email", "name"]
    fields = ["email", "name", "is_active", "is_staff", "is_superuser", "time_zone", "last_login", "created_at"]
    readonly_fields = ["email", "name", "time_zone", "last_login", "created_at"]

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return bool(request.user.is_superuser)


@admin.register(ApiKey)
class ApiKeyAdmin(ReadOnly):
    list_display = ["name", "hint", "account", "is_staff", "created_at", "expires_at", "revoked_at", "last_used_at"]
    list_filter = ["is_staff"]
    search_fields = ["name", "account__name"]
    list_select_related = ["account"]
    exclude = ["digest"]


@admin.register(Invitation)
class InvitationAdmin(ReadOnly):
    list_display = ["email", "account", "role", "created_at", "expires_at", "accepted_at", "revoked_at"]
    search_fields = ["email", "account__name"]
    list_select_related = ["account"]
    exclude = ["digest"]


@admin.register(IdempotencyRecord)
class IdempotencyRecordAdmin(ReadOnly):
    list_display = ["path", "state", "status", "created_at"]
    list_filter = ["state"]
    exclude = ["body"]
