"""Tells what is to be known: a budget's threshold or refusal once a period, and credits that run low once each time.

    the database notices a threshold, with the spend    ->  an Alert that nobody was told of  ->  told (sweep)
    the ledger notes a refusal (its transaction is gone) ->  the same, from the note
    an armed balance watch that is below its threshold   ->  the same; armed again above it

Told means: the owners' e-mail after commit, and the webhook in the transaction that marks it told.
"""

from __future__ import annotations

from datetime import datetime

from django.db import transaction
from django.db.models import F

from billing import amounts, budgets, ledger, live, owners
from billing.models import Account, Alert, BalanceWatch, Budget
from billing.outgoing import outbox

BATCH = 200
USUAL_LOW_UCR = 100 * amounts.UCR
LEFT = F("account__wallet__posted_ucr") - F("account__wallet__held_ucr")


def sweep(*, now: datetime) -> int:
    """Returns how many alerts were told."""
    _notice_refusals(now)
    _notice_low(now)
    waiting = Alert.objects.filter(told_at=None).order_by("created_at", "threshold", "pk")
    return sum(1 for pk in list(waiting.values_list("pk", flat=True)[:BATCH]) if _tell(pk, now))


def _notice_refusals(now: datetime) -> None:
    blocking = {each.pk: each for each in Budget.objects.filter(action=Budget.Action.BLOCK).select_related("account")}
    for pk in ledger.take_notes(list(blocking)):
        budget = blocking[pk]
        (stands,) = budgets.standings(budget.account, [budget], now=now)
        said = {"amount_ucr": stands.spent_ucr, "limit_ucr": budget.limit_ucr, "created_at": now}
        alert = Alert(
            account=budget.account, kind=Alert.Kind.BLOCKED, budget=budget, period_start=stands.period_start, **said
        )
        Alert.objects.bulk_create([alert], ignore_conflicts=True)


def _notice_low(now: datetime) -> None:
    """What the account owns counts, not what it may overdraw."""
    watches = BalanceWatch.objects.annotate(left_ucr=LEFT)
    enough = watches.filter(is_armed=False, left_ucr__gte=F("threshold_ucr")).values("pk")
    BalanceWatch.objects.filter(pk__in=enough).update(is_armed=True)
    low = watches.filter(is_armed=True, left_ucr__lt=F("threshold_ucr"), account__status=Account.Status.ACTIVE)
    for watch in low.order_by("pk")[:BATCH]:
        _note_low(watch, now)


@transaction.atomic
def _note_low(watch: BalanceWatch, now: datetime) -> None:
    if not BalanceWatch.objects.filter(pk=watch.pk, is_armed=True).update(is_armed=False):
        return
    said = {"amount_ucr": watch.left_ucr, "limit_ucr": watch.threshold_ucr, "created_at": now}
    Alert.objects.create(account_id=watch.pk, kind=Alert.Kind.LOW_BALANCE, **said)


@transaction.atomic
def _tell(pk: object, now: datetime) -> bool:
    """Once, also when two sweeps see it."""
    if not Alert.objects.filter(pk=pk, told_at=None).update(told_at=now):
        return False
    alert = Alert.objects.select_related("account", "budget").get(pk=pk)
    if alert.kind == Alert.Kind.LOW_BALANCE:
        _tell_low(alert, now)
    else:
        _tell_budget(alert, now)
    live.budgets_changed(alert.account_id)
    return True


def _tell_low(alert: Alert, now: datetime) -> None:
    left, threshold = amounts.plain(alert.amount_ucr), amounts.plain(alert.limit_ucr)
    data = {"available": amounts.six_places(alert.amount_ucr), "threshold": amounts.six_places(alert.limit_ucr)}
    outbox.publish(account_id=alert.account_id, type="credits.low", data=data, now=now)
    text = (
        f"{left} credits are left, fewer than the {threshold} you want to be warned at. Work stops when they run out."
    )
    owners.tell(alert.account, "Credits are running low", text, page=("billing:overview",))


def _tell_budget(alert: Alert, now: datetime) -> None:
    budget = alert.budget
    spent, limit = amounts.plain(alert.amount_ucr), amounts.plain(alert.limit_ucr)
    is_refusal = alert.kind == Alert.Kind.BLOCKED
    data: dict[str, object] = {
        "budget": str(budget.pk),
        "scope": budget.scope,
        "target": budget.target or None,
        "window": budget.period,
        "spent": amounts.six_places(alert.amount_ucr),
        "limit": amounts.six_places(alert.limit_ucr),
    }
    if not is_refusal:
        data["threshold"] = alert.threshold
    type = "budget.blocked" if is_refusal else "budget.threshold"
    outbox.publish(account_id=alert.account_id, type=type, data=data, now=now)
    what = "refuses what would exceed it" if is_refusal else f"has reached {alert.threshold} %"
    text = f"The budget for {budget} {what}: {spent} of {limit} credits are spent."
    subject = "A budget blocks" if is_refusal else f"A budget is at {alert.threshold} %"
    owners.tell(alert.account, subject, text, page=("billing:budgets",))


def watch_balance(*, account: Account, threshold_ucr: int | None) -> None:
    """Warn below so many credits; None warns no more."""
    if threshold_ucr is None:
        BalanceWatch.objects.filter(account=account).delete()
        return
    set_to = {"threshold_ucr": threshold_ucr, "is_armed": False}
    BalanceWatch.objects.update_or_create(account=account, defaults=set_to)


def low_balance_of(account: Account) -> int | None:
    return BalanceWatch.objects.filter(account=account).values_list("threshold_ucr", flat=True).first()
