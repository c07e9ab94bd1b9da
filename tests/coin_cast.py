"""Transfers of USDC at some point of their way."""

from __future__ import annotations

import secrets

from django.utils import timezone
from uuid_utils.compat import uuid7

from billing.models import Account, CoinQuote, CoinRefund, CoinTransfer
from tests import payment_cast


def transfer(account: Account, **changes: object) -> CoinTransfer:
    """One that waits for staff: more than was asked for."""
    payment = payment_cast.buy(account, 10, "sim_action_required")
    now = timezone.now()
    quote = CoinQuote.objects.create(
        reference=str(payment.pk),
        network="eip155:31337",
        token="0x" + "ee" * 20,
        address=f"0x{secrets.token_hex(20)}",
        units=1_000_000,
        amount=100,
        currency="EUR",
        expires_at=now,
        created_at=now,
    )
    said = {"tx_hash": f"0x{secrets.token_hex(32)}", "log_index": 0, "block": 1, "sender": "0x" + "cc" * 20}
    made = {"units": 500_000, "surplus_units": 500_000, "state": "waiting", "why": "The payment was complete already"}
    return CoinTransfer.objects.create(network=quote.network, quote=quote, seen_at=now, **said, **made | changes)


def refund(account: Account, **changes: object) -> CoinRefund:
    """One that has to be sent: all of what a payment took."""
    now, found = timezone.now(), transfer(account)
    said = {"reference": found.quote.reference, "network": found.network, "token": found.quote.token}
    made = {"key": str(uuid7()), "recipient": found.sender, "units": 1_000_000, "amount": 100, "first_block": 1}
    return CoinRefund.objects.create(created_at=now, **said, **made | changes)
