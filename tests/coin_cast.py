"""Transfers of USDC at some point of their way."""

from __future__ import annotations

import secrets

from django.utils import timezone

from billing.models import Account, CoinQuote, CoinTransfer
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
