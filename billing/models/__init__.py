"""What billing remembers, one file per noun."""

from billing.models.coins import ChainCursor, CoinQuote, CoinTransfer, SimulatedBlock, SimulatedTransfer
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
from billing.models.payments import AutoTopUp, GatewayWebhook, Payment, PaymentEvent, PaymentMethod, Refund
from billing.models.prices import Price, PriceBook
from billing.models.simulated import SimulatedEvent, SimulatedPayment, SimulatedRefund
from billing.models.usage import Rating, UsageRecord
from billing.models.x402 import X402Authorization

__all__ = [
    "Account",
    "AccountQuerySet",
    "ApiKey",
    "AutoTopUp",
    "ChainCursor",
    "CoinQuote",
    "CoinTransfer",
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
    "Payment",
    "PaymentEvent",
    "PaymentMethod",
    "Price",
    "PriceBook",
    "Rating",
    "Refund",
    "Role",
    "SimulatedBlock",
    "SimulatedEvent",
    "SimulatedPayment",
    "SimulatedRefund",
    "SimulatedTransfer",
    "Transaction",
    "UsageRecord",
    "User",
    "X402Authorization",
]
