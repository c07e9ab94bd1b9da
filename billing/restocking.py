"""Buys credits for accounts whose automatic top-up is due."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from django.db.models import F, Q
from uuid_utils.compat import uuid7

from billing import intents, methods, replenishing, settlement
from billing.gateways import registry
from billing.models import AutoTopUp, Payment
from billing.payment_states import LIVE

BATCH = 50


def sweep(*, now: datetime, gateways: Sequence[str] = registry.ALL) -> int:
    """Buy through these gateways; returns for how many accounts credits were asked for."""
    return sum(1 for each in _low(now, gateways) if _decide(each, now).buys and _buy(each, now))


def is_due(*, now: datetime) -> bool:
    return any(_decide(each, now).buys for each in _low(now, registry.ALL))


def _low(now: datetime, gateways: Sequence[str]) -> list[AutoTopUp]:
    """What the account owns counts, not what it may overdraw."""
    left = F("account__wallet__posted_ucr") - F("account__wallet__held_ucr")
    rows = AutoTopUp.objects.select_related("account__wallet", "method").annotate(left_ucr=left)
    awake = rows.filter(Q(paused_until=None) | Q(paused_until__lte=now), method__gateway__in=gateways)
    return list(awake.filter(left_ucr__lt=F("threshold_ucr")).order_by("pk")[:BATCH])


def _decide(each: AutoTopUp, now: datetime) -> replenishing.Decision:
    mine = Payment.objects.filter(account=each.account_id, purpose=Payment.Purpose.AUTO_TOP_UP)
    latest = mine.order_by("-created_at", "-pk").values_list("created_at", flat=True)
    facts = replenishing.Facts(
        available_ucr=each.left_ucr,
        threshold_ucr=each.threshold_ucr,
        is_active=each.account.status == "active",
        is_open=mine.filter(state__in=LIVE).exists(),
        paused_until=each.paused_until,
        made_at=list(latest[: replenishing.MOST]),
    )
    return replenishing.decide(facts, now=now)


def _buy(each: AutoTopUp, now: datetime) -> bool:
    # As it was read: somebody else has not bought since, nor failed and paused it.
    mine = AutoTopUp.objects.filter(pk=each.pk, last_bought_at=each.last_bought_at, paused_until=each.paused_until)
    if not mine.update(last_bought_at=now):
        return False
    chosen = methods.Chosen(each.method.gateway, each.method.token, each.method.label, each.method)
    try:
        payment, _ = intents.open_top_up(
            account=each.account,
            credits_ucr=each.credits_ucr,
            chosen=chosen,
            key=f"auto:{uuid7()}",
            now=now,
            purpose=Payment.Purpose.AUTO_TOP_UP,
            actor="auto",
        )
    except (intents.PaymentUnderWay, intents.ClosedAccount, intents.TooLittle):
        return False
    settlement.submit(payment=payment, now=now)
    return True
