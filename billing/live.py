"""What changed in billing, told to whoever watches, after commit."""

from __future__ import annotations

from uuid import UUID

from channels.layers import get_channel_layer
from django.db import transaction


def credits_changed(account_id: UUID) -> None:
    _nudge(account_id, _of_credits(account_id))


def usage_recorded(account_id: UUID, *, is_charged: bool) -> None:
    _nudge(account_id, ["usage", *(_of_credits(account_id) if is_charged else [])])


def invoice_changed(account_id: UUID, invoice_id: UUID) -> None:
    _nudge(account_id, ["invoices", f"invoice-{invoice_id}"])


def payment_changed(account_id: UUID, payment_id: UUID) -> None:
    _nudge(account_id, ["payments", f"payment-{payment_id}"])


def budgets_changed(account_id: UUID) -> None:
    _nudge(account_id, ["budgets"])


def deliveries_changed(account_id: UUID, endpoint_id: UUID) -> None:
    _nudge(account_id, [f"endpoint-{endpoint_id}"])


def _of_credits(account_id: UUID) -> list[str]:
    return ["credits", f"account-{account_id}"]


def _nudge(account_id: UUID, topics: list[str]) -> None:
    transaction.on_commit(lambda: get_channel_layer().nudge(account_id, topics))
