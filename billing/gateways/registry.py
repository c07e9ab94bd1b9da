"""Which gateways there are here, made from the settings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.conf import settings
from django.utils import timezone

from billing.chains import ChainReader, rpc
from billing.chains import simulated as simulated_chain
from billing.gateways import Event, Gateway, events, stripe_answers, stripe_sessions
from billing.gateways.bank import BankGateway
from billing.gateways.http import HttpGateway
from billing.gateways.simulated import SimulatedGateway
from billing.gateways.usdc import Terms, UsdcGateway
from billing.gateways.x402.facilitators import HttpFacilitator, SimulatedFacilitator
from billing.gateways.x402.gateway import Terms as X402Terms
from billing.gateways.x402.gateway import X402Gateway

if TYPE_CHECKING:
    from billing.gateways.stripe import StripeGateway

# Asked without the network, so that a sweep may wait for their answers.
NEAR = ("simulated", "bank", "usdc")
# What becomes of a payment with these is written down where it happens, so there is nobody to ask.
TOLD = ("bank",)
ALL = (*NEAR, "http", "stripe", "x402")
# They ask anew for each payment.
UNKEPT = ("bank", "usdc", "x402")


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
    coins = [*(["usdc"] if has_coins() else []), *(["x402"] if has_x402() else [])]
    return [*real, *cards, *free, *(["bank"] if settings.BANK_IBAN else []), *coins]


def keeping() -> list[str]:
    """Those of names() that take again with a method that is kept."""
    return [name for name in names() if name not in UNKEPT]


def has_coins() -> bool:
    """Whether a chain is read, and there is something to be paid at on it."""
    return settings.SIMULATED_CHAIN or bool(settings.USDC_RPC_URL and (settings.USDC_XPUB or settings.USDC_ADDRESSES))


def has_x402() -> bool:
    """Whether a facilitator settles what was signed, and a chain tells what became of it."""
    given = (settings.USDC_RPC_URL, settings.X402_FACILITATOR_URL, settings.X402_PAY_TO)
    return settings.SIMULATED_CHAIN or all(given)


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
        return stripe()
    if name == "usdc" and has_coins():
        return usdc()
    if name == "x402" and has_x402():
        return x402()
    raise UnknownGateway(name)


def stripe() -> StripeGateway:
    """Raises UnknownGateway where it is off."""
    if not settings.STRIPE_API_KEY:
        raise UnknownGateway("stripe")
    from billing.gateways.stripe import StripeGateway  # its library is large, and few have it

    secrets = settings.STRIPE_WEBHOOK_SECRETS
    return StripeGateway(settings.STRIPE_API_KEY, secrets=secrets, url=settings.STRIPE_API_URL)


def read_kept(name: str, body: bytes) -> Event:
    """A webhook whose signature was good when it came. Raises Unreadable."""
    return stripe_sessions.named(stripe_answers.event(body)) if name == "stripe" else events.read(body)


def x402() -> X402Gateway:
    """Raises UnknownGateway where it is off."""
    if not has_x402():
        raise UnknownGateway("x402")
    said = {"rate": settings.USDC_RATE, "confirmations": settings.USDC_CONFIRMATIONS}
    if settings.SIMULATED_CHAIN:
        facilitator = SimulatedFacilitator()
        played = {"asset": simulated_chain.TOKEN, "pay_to": simulated_chain.SHOP, "token_name": "USDC"}
        terms = X402Terms(**played, **said, facilitator=simulated_chain.FACILITATOR)
        return X402Gateway(chain(), facilitator, terms, clock=timezone.now)
    terms = X402Terms(
        asset=settings.USDC_TOKEN,
        pay_to=settings.X402_PAY_TO,
        token_name=settings.X402_TOKEN_NAME,
        facilitator=settings.X402_FACILITATOR_ADDRESS,
        **said,
    )
    return X402Gateway(chain(), HttpFacilitator(settings.X402_FACILITATOR_URL), terms, clock=timezone.now)


def chain() -> ChainReader:
    """The one that coins come and go on; raises UnknownGateway where none is read."""
    if settings.SIMULATED_CHAIN:
        return simulated_chain.SimulatedChain()
    if not settings.USDC_RPC_URL:
        raise UnknownGateway("usdc")
    return rpc.RpcChain(settings.USDC_RPC_URL, network=settings.USDC_NETWORK)


def usdc() -> UsdcGateway:
    """On the chain of the settings; the one that is played here where it is on."""
    said = {"rate": settings.USDC_RATE, "confirmations": settings.USDC_CONFIRMATIONS}
    if settings.SIMULATED_CHAIN:
        terms = Terms(token=simulated_chain.TOKEN, xpub=simulated_chain.XPUB, **said)
        return UsdcGateway(chain(), terms, clock=timezone.now)
    terms = Terms(token=settings.USDC_TOKEN, xpub=settings.USDC_XPUB, addresses=tuple(settings.USDC_ADDRESSES), **said)
    return UsdcGateway(chain(), terms, clock=timezone.now)


def simulated() -> SimulatedGateway:
    return SimulatedGateway(secrets=settings.GATEWAY_SECRETS["simulated"], clock=timezone.now)
