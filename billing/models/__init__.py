"""What billing remembers, one file per noun."""

from billing.models.arrears import Dispute, DisputeEvidence, DunningStep
from billing.models.bank import BankLine, BankMatch, BankReturn, BankStatement, BankTransfer, BankUndo
from billing.models.budgets import Alert, BalanceWatch, Budget, BudgetCounter, BudgetReservation, BudgetSpend
from billing.models.coins import ChainCursor, CoinQuote, CoinRefund, CoinTransfer, SimulatedBlock, SimulatedTransfer
from billing.models.credit_notes import CreditNote, CreditNoteLine
from billing.models.customers import (
    EDITING_ROLES,
    Account,
    AccountQuerySet,
    ApiKey,
    Membership,
    Role,
    User,
)
from billing.models.idempotency import IdempotencyRecord
from billing.models.invitations import Invitation
from billing.models.invoices import Invoice, InvoiceLine, InvoiceSeries
from billing.models.ledger import Entry, Grant, GrantConsumption, Hold, LedgerAccount, Transaction
from billing.models.outgoing import OutgoingEvent, WebhookAttempt, WebhookDelivery, WebhookEndpoint
from billing.models.payments import AutoTopUp, GatewayWebhook, Payment, PaymentEvent, PaymentMethod, Refund
from billing.models.prices import Price, PriceBook, PriceDraft
from billing.models.simulated import SimulatedDispute, SimulatedEvent, SimulatedPayment, SimulatedRefund
from billing.models.stripe import CardSetup, StripeCustomer, StripeSession
from billing.models.usage import Rating, UsageRecord
from billing.models.x402 import X402Authorization

__all__ = [
    "Account",
    "AccountQuerySet",
    "Alert",
    "ApiKey",
    "AutoTopUp",
    "BankLine",
    "BankMatch",
    "BankReturn",
    "BankStatement",
    "BankTransfer",
    "BankUndo",
    "CardSetup",
    "ChainCursor",
    "CoinQuote",
    "CoinRefund",
    "CoinTransfer",
    "CreditNote",
    "CreditNoteLine",
    "BalanceWatch",
    "Budget",
    "BudgetCounter",
    "BudgetReservation",
    "BudgetSpend",
    "Dispute",
    "DisputeEvidence",
    "DunningStep",
    "EDITING_ROLES",
    "Entry",
    "GatewayWebhook",
    "Grant",
    "GrantConsumption",
    "Hold",
    "IdempotencyRecord",
    "Invitation",
    "Invoice",
    "InvoiceLine",
    "InvoiceSeries",
    "LedgerAccount",
    "Membership",
    "OutgoingEvent",
    "Payment",
    "PaymentEvent",
    "PaymentMethod",
    "Price",
    "PriceBook",
    "PriceDraft",
    "Rating",
    "Refund",
    "Role",
    "SimulatedBlock",
    "SimulatedDispute",
    "SimulatedEvent",
    "SimulatedPayment",
    "SimulatedRefund",
    "SimulatedTransfer",
    "StripeCustomer",
    "StripeSession",
    "Transaction",
    "UsageRecord",
    "User",
    "X402Authorization",
    "WebhookAttempt",
    "WebhookDelivery",
    "WebhookEndpoint",
]
