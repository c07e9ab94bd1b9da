"""Background tasks: the sweeps that let time pass in the ledger, and find out what became of payments."""

from __future__ import annotations

from collections.abc import Mapping

from celery import shared_task
from django.conf import settings
from django.utils import timezone

from billing import coins, gateway_webhooks, janitor, ledger, restocking
from billing.chains import simulated as simulated_chain
from billing.gateways import registry, simulated


@shared_task
def expire_holds() -> None:
    ledger.expire_holds(now=timezone.now())


@shared_task
def expire_grants() -> None:
    ledger.expire_grants(now=timezone.now())


@shared_task
def sweep_payments() -> None:
    """What needs no network is done at once; gateways far away are spoken to where they keep no sweep waiting."""
    now = timezone.now()
    gateway_webhooks.sweep(now=now)
    janitor.sweep(now=now, gateways=registry.NEAR)
    restocking.sweep(now=now, gateways=registry.NEAR)
    if janitor.is_due(now=now) or restocking.is_due(now=now):
        speak_to_gateways.apply_async(expires=5)


@shared_task
def speak_to_gateways() -> None:
    now = timezone.now()
    janitor.sweep(now=now)
    restocking.sweep(now=now)


@shared_task
def watch_coins() -> None:
    """What came to the addresses that were given out."""
    if not (registry.has_coins() or registry.has_x402()):
        return
    now = timezone.now()
    if settings.SIMULATED_CHAIN and coins.are_awaited():
        simulated_chain.mine(now=now)
    coins.sweep(gateway=registry.usdc(), now=now)


@shared_task
def send_simulated_webhooks() -> None:
    """The simulated gateway's own process, which sends what it has to say as any gateway does."""
    if simulated.NAME in registry.names():
        registry.simulated().send_webhooks(_deliver)


def _deliver(body: bytes, headers: Mapping[str, str]) -> None:
    gateway_webhooks.receive(gateway=simulated.NAME, body=body, headers=headers, now=timezone.now())
