"""What was told to customers, and what of money did not come: to look at, without the secrets that sign."""

from __future__ import annotations

from django.contrib import admin

from billing.admin.read_only import ReadOnly
from billing.models import Alert, Budget, Dispute, DunningStep, OutgoingEvent, WebhookDelivery, WebhookEndpoint


@admin.register(WebhookEndpoint)
class WebhookEndpointAdmin(ReadOnly):
    list_display = ["url", "account", "off", "failing_since", "is_operator", "created_at"]
    list_filter = ["off", "is_operator"]
    search_fields = ["url", "account__name"]
    list_select_related = ["account"]
    exclude = ["secret", "old_secret"]


@admin.register(OutgoingEvent)
class OutgoingEventAdmin(ReadOnly):
    list_display = ["id", "type", "account", "created_at"]
    list_filter = ["type"]
    list_select_related = ["account"]


@admin.register(WebhookDelivery)
class WebhookDeliveryAdmin(ReadOnly):
    list_display = ["id", "event", "endpoint", "state", "attempts", "status", "due_at", "finished_at"]
    list_filter = ["state", "is_replay"]
    list_select_related = ["event", "endpoint"]


@admin.register(Budget)
class BudgetAdmin(ReadOnly):
    list_display = ["account", "scope", "target", "period", "limit_ucr", "action"]
    list_filter = ["scope", "period", "action"]
    list_select_related = ["account"]


@admin.register(Alert)
class AlertAdmin(ReadOnly):
    list_display = ["account", "kind", "budget", "threshold", "amount_ucr", "limit_ucr", "created_at", "told_at"]
    list_filter = ["kind"]
    list_select_related = ["account", "budget"]


@admin.register(DunningStep)
class DunningStepAdmin(ReadOnly):
    list_display = ["invoice", "days", "suspended", "created_at"]
    list_filter = ["days"]
    list_select_related = ["invoice"]


@admin.register(Dispute)
class DisputeAdmin(ReadOnly):
    list_display = ["id", "account", "payment", "state", "amount", "credits_ucr", "created_at", "settled_at"]
    list_filter = ["state", "gateway"]
    list_select_related = ["account", "payment"]
