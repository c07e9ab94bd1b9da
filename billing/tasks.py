"""Background tasks: the sweeps that let time pass in the ledger, and find out what became of payments."""

from __future__ import annotations

from collections.abc import Mapping

from celery import shared_task
from django.conf import settings
from django.utils import timezone

from billing import (
    alerts,
    bank_matching,
    budgets,
    card_setups,
    closing,
    coin_refunds,
    coins,
    credit_notes,
    dunning,
    gateway_webhooks,
    janitor,
    ledger,
    restocking,
)
from billing.chains import simulated as simulated_chain
from billing.gateways import registry, simulated
from billing.outgoing import courier, outbox


@shared_task
def expire_holds() -> None:
    ledger.expire_holds(now=timezone.now())


@shared_task
def expire_grants() -> None:
    ledger.expire_grants(now=timezone.now())


@shared_task
def close_periods() -> None:
    closing.sweep(now=timezone.now())


@shared_task
def send_credit_refunds() -> None:
    credit_notes.sweep(now=timezone.now())


@shared_task
def sweep_payments() -> None:
    """What needs no network is done at once; gateways far away are spoken to where they keep no sweep waiting."""
    now = timezone.now()
    gateway_webhooks.sweep(now=now)
    bank_matching.sweep(now=now)
    janitor.sweep(now=now, gateways=registry.NEAR)
    restocking.sweep(now=now, gateways=registry.NEAR)
    if janitor.is_due(now=now) or restocking.is_due(now=now) or card_setups.is_due(now=now):
        speak_to_gateways.apply_async(expires=5)


@shared_task
def speak_to_gateways() -> None:
    now = timezone.now()
    janitor.sweep(now=now)
    restocking.sweep(now=now)
    card_setups.sweep(now=now)


@shared_task
def sweep_coins() -> None:
    """What came in USDC: the chain that is played is read at once, a node where it keeps no sweep waiting."""
    if not (registry.has_coins() or registry.has_x402()):
        return
    if not settings.SIMULATED_CHAIN:
        watch_coins.apply_async(expires=5)
        return
    if coins.are_awaited():
        simulated_chain.mine(now=timezone.now())
    watch_coins()


@shared_task
def watch_coins() -> None:
    coins.sweep(gateway=registry.usdc(), now=timezone.now())
    coin_refunds.sweep(chain=registry.chain(), now=timezone.now())


@shared_task
def send_simulated_webhooks() -> None:
    """The simulated gateway's own process, which sends what it has to say as any gateway does."""
    if simulated.NAME in registry.names():
        registry.simulated().send_webhooks(_deliver)


def _deliver(body: bytes, headers: Mapping[str, str]) -> None:
    gateway_webhooks.receive(gateway=simulated.NAME, body=body, headers=headers, now=timezone.now())


@shared_task
def sweep_webhooks() -> None:
    """Receivers are far away, so what is due is sent where it keeps no sweep waiting."""
    if courier.is_due():
        send_webhooks.apply_async(expires=5)


@shared_task
def send_webhooks() -> None:
    courier.work()


@shared_task
def forget_webhooks() -> None:
    outbox.forget(now=timezone.now())


@shared_task
def remind_of_invoices() -> None:
    dunning.sweep(now=timezone.now())


@shared_task
def tell_alerts() -> None:
    alerts.sweep(now=timezone.now())


@shared_task
def forget_budget_spends() -> None:
    budgets.forget(now=timezone.now())
