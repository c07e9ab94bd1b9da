"""API endpoints, mounted under /api/v1/."""

from django.urls import path

from billing.api import (
    account,
    bank,
    budgets,
    cards,
    coin_refunds,
    credit_notes,
    disputes,
    invoices,
    ledger,
    payments,
    people,
    prices,
    usage,
    webhooks,
)  # fmt: skip

credits_endpoints = [
    path("account", account.AccountViewSet.as_view({"get": "retrieve", "patch": "partial_update"})),
    path("account/balance", account.AccountViewSet.as_view({"get": "balance"})),
    path("ledger/entries", ledger.EntryViewSet.as_view({"get": "list"})),
    path("ledger/transactions/<uuid:pk>", ledger.TransactionViewSet.as_view({"get": "retrieve"})),
    path("ledger/transactions/<uuid:pk>/reverse", ledger.TransactionViewSet.as_view({"post": "reverse"})),
    path("ledger/transfers", ledger.TransactionViewSet.as_view({"post": "transfer"})),
    path("ledger/verify", ledger.VerifyViewSet.as_view({"get": "retrieve"})),
    path("grants", ledger.GrantViewSet.as_view({"get": "list", "post": "create"})),
    path("holds", ledger.HoldViewSet.as_view({"get": "list", "post": "create"})),
    path("holds/<uuid:pk>", ledger.HoldViewSet.as_view({"get": "retrieve"})),
    path("holds/<uuid:pk>/capture", ledger.HoldViewSet.as_view({"post": "capture"})),
    path("holds/<uuid:pk>/release", ledger.HoldViewSet.as_view({"post": "release"})),
    path("usage", usage.UsageViewSet.as_view({"get": "summary"})),
    path("usage/events", usage.UsageViewSet.as_view({"post": "events"})),
    path("usage/export", usage.UsageViewSet.as_view({"get": "export"})),
    path("prices", usage.PriceViewSet.as_view({"get": "current"})),
    path("prices/what-if", prices.WhatIfViewSet.as_view({"post": "compare"})),
    path("prices/estimate", usage.PriceViewSet.as_view({"post": "estimate"})),
    path("invoices", invoices.InvoiceViewSet.as_view({"get": "list"})),
    path("invoices/preview", invoices.InvoiceViewSet.as_view({"get": "preview"})),
    path("invoices/generate", invoices.InvoiceViewSet.as_view({"post": "generate"})),
    path("invoices/<uuid:pk>", invoices.InvoiceViewSet.as_view({"get": "retrieve"})),
    path("invoices/<uuid:pk>/pdf", invoices.InvoiceViewSet.as_view({"get": "pdf"})),
    path("invoices/<uuid:pk>/csv", invoices.InvoiceViewSet.as_view({"get": "csv"})),
    path("credit-notes", credit_notes.CreditNoteViewSet.as_view({"get": "list", "post": "create"})),
    path("credit-notes/<uuid:pk>", credit_notes.CreditNoteViewSet.as_view({"get": "retrieve"})),
    path("credit-notes/<uuid:pk>/pdf", credit_notes.CreditNoteViewSet.as_view({"get": "pdf"})),
    path("credit-notes/<uuid:pk>/csv", credit_notes.CreditNoteViewSet.as_view({"get": "csv"})),
    path("invoices/<uuid:pk>/finalize", invoices.InvoiceViewSet.as_view({"post": "finalize"})),
    path("invoices/<uuid:pk>/void", invoices.InvoiceViewSet.as_view({"post": "void"})),
    path("invoices/<uuid:pk>/pay", invoices.InvoiceViewSet.as_view({"post": "pay"})),
    path("invoices/<uuid:pk>/mark-paid", invoices.InvoiceViewSet.as_view({"post": "mark_paid"})),
]

# Money in and back.
payment_endpoints = [
    path("topups", payments.PaymentViewSet.as_view({"post": "top_up"})),
    path("payments", payments.PaymentViewSet.as_view({"get": "list"})),
    path("payments/<uuid:pk>", payments.PaymentViewSet.as_view({"get": "retrieve"})),
    path("payments/<uuid:pk>/refunds", payments.PaymentViewSet.as_view({"get": "refunds", "post": "refund"})),
    path("payments/<uuid:pk>/confirm", payments.PaymentViewSet.as_view({"post": "confirm"})),
    path("payments/<uuid:pk>/cancel", payments.PaymentViewSet.as_view({"post": "cancel"})),
    path("payment-methods", payments.MethodViewSet.as_view({"get": "list", "post": "create"})),
    path(
        "payment-methods/<uuid:pk>",
        payments.MethodViewSet.as_view({"get": "retrieve", "patch": "partial_update", "delete": "destroy"}),
    ),
    path("card-setups", cards.CardSetupViewSet.as_view({"get": "list", "post": "create"})),
    path("card-setups/<uuid:pk>", cards.CardSetupViewSet.as_view({"get": "retrieve"})),
    path("disputes", disputes.DisputeViewSet.as_view({"get": "list"})),
    path("disputes/<uuid:pk>", disputes.DisputeViewSet.as_view({"get": "retrieve"})),
    path("disputes/<uuid:pk>/evidence", disputes.DisputeViewSet.as_view({"get": "evidence", "post": "give_evidence"})),
    path("coin-refunds", coin_refunds.CoinRefundViewSet.as_view({"get": "list"})),
    path("coin-refunds/<uuid:pk>", coin_refunds.CoinRefundViewSet.as_view({"get": "retrieve"})),
    path("coin-refunds/<uuid:pk>/sent", coin_refunds.CoinRefundViewSet.as_view({"post": "sent"})),
    path("coin-refunds/<uuid:pk>/fail", coin_refunds.CoinRefundViewSet.as_view({"post": "fail"})),
    path("gateways/<str:name>/webhook", payments.GatewayWebhookView.as_view(), name="gateway-webhook"),
]

# What the bank says, for staff.
bank_endpoints = [
    path("bank/lines", bank.BankViewSet.as_view({"get": "lines"})),
    path("bank/lines/<uuid:pk>", bank.BankViewSet.as_view({"get": "line"})),
    path("bank/matches/<uuid:pk>/undo", bank.BankViewSet.as_view({"post": "undo"})),
]

# Members and keys.
people_endpoints = [
    path("api-keys", people.Keys.as_view({"get": "list", "post": "create"}), name="api-api-keys"),
    path("api-keys/<str:pk>", people.Keys.as_view({"get": "retrieve", "delete": "destroy"}), name="api-api-key"),
    path("members", people.Members.as_view({"get": "list", "post": "create"}), name="api-members"),
    path(
        "members/<str:pk>",
        people.Members.as_view({"get": "retrieve", "patch": "partial_update", "delete": "destroy"}),
        name="api-member",
    ),
    path("invitations", people.Invitations.as_view({"get": "list"}), name="api-invitations"),
    path("invitations/<str:pk>", people.Invitations.as_view({"delete": "destroy"}), name="api-invitation"),
]

# Limits, and what was told of them.
budget_endpoints = [
    path("budgets", budgets.BudgetViewSet.as_view({"get": "list", "post": "create"})),
    path(
        "budgets/<uuid:pk>",
        budgets.BudgetViewSet.as_view({"get": "retrieve", "patch": "partial_update", "delete": "destroy"}),
    ),
    path("alerts", budgets.AlertViewSet.as_view({"get": "list"})),
]

# What customers' own servers are told.
webhook_endpoints = [
    path("webhook-event-types", webhooks.EventTypeViewSet.as_view({"get": "catalogue"})),
    path("webhook-endpoints", webhooks.EndpointViewSet.as_view({"get": "list", "post": "create"})),
    path(
        "webhook-endpoints/<uuid:pk>",
        webhooks.EndpointViewSet.as_view({"get": "retrieve", "patch": "partial_update", "delete": "destroy"}),
    ),
    path("webhook-endpoints/<uuid:pk>/rotate", webhooks.EndpointViewSet.as_view({"post": "rotate"})),
    path("webhook-endpoints/<uuid:pk>/test", webhooks.EndpointViewSet.as_view({"post": "test"})),
    path("webhook-endpoints/<uuid:pk>/replay", webhooks.EndpointViewSet.as_view({"post": "replay"})),
    path("webhook-endpoints/<uuid:pk>/deliveries", webhooks.EndpointViewSet.as_view({"get": "deliveries"})),
    path("webhook-deliveries/<uuid:pk>", webhooks.DeliveryViewSet.as_view({"get": "retrieve"})),
    path("webhook-deliveries/<uuid:pk>/replay", webhooks.DeliveryViewSet.as_view({"post": "replay"})),
]
urlpatterns = [
    *people_endpoints,
    *credits_endpoints,
    *payment_endpoints,
    *bank_endpoints,
    *budget_endpoints,
    *webhook_endpoints,
]
