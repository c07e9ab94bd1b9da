"""The ledger, usage, invoices and payments in Django's admin: to look at, never to change."""

from __future__ import annotations

from typing import Any

from django.contrib import admin

from billing.admin.read_only import ReadOnly
from billing.models import (
    AutoTopUp,
    BankLine,
    BankMatch,
    BankReturn,
    BankStatement,
    BankTransfer,
    CardSetup,
    CoinQuote,
    CoinTransfer,
    CreditNote,
    CreditNoteLine,
    Entry,
    GatewayWebhook,
    Grant,
    GrantConsumption,
    Hold,
    Invoice,
    InvoiceLine,
    LedgerAccount,
    Payment,
    PaymentEvent,
    PaymentMethod,
    Price,
    PriceBook,
    PriceDraft,
    Refund,
    StripeCustomer,
    Transaction,
    UsageRecord,
    X402Authorization,
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
_look_at(PriceBook, ("name", "version", "account", "valid_from", "valid_until"))
_look_at(PriceDraft, ("name", "account", "version", "changed_at"))
_look_at(Price, ("book", "meter", "shape", "amount_ucr", "per"), filters=("meter",))
_look_at(
    Invoice,
    ("number", "account", "state", "total", "amount_due", "period_start"),
    filters=("state",),
    search=("number",),
)
_look_at(InvoiceLine, ("invoice", "meter", "quantity", "cost_ucr", "amount"))
_look_at(
    CreditNote,
    ("number", "account", "invoice", "total", "due_reduced", "refund_amount", "granted"),
    filters=("refund_is_due",),
    search=("number",),
)
_look_at(CreditNoteLine, ("note", "line", "amount"))
_look_at(StripeCustomer, ("account", "customer_id", "created_at"), search=("customer_id",))
_look_at(CardSetup, ("id", "account", "state", "method", "created_at", "ended_at"), filters=("state",))
_look_at(PaymentMethod, ("label", "account", "gateway", "is_default", "removed_at"), search=("label",))
_look_at(
    Payment,
    ("id", "account", "purpose", "state", "amount", "captured", "refunded", "gateway", "created_at"),
    filters=("state", "purpose", "gateway"),
    search=("id", "gateway_ref"),
)
_look_at(Refund, ("id", "payment", "state", "amount", "credits_ucr", "created_at"), filters=("state",))
_look_at(PaymentEvent, ("payment", "source", "state", "effect", "created_at"), filters=("source", "effect"))
_look_at(GatewayWebhook, ("id", "gateway", "type", "state", "attempts", "received_at"), filters=("state", "gateway"))
_look_at(CoinQuote, ("id", "network", "address", "units", "said", "expires_at"), search=("reference", "address"))
_look_at(CoinTransfer, ("id", "quote", "units", "state", "why", "seen_at"), filters=("state",), search=("tx_hash",))
_look_at(X402Authorization, ("id", "account", "scheme", "payer", "units", "state"), search=("payer", "tx_hash"))
_look_at(AutoTopUp, ("account", "threshold_ucr", "credits_ucr", "method", "paused_until"))
_look_at(BankTransfer, ("id", "key", "amount", "received", "currency", "created_at"), search=("key",))
_look_at(BankStatement, ("name", "iban", "new", "known", "skipped", "actor", "created_at"))
_look_at(BankLine, ("id", "booked_on", "amount", "matched", "currency", "payer_name"), search=("text", "bank_ref"))
_look_at(BankMatch, ("id", "line", "kind", "transfer", "amount", "actor", "created_at"), filters=("kind",))
_look_at(BankReturn, ("id", "amount", "currency", "payer_name", "state", "sent_by", "created_at"), filters=("state",))
