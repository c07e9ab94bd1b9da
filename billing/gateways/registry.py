"""Which gateways there are here, made from the settings."""

from __future__ import annotations

from django.conf import settings
from django.utils import timezone

from billing.gateways import Event, Gateway, events, stripe_answers
from billing.gateways.bank import BankGateway
from billing.gateways.http import HttpGateway
from billing.gateways.simulated import SimulatedGateway
from billing.gateways.stripe import StripeGateway

# Asked without the network, so that a sweep may wait for their answers.
NEAR = ("simulated", "bank")
# What becomes of a payment with these is written down where it happens, so there is nobody to ask.
TOLD = ("bank",)
ALL = (*NEAR, "http", "stripe")


class UnknownGateway(Exception):
    """Raised when no gateway of this name is in use here."""

    code = "not_found"

    def __init__(self, name: str) -> None:
        super().__init__(f"There is no payment gateway {name[:40]!r} here.")


def names() -> list[str]:
    """Those in use; what new payments go through comes first."""
    real = ["http"] if settings.PAYMENT_GATEWAY_URL else []
    cards = ["stripe"] if settings.STRIPE_API_KEY else []
    free = ["simulated"] if settings.SIMULATED_GATEWAY else []
    return [*real, *cards, *free, *(["bank"] if settings.BANK_IBAN else [])]


def keeping() -> list[str]:
    """Those of names() that take again with a method that is kept."""
    return [name for name in names() if name != "bank"]


def named(name: str) -> Gateway:
    """For new payments and for webhooks. Raises UnknownGateway."""
    if name not in names():
        raise UnknownGateway(name)
    return of(name)


def of(name: str) -> Gateway:
    """Also one that takes no new payments any more, since old ones are still asked about. Raises UnknownGateway."""
    if name == "simulated":
        return simulated()
    if name == "http" and settings.PAYMENT_GATEWAY_URL:
        secrets = settings.GATEWAY_SECRETS["http"]
        return HttpGateway(settings.PAYMENT_GATEWAY_URL, secrets=secrets, clock=timezone.now)
    if name == "bank":
        return BankGateway(clock=timezone.now)
    if name == "stripe" and settings.STRIPE_API_KEY:
        secrets = settings.STRIPE_WEBHOOK_SECRETS
        return StripeGateway(settings.STRIPE_API_KEY, secrets=secrets, url=settings.STRIPE_API_URL)
    raise UnknownGateway(name)


def read_kept(name: str, body: bytes) -> Event:
    """A webhook whose signature was good when it came. Raises Unreadable."""
    return stripe_answers.event(body) if name == "stripe" else events.read(body)


def simulated() -> SimulatedGateway:
    return SimulatedGateway(secrets=settings.GATEWAY_SECRETS["simulated"], clock=timezone.now)
