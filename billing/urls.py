"""Pages, mounted under /o/<account>/."""

from django.urls import path

from billing.views import coins, credits, gateways, invoices, members, methods, paying, payments, staff

app_name = "billing"
# The account itself: members, keys, settings.
account_pages = [
    path("settings/members/", members.members, name="members"),
    path("settings/members/<uuid:pk>/role/", members.member_role, name="member-role"),
    path("settings/members/<uuid:pk>/remove/", members.member_remove, name="member-remove"),
    path("settings/invitations/<uuid:pk>/revoke/", members.invitation_revoke, name="invitation-revoke"),
    path("settings/account/", members.account_settings, name="account"),
    path("developers/api-keys/", members.api_keys, name="api-keys"),
    path("developers/api-keys/<uuid:pk>/revoke/", members.api_key_revoke, name="api-key-revoke"),
]
# Credits, usage, invoices.
money_pages = [
    path("billing/", credits.overview, name="overview"),
    path("billing/usage/", credits.usage, name="usage"),
    path("billing/usage/export.csv", credits.usage_export, name="usage-export"),
    path("billing/credits/", credits.credits, name="credits"),
    path("billing/transactions/<uuid:pk>/", credits.transaction, name="transaction"),
    path("billing/invoices/", invoices.invoices, name="invoices"),
    path("billing/invoices/preview/", invoices.preview, name="invoice-preview"),
    path("billing/invoices/generate/", invoices.generate, name="invoice-generate"),
    path("billing/invoices/<uuid:pk>/", invoices.invoice, name="invoice"),
    path("billing/invoices/<uuid:pk>/finalize/", invoices.finalize, name="invoice-finalize"),
    path("billing/invoices/<uuid:pk>/void/", invoices.void, name="invoice-void"),
    path("billing/invoices/<uuid:pk>/mark-paid/", invoices.mark_paid, name="invoice-mark-paid"),
    path("billing/accounts/", staff.accounts, name="staff-accounts"),
    path("billing/books/", staff.books, name="books"),
    path("billing/adjust/", staff.adjust, name="adjust"),
]
# Money in and back.
payment_pages = [
    path("billing/top-up/", paying.top_up, name="top-up"),
    path("billing/invoices/<uuid:pk>/pay/", paying.pay_invoice, name="invoice-pay"),
    path("billing/payments/", payments.payments, name="payments"),
    path("billing/payments/<uuid:pk>/", payments.payment, name="payment"),
    path("billing/payments/<uuid:pk>/bank/", payments.bank, name="payment-bank"),
    path("billing/payments/<uuid:pk>/ask/", payments.ask, name="payment-ask"),
    path("billing/payments/<uuid:pk>/cancel/", payments.cancel, name="payment-cancel"),
    path("billing/payments/<uuid:pk>/refund/", payments.refund, name="payment-refund"),
    path("billing/payments/<uuid:pk>/send/", coins.send_simulated, name="payment-send"),
    path("billing/transfers/", coins.transfers, name="transfers"),
    path("billing/transfers/<uuid:pk>/resolve/", coins.transfer_resolve, name="transfer-resolve"),
    path("billing/payment-methods/", methods.methods, name="payment-methods"),
    path("billing/payment-methods/<uuid:pk>/default/", methods.method_default, name="payment-method-default"),
    path("billing/payment-methods/<uuid:pk>/remove/", methods.method_remove, name="payment-method-remove"),
    path("billing/auto-top-up/", methods.auto_top_up, name="auto-top-up"),
    path("billing/auto-top-up/end/", methods.auto_top_up_end, name="auto-top-up-end"),
    path("billing/gateways/", gateways.gateways, name="gateways"),
    path("billing/gateways/payments/<uuid:pk>/ask/", gateways.ask, name="gateway-ask"),
    path("billing/gateways/webhooks/<uuid:pk>/", gateways.webhook, name="webhook"),
    path("billing/gateways/webhooks/<uuid:pk>/retry/", gateways.webhook_retry, name="webhook-retry"),
]
urlpatterns = [*account_pages, *money_pages, *payment_pages]
