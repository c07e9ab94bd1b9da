"""Opens payments: what is to be paid, with what, and once for each key. Nobody has spoken to a gateway yet."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction
from typing import Any

from django.conf import settings
from django.db import IntegrityError, transaction

from billing import amounts, ledger, live
from billing.methods import Chosen
from billing.models import Account, Invoice, Payment, PaymentEvent
from billing.payment_states import SENT_BY, State


@dataclass(frozen=True)
class Price:
    """What credits cost, in minor units."""

    subtotal: int
    tax: int
    currency: str

    @property
    def total(self) -> int:
        return self.subtotal + self.tax


class TooLittle(Exception):
    """Raised when what is bought costs nothing."""

    code = "validation_error"

    @property
    def extras(self) -> dict[str, object]:
        return {"errors": {"credits": [str(self)]}}

    def __init__(self) -> None:
        super().__init__("So few credits cost nothing here. Buy more.")


class ClosedAccount(Exception):
    """Raised when a closed account would pay."""

    code = "conflict"
    extras = {"state": "closed"}

    def __init__(self) -> None:
        super().__init__("This account is closed and takes no payments.")


class NothingToPay(Exception):
    """Raised when an invoice is not one that waits to be paid."""

    code = "conflict"

    def __init__(self, state: str) -> None:
        self.extras = {"state": state}
        super().__init__(f"This invoice is {state}; only an open one can be paid.")


class PaymentUnderWay(Exception):
    """Raised when another payment of the same thing may still succeed."""

    code = "conflict"

    def __init__(self, state: str) -> None:
        self.extras = {"state": state}
        super().__init__(
            f"A payment of this is {state.replace('_', ' ')} already. "
            "A second could charge twice: wait for its outcome."
        )


def price(*, account: Account, credits_ucr: int) -> Price:
    """What credits cost this account, with its tax. Raises TooLittle."""
    terms = {"credit_price": settings.CREDIT_PRICE, "currency": settings.CREDIT_CURRENCY}
    subtotal = amounts.price_of_ucr(credits_ucr, **terms)
    if subtotal <= 0:
        raise TooLittle
    tax = amounts.half_even(subtotal * Fraction(account.tax_rate))
    return Price(subtotal, tax, settings.CREDIT_CURRENCY)


def open_top_up(
    *,
    account: Account,
    credits_ucr: int,
    chosen: Chosen,
    key: str,
    now: datetime,
    purpose: str = Payment.Purpose.TOP_UP,
    actor: str = "",
    request_id: str = "",
) -> tuple[Payment, bool]:
    """A payment for credits; the same key again answers the first one, and False. Raises TooLittle, ClosedAccount."""
    cost = price(account=account, credits_ucr=credits_ucr)
    wanted = {
        "account": account,
        "purpose": purpose,
        "credits_ucr": credits_ucr,
        "subtotal": cost.subtotal,
        "tax": cost.tax,
        "amount": cost.total,
        "currency": cost.currency,
    }
    return _open(wanted, chosen=chosen, key=key, now=now, actor=actor, request_id=request_id)


def open_for_invoice(
    *, invoice: Invoice, chosen: Chosen, key: str, now: datetime, actor: str = "", request_id: str = ""
) -> tuple[Payment, bool]:
    """A payment of what is due on an invoice. Raises NothingToPay, PaymentUnderWay, ClosedAccount."""
    before = Payment.objects.filter(account=invoice.account_id, key=key).first()
    if before is None and (invoice.state not in (Invoice.State.OPEN, Invoice.State.UNCOLLECTIBLE)):
        raise NothingToPay(invoice.state)
    wanted = {
        "account": invoice.account,
        "purpose": Payment.Purpose.INVOICE,
        "invoice": invoice,
        # Marking the invoice paid grants what was drawn on the overdraft.
        "credits_ucr": invoice.open_ucr,
        "subtotal": invoice.open_amount,
        "amount": invoice.open_amount,
        "currency": invoice.currency,
    }
    return _open(wanted, chosen=chosen, key=key, now=now, actor=actor, request_id=request_id)


def _open(
    wanted: dict[str, Any], *, chosen: Chosen, key: str, now: datetime, actor: str, request_id: str
) -> tuple[Payment, bool]:
    account = wanted["account"]
    # What is open of an invoice may fall until the same key comes again; which invoice it is does not.
    invoice = wanted.get("invoice")
    what = invoice.due_ucr if invoice else wanted["credits_ucr"]
    fingerprint = ledger.fingerprint(wanted["purpose"], invoice, what, chosen.gateway, chosen.token)
    fields = {
        **wanted,
        "gateway": chosen.gateway,
        "method": chosen.method,
        "method_token": chosen.token,
        "method_label": chosen.label,
        "key": key,
        "request_hash": fingerprint,
        "actor": actor,
        "request_id": request_id,
        "created_at": now,
        "ask_at": now + SENT_BY,
    }
    try:
        # Committed before anybody speaks to the gateway: what is charged has a row that knows of it.
        with transaction.atomic(durable=True):
            if Account.objects.filter(pk=account.pk, status=Account.Status.CLOSED).exists():
                raise ClosedAccount
            _check_still_due(wanted)
            payment = Payment.objects.create(**fields)
            said = {"source": PaymentEvent.Source.PERSON, "state": State.CREATED, "effect": PaymentEvent.Effect.APPLIED}
            PaymentEvent.objects.create(payment=payment, created_at=now, **said)
            live.payment_changed(account.pk, payment.pk)
    except IntegrityError:
        return _met(wanted, key=key, fingerprint=fingerprint), False
    return payment, True


def _check_still_due(wanted: dict[str, Any]) -> None:
    """A credit note may have taken some of it off just now; both lock the wallet first. Raises NothingToPay."""
    invoice = wanted.get("invoice")
    if invoice is None:
        return
    ledger.lock_wallet(invoice.account_id)
    current = Invoice.objects.get(pk=invoice.pk)
    if current.open_amount != wanted["amount"]:
        raise NothingToPay(current.state if not current.is_unpaid else "changed")


def _met(wanted: dict[str, Any], *, key: str, fingerprint: str) -> Payment:
    """The payment of the same key; or there is an open one of the same thing."""
    before = Payment.objects.filter(account=wanted["account"], key=key).first()
    if before is not None:
        if before.request_hash != fingerprint:
            raise ledger.KeyReused(key)
        return before
    invoice = wanted.get("invoice")
    of_same = {"invoice": invoice} if invoice else {"account": wanted["account"], "purpose": wanted["purpose"]}
    other = Payment.objects.filter(**of_same).order_by("-created_at", "-pk").first()
    raise PaymentUnderWay(other.state if other else State.CREATED)
