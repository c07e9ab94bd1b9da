"""What an account pays with: kept, chosen, removed. A method is a gateway's token for a card, never the card."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.db import transaction

from billing.gateways import bank, registry, simulated_remote, stripe_answers
from billing.gateways.stripe_card_answers import Card
from billing.models import Account, AutoTopUp, PaymentMethod, StripeCustomer

MOST = 20
# Paid on the spot, so there is nothing to keep: named as they are, where their gateway is in use.
UNKEPT = {"usdc": "USDC to an address", "x402": "what a request is signed with"}
# By name, the gateway that takes it.
ON_THE_SPOT = {"usdc": "usdc", stripe_answers.CHECKOUT: "stripe"}
LOOKS_LIKE_A_CARD = re.compile(r"[0-9]{12,19}")


class UnknownMethod(Exception):
    """Raised when a payment names no method the account has."""

    code = "validation_error"

    def __init__(self, sentence: str) -> None:
        self.extras = {"errors": {"payment_method": [sentence]}}
        super().__init__(sentence)


class BadToken(Exception):
    """Raised for a token no gateway gave."""

    code = "validation_error"

    def __init__(self, sentence: str) -> None:
        self.extras = {"errors": {"token": [sentence]}}
        super().__init__(sentence)


class TooManyMethods(Exception):
    """Raised when an account keeps as many methods as one may."""

    code = "resource_limit_exceeded"
    extras = {"limit": MOST}
    retry_after = 1

    def __init__(self) -> None:
        super().__init__(f"An account keeps at most {MOST} payment methods. Remove one first.")


class StillNeeded(Exception):
    """Raised when the automatic top-up would be left without its method."""

    code = "conflict"
    extras = {"state": "auto_top_up"}

    def __init__(self) -> None:
        super().__init__("The automatic top-up pays with this method. Change or end it first.")


@dataclass(frozen=True)
class Chosen:
    """What one payment is made with."""

    gateway: str
    token: str
    label: str
    method: PaymentMethod | None = None


def kept(account: Account) -> list[PaymentMethod]:
    """Newest first, the default before all."""
    rows = PaymentMethod.objects.filter(account=account, removed_at=None)
    return list(rows.order_by("-is_default", "-created_at", "-pk"))


@transaction.atomic
def add(
    *, account: Account, token: str, now: datetime, gateway: str = "", label: str = "", is_default: bool = False,
    card: Card | None = None,
) -> PaymentMethod:  # fmt: skip
    """Keep a method; the same token again is the same method. The first one kept is the default.

    A card that its gateway showed is kept however many there are: its customer has given it already.
    """
    gateway = gateway or next(iter(registry.keeping()), "")
    registry.named(gateway)
    _check(account, gateway, token)
    # One at a time per account, so that there is one default and no more methods than allowed.
    Account.objects.select_for_update(no_key=True).get(pk=account.pk)
    mine = PaymentMethod.objects.filter(account=account, removed_at=None)
    found = mine.filter(gateway=gateway, token=token).first()
    if found is None:
        if card is None:
            check_room(account)
        shown = (label or (card.label if card else label_of(gateway, token)))[:80]
        said = {"account": account, "gateway": gateway, "token": token, "label": shown, "created_at": now}
        found = PaymentMethod.objects.create(**said, **_shown(card))
    if is_default or not mine.filter(is_default=True).exists():
        _make_default(found)
    return found


def check_room(account: Account) -> None:
    """Raises TooManyMethods."""
    if PaymentMethod.objects.filter(account=account, removed_at=None).count() >= MOST:
        raise TooManyMethods


def _shown(card: Card | None) -> dict[str, object]:
    if card is None:
        return {}
    return {"brand": card.brand, "last4": card.last4, "exp_month": card.exp_month, "exp_year": card.exp_year}


def _check(account: Account, gateway: str, token: str) -> None:
    if gateway == bank.NAME:
        raise BadToken("A bank transfer has no token to keep. Name bank_transfer when you pay.")
    if gateway in UNKEPT:
        raise BadToken(f"Nothing is kept of {UNKEPT[gateway]}: name `{gateway}` where you pay.")
    if gateway == "simulated" and token not in simulated_remote.METHODS:
        raise BadToken(f"The simulated gateway knows {', '.join(simulated_remote.METHODS)}.")
    if LOOKS_LIKE_A_CARD.fullmatch(re.sub(r"[ -]", "", token)):
        raise BadToken("This looks like a card number. Send the token that the payment gateway gave you for it.")
    if gateway != "stripe":
        return
    if not stripe_answers.TOKEN.fullmatch(token):
        raise BadToken("Stripe's tokens are pm_..., or cus_...:pm_... for a method that pays more than once.")
    if StripeCustomer.objects.filter(customer_id=_customer_of(token)).exclude(account=account).exists():
        raise BadToken("Stripe keeps no such card for this account.")


def _customer_of(token: str) -> str:
    """Empty for a token of nobody's."""
    found = stripe_answers.TOKEN.fullmatch(token)
    return (found["customer"] or "") if found else ""


def label_of(gateway: str, token: str) -> str:
    if gateway == "simulated":
        return f"{simulated_remote.METHODS[token].label} ({token})"
    return f"Method …{token[-4:]}"


@transaction.atomic
def change(*, method: PaymentMethod, label: str | None = None, is_default: bool = False) -> PaymentMethod:
    """Name it anew, or make it the one that is used where none is named."""
    Account.objects.select_for_update(no_key=True).get(pk=method.account_id)
    method = PaymentMethod.objects.get(pk=method.pk)
    if label:
        method.label = label
        method.save(update_fields=["label"])
    if is_default and method.removed_at is None:
        _make_default(method)
    return method


def _make_default(method: PaymentMethod) -> None:
    PaymentMethod.objects.filter(account=method.account_id, is_default=True).update(is_default=False)
    method.is_default = True
    method.save(update_fields=["is_default"])


@transaction.atomic
def remove(*, method: PaymentMethod, now: datetime) -> bool:
    """Forget a method; what was paid with it stays. False when it was removed before. Raises StillNeeded.

    A card that Stripe keeps for the account is forgotten there too, by the next sweep (card_setups.py).
    """
    Account.objects.select_for_update(no_key=True).get(pk=method.account_id)
    if AutoTopUp.objects.filter(method=method).exists():
        raise StillNeeded
    mine = PaymentMethod.objects.filter(pk=method.pk, removed_at=None)
    is_kept_there = StripeCustomer.objects.filter(
        account=method.account_id, customer_id=_customer_of(method.token)
    ).exists()
    forget_at = now if method.gateway == "stripe" and is_kept_there else None
    return bool(mine.update(removed_at=now, is_default=False, forget_at=forget_at))


def on_the_spot() -> dict[str, str]:
    """What one can pay with here and keeps nothing of: name -> label."""
    labels = {**UNKEPT, stripe_answers.CHECKOUT: stripe_answers.CHECKOUT_LABEL}
    return {name: labels[name] for name, gateway in ON_THE_SPOT.items() if gateway in registry.names()}


def choose(*, account: Account, named: str | None) -> Chosen:
    """By id, by the name of a simulated method, `bank_transfer`, or the account's default. Raises UnknownMethod."""
    if named in simulated_remote.METHODS and "simulated" in registry.names():
        return Chosen("simulated", named, label_of("simulated", named))
    if named == bank.METHOD and bank.NAME in registry.names():
        return Chosen(bank.NAME, bank.METHOD, bank.LABEL)
    if named in on_the_spot():
        return Chosen(ON_THE_SPOT[named], named, on_the_spot()[named])
    mine = PaymentMethod.objects.filter(account=account, removed_at=None)
    if named is None:
        found = mine.filter(is_default=True).first()
        sentence = "This account has no default payment method. Name one, or keep one first."
    else:
        found = mine.filter(pk=named).first() if _is_id(named) else None
        sentence = "This account has no such payment method."
    if found is None or found.gateway not in registry.names():
        raise UnknownMethod(sentence)
    return Chosen(found.gateway, found.token, found.label, found)


def _is_id(text: str) -> bool:
    try:
        UUID(text)
    except ValueError:
        return False
    return True
