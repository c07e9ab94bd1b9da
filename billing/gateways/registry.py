"""Which gateways there are here, made from the settings."""

from __future__ import annotations

from django.conf import settings
from django.utils import timezone

from billing.gateways import Gateway
from billing.gateways.http import HttpGateway
from billing.gateways.simulated import SimulatedGateway

# Asked without the network, so that a sweep may wait for their answers.
NEAR = ("simulated",)
ALL = (*NEAR, "http")


class UnknownGateway(Exception):
    """Raised when no gateway of this name is in use here."""

    code = "not_found"

    def __init__(self, name: str) -> None:
        super().__init__(f"There is no payment gateway {name[:40]!r} here.")


def names() -> list[str]:
    """Those in use; what new payments go through comes first."""
    real = ["http"] if settings.PAYMENT_GATEWAY_URL else []
    return [*real, *(["simulated"] if settings.SIMULATED_GATEWAY else [])]


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
    raise UnknownGateway(name)


def simulated() -> SimulatedGateway:
    return SimulatedGateway(secrets=settings.GATEWAY_SECRETS["simulated"], clock=timezone.now)
