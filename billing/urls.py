"""Pages, mounted under /o/<account>/."""

from django.urls import path

from billing.views import (
    arrears,
    bank,
    budgets,
    coin_refunds,
    coins,
    credit_notes,
    credits,
    gateways,
    invoices,
    members,
    methods,
    oversight,
    paying,
    payments,
    prices,
    staff,
    webhooks,
)

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
webhook_pages = [
    path("developers/webhooks/", webhooks.webhooks, name="webhooks"),
    path("developers/webhook-endpoints/<uuid:pk>/", webhooks.endpoint, name="endpoint"),
    path("developers/webhook-endpoints/<uuid:pk>/change/", webhooks.change, name="endpoint-change"),
    path("developers/webhook-endpoints/<uuid:pk>/rotate/", webhooks.rotate, name="endpoint-rotate"),
    path("developers/webhook-endpoints/<uuid:pk>/switch/", webhooks.switch, name="endpoint-switch"),
    path("developers/webhook-endpoints/<uuid:pk>/test/", webhooks.test, name="endpoint-test"),
    path("developers/webhook-endpoints/<uuid:pk>/replay/", webhooks.replay, name="endpoint-replay"),
    path("developers/webhook-endpoints/<uuid:pk>/remove/", webhooks.remove, name="endpoint-remove"),
    path("developers/webhook-deliveries/<uuid:pk>/", webhooks.delivery, name="delivery"),
    path("developers/webhook-deliveries/<uuid:pk>/replay/", webhooks.delivery_replay, name="delivery-replay"),
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
    path("billing/invoices/close/", invoices.close, name="invoice-close"),
    path("billing/invoices/<uuid:pk>/pdf/", invoices.pdf, name="invoice-pdf"),
    path("billing/invoices/<uuid:pk>/csv/", invoices.lines_csv, name="invoice-csv"),
    path("billing/invoices/<uuid:pk>/credit/", credit_notes.new, name="credit-note-new"),
    path("billing/credit-notes/<uuid:pk>/", credit_notes.credit_note, name="credit-note"),
    path("billing/credit-notes/<uuid:pk>/pdf/", credit_notes.pdf, name="credit-note-pdf"),
    path("billing/credit-notes/<uuid:pk>/csv/", credit_notes.lines_csv, name="credit-note-csv"),
    path("billing/invoices/<uuid:pk>/finalize/", invoices.finalize, name="invoice-finalize"),
    path("billing/invoices/<uuid:pk>/void/", invoices.void, name="invoice-void"),
    path("billing/invoices/<uuid:pk>/mark-paid/", invoices.mark_paid, name="invoice-mark-paid"),
    path("billing/budgets/", budgets.budgets, name="budgets"),
    path("billing/budgets/<uuid:pk>/", budgets.budget, name="budget"),
    path("billing/budgets/<uuid:pk>/remove/", budgets.remove, name="budget-remove"),
    path("billing/low-balance/", budgets.low_balance, name="low-balance"),
    path("billing/accounts/", staff.accounts, name="staff-accounts"),
    path("billing/books/", staff.books, name="books"),
    path("billing/money/", oversight.money, name="money"),
    path("billing/ledger/", oversight.ledger, name="ledger"),
    path("billing/adjust/", staff.adjust, name="adjust"),
]
# What things cost.
price_pages = [
    path("billing/price-books/", prices.price_books, name="price-books"),
    path("billing/price-books/<uuid:pk>/", prices.price_book, name="price-book"),
    path("billing/price-books/<uuid:pk>/end/", prices.end_book, name="price-book-end"),
    path("billing/price-drafts/new/", prices.draft_new, name="price-draft-new"),
    path("billing/price-drafts/<uuid:pk>/", prices.price_draft, name="price-draft"),
    path("billing/price-drafts/<uuid:pk>/what-if/", prices.compare, name="price-compare"),
    path("billing/price-drafts/<uuid:pk>/publish/", prices.publish, name="price-publish"),
    path("billing/price-drafts/<uuid:pk>/discard/", prices.discard, name="price-discard"),
]
# Money in and back.
payment_pages = [
    path("billing/top-up/", paying.top_up, name="top-up"),
    path("billing/invoices/<uuid:pk>/pay/", paying.pay_invoice, name="invoice-pay"),
    path("billing/payments/", payments.payments, name="payments"),
    path("billing/payments/<uuid:pk>/", payments.payment, name="payment"),
    path("billing/payments/<uuid:pk>/returned/", payments.returned, name="payment-returned"),
    path("billing/payments/<uuid:pk>/bank/", payments.bank, name="payment-bank"),
    path("billing/payments/<uuid:pk>/ask/", payments.ask, name="payment-ask"),
    path("billing/payments/<uuid:pk>/cancel/", payments.cancel, name="payment-cancel"),
    path("billing/payments/<uuid:pk>/refund/", payments.refund, name="payment-refund"),
    path("billing/payments/<uuid:pk>/send/", coins.send_simulated, name="payment-send"),
    path("billing/transfers/", coins.transfers, name="transfers"),
    path("billing/coin-refunds/<uuid:pk>/", coin_refunds.coin_refund, name="coin-refund"),
    path("billing/coin-refunds/<uuid:pk>/fail/", coin_refunds.coin_refund_fail, name="coin-refund-fail"),
    path("billing/coin-refunds/<uuid:pk>/send/", coin_refunds.coin_refund_send, name="coin-refund-send"),
    path("billing/transfers/<uuid:pk>/resolve/", coins.transfer_resolve, name="transfer-resolve"),
    path("billing/payment-methods/", methods.methods, name="payment-methods"),
    path("billing/payment-methods/<uuid:pk>/default/", methods.method_default, name="payment-method-default"),
    path("billing/payment-methods/<uuid:pk>/remove/", methods.method_remove, name="payment-method-remove"),
    path("billing/auto-top-up/", methods.auto_top_up, name="auto-top-up"),
    path("billing/auto-top-up/end/", methods.auto_top_up_end, name="auto-top-up-end"),
    path("billing/payments/<uuid:pk>/dispute/", arrears.begin, name="dispute-begin"),
    path("billing/disputes/", arrears.disputes, name="disputes"),
    path("billing/disputes/<uuid:pk>/", arrears.dispute, name="dispute"),
    path("billing/disputes/<uuid:pk>/evidence/", arrears.give_evidence, name="dispute-evidence"),
    path("billing/disputes/<uuid:pk>/play/", arrears.play, name="dispute-play"),
    path("billing/arrears/", arrears.arrears, name="arrears"),
    path("billing/gateways/", gateways.gateways, name="gateways"),
    path("billing/gateways/payments/<uuid:pk>/ask/", gateways.ask, name="gateway-ask"),
    path("billing/gateways/webhooks/<uuid:pk>/", gateways.webhook, name="webhook"),
    path("billing/gateways/webhooks/<uuid:pk>/retry/", gateways.webhook_retry, name="webhook-retry"),
]
# What the bank says, for staff.
bank_pages = [
    path("billing/bank/", bank.bank, name="bank"),
    path("billing/bank/import/", bank.bank_import, name="bank-import"),
    path("billing/bank/lines/<uuid:pk>/", bank.bank_line, name="bank-line"),
    path("billing/bank/lines/<uuid:pk>/match/", bank.bank_match, name="bank-match"),
    path("billing/bank/lines/<uuid:pk>/give-back/", bank.bank_give_back, name="bank-give-back"),
    path("billing/bank/lines/<uuid:pk>/set-aside/", bank.bank_set_aside, name="bank-set-aside"),
    path("billing/bank/matches/<uuid:pk>/undo/", bank.bank_undo, name="bank-undo"),
    path("billing/bank/returns/<uuid:pk>/sent/", bank.bank_sent, name="bank-sent"),
]
urlpatterns = [*account_pages, *webhook_pages, *money_pages, *price_pages, *payment_pages, *bank_pages]
