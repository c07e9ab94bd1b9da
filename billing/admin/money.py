"""The ledger, usage and invoices in Django's admin: to look at, never to change."""

from __future__ import annotations

from typing import Any

from django.contrib import admin

from billing.admin.read_only import ReadOnly
from billing.models import (
    Entry,
    Grant,
    GrantConsumption,
    Hold,
    Invoice,
    InvoiceLine,
    LedgerAccount,
    Price,
    PriceBook,
    Transaction,
    UsageRecord,
)


def _look_at(
    model: Any, columns: tuple[str, ...], *, filters: tuple[str, ...] = (), search: tuple[str, ...] = ()
) -> None:
    related = tuple(name for name in columns if model._meta.get_field(name).is_relation)
    parts = {
        "list_display": columns,
        "list_filter": filters,
        "search_fields": search,
        "list_select_related": related or False,
    }
    admin.site.register(model, type(f"{model.__name__}Admin", (ReadOnly,), parts))


_look_at(
    LedgerAccount,
    ("code", "kind", "posted_ucr", "held_ucr", "debt_ucr", "floor_ucr"),
    filters=("kind",),
    search=("code",),
)
_look_at(Transaction, ("id", "kind", "account", "source", "key", "created_at"), filters=("kind",), search=("id", "key"))
_look_at(
    Entry, ("id", "transaction", "ledger_account", "amount_ucr", "line", "created_at"), search=("transaction__id",)
)
_look_at(
    Grant, ("id", "account", "category", "priority", "amount_ucr", "remaining_ucr", "expires_at"), filters=("category",)
)
_look_at(GrantConsumption, ("id", "grant", "transaction", "amount_ucr"))
_look_at(
    Hold, ("id", "account", "state", "amount_ucr", "captured_ucr", "expires_at"), filters=("state",), search=("key",)
)
_look_at(
    UsageRecord,
    ("id", "account", "meter", "quantity", "cost_ucr", "occurred_at"),
    filters=("meter", "late"),
    search=("key",),
)
_look_at(PriceBook, ("name", "version", "account", "valid_from"))
_look_at(Price, ("book", "meter", "shape", "amount_ucr", "per"), filters=("meter",))
_look_at(
    Invoice,
    ("number", "account", "state", "total", "amount_due", "period_start"),
    filters=("state",),
    search=("number",),
)
_look_at(InvoiceLine, ("invoice", "meter", "quantity", "cost_ucr", "amount"))
