"""Buys credits that a request itself pays for (x402): what is wrong with it is said before anything is written.

    check what was signed -> the facilitator verifies -> accepted (committed) -> payment (committed) -> settled

`exact` buys what was asked for. `upto` fills the account up to what was asked for: it signs for the whole, and only
what was used of it, so what the account lacks, is bought and settled.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.db import IntegrityError, transaction

from billing import intents, ledger, payments
from billing.chains import NoAnswer
from billing.gateways import AnswerLost, registry, usdc
from billing.gateways.x402 import proofs, wire
from billing.gateways.x402.gateway import X402Gateway
from billing.gateways.x402.wire import Requirements
from billing.methods import Chosen
from billing.models import Account, Payment, X402Authorization


class PaymentRequired(Exception):
    """Raised when a request does not pay: what would be accepted, in the answer's body and in its header."""

    code = "payment_required"

    def __init__(self, sentence: str, *, reason: str, accepts: list[Requirements], url: str) -> None:
        said = wire.required(accepts=accepts, url=url, error=reason)
        self.extras = said
        self.headers = {wire.REQUIRED: wire.encode(said)}
        super().__init__(sentence)


class FacilitatorSilent(Exception):
    """Raised when nobody can say whether a payment would settle; nothing happened."""

    code = "payment_error"

    def __init__(self) -> None:
        super().__init__("Payments by x402 cannot be checked now. Nothing was taken; try again in a minute.")


class NothingUsed(Exception):
    """Raised when an account has as many credits as it would be filled up to."""

    code = "conflict"
    extras = {"state": "full"}

    def __init__(self) -> None:
        super().__init__("The account has as many credits already, so nothing is settled.")


def top_up(
    *,
    account: Account,
    credits_ucr: int,
    signature: str | None,
    url: str,
    key: str,
    now: datetime,
    actor: str = "",
    request_id: str = "",
) -> Payment:
    """A payment for credits by x402; the same key and signature again answer the first.

    Raises PaymentRequired, wire.Unreadable, FacilitatorSilent, NothingUsed, TooLittle, ClosedAccount, KeyReused.
    """
    gateway = registry.x402()
    cost = intents.price(account=account, credits_ucr=credits_ucr)
    accepts = gateway.offers(amount=cost.total, currency=cost.currency)
    try:
        said = _signed(signature)
        row = _before(account, key, said)
        if row is None:
            row = _accept(account, key, credits_ucr, said, gateway=gateway, accepts=accepts, now=now)
    except proofs.Refusal as no:
        raise PaymentRequired(str(no), reason=no.reason, accepts=accepts, url=url) from no
    payment, is_new = intents.open_top_up(
        account=account,
        credits_ucr=row.credits_ucr,
        chosen=Chosen(gateway.name, str(row.pk), f"USDC of {row.payer[:6]}…{row.payer[-4:]}"),
        key=_key(key),
        now=now,
        actor=actor,
        request_id=request_id,
    )
    return payments.submit(payment, is_new=is_new, now=now)


def _key(key: str) -> str:
    return f"topup:{key}"


def _signed(header: str | None) -> dict[str, Any]:
    if not header:
        raise proofs.Refusal(f"{wire.SIGNATURE} header is required", "Sign one of `accepts` and send it along.")
    return wire.read(header)


def _before(account: Account, key: str, said: dict[str, Any]) -> X402Authorization | None:
    """What the same request was accepted for; another signature with its key is another request."""
    row = X402Authorization.objects.filter(account=account, key=key).order_by("created_at", "pk").first()
    if row is not None and row.payload == said:
        return row
    if row is not None or Payment.objects.filter(account=account, key=_key(key)).exists():
        raise ledger.KeyReused(key)
    return None


def _accept(
    account: Account,
    key: str,
    credits_ucr: int,
    said: dict[str, Any],
    *,
    gateway: X402Gateway,
    accepts: list[Requirements],
    now: datetime,
) -> X402Authorization:
    """Keep what was signed, when it pays. Its nonce is used from here on. Raises proofs.Refusal."""
    if account.status == Account.Status.CLOSED:
        raise intents.ClosedAccount
    proof, wanted = proofs.check(said, accepts=accepts, now=now)
    if X402Authorization.objects.filter(scheme=proof.scheme, payer=proof.payer, nonce=proof.nonce).exists():
        raise _used()
    bought = _lacking(account, credits_ucr, now) if proof.scheme == wire.UPTO else credits_ucr
    cost = intents.price(account=account, credits_ucr=bought)
    first_block = _verified(gateway, said, wanted)
    fields = {
        "account": account,
        "key": key,
        "credits_ucr": bought,
        "scheme": proof.scheme,
        "network": wanted.network,
        "asset": wanted.asset,
        "pay_to": wanted.pay_to,
        "payer": proof.payer,
        "nonce": proof.nonce,
        "most_units": proof.units,
        "units": usdc.units_of(cost.total, cost.currency, gateway.terms.rate),
        "valid_before": proof.valid_before,
        "first_block": first_block,
        "payload": said,
        "created_at": now,
    }
    try:
        with transaction.atomic():
            return X402Authorization.objects.create(**fields)
    except IntegrityError as met:
        raise _used() from met


def _used() -> proofs.Refusal:
    return proofs.Refusal("invalid_exact_evm_payload_nonce_used", "This authorisation has paid already. Sign another.")


def _lacking(account: Account, credits_ucr: int, now: datetime) -> int:
    """What was used of so many credits. Raises NothingUsed."""
    has = ledger.balance(account_id=account.pk, now=now).available_ucr
    lacking = min(credits_ucr, credits_ucr - has)
    if lacking <= 0:
        raise NothingUsed
    return lacking


def _verified(gateway: X402Gateway, said: dict[str, Any], wanted: Requirements) -> int:
    """Where on the chain to look for it. Raises proofs.Refusal, FacilitatorSilent."""
    try:
        first_block = gateway.first_block()
        reason = gateway.facilitator.verify(said, wanted)
    except (AnswerLost, NoAnswer) as silent:
        raise FacilitatorSilent from silent
    if reason:
        raise proofs.Refusal(reason, f"The facilitator says no: {reason.replace('_', ' ')}.")
    return first_block


def response(payment: Payment) -> dict[str, str]:
    """The header that tells how it was settled; none while that is not known."""
    row = X402Authorization.objects.filter(reference=str(payment.pk)).first()
    if row is None or payment.is_open:
        return {}
    is_settled = row.tx_hash is not None
    said = {
        "success": is_settled,
        "transaction": row.tx_hash or "",
        "network": row.network,
        "payer": row.payer,
        "amount": str(row.units),
    }
    return {wire.RESPONSE: wire.encode(said if is_settled else {**said, "errorReason": row.reason})}
