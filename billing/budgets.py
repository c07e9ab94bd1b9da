"""Budgets: made, changed, ended, and how they stand. What counts on them is counted in the database, with each spend.

A budget counts what is charged or held after it was made; a hold counts in the period in which it was made. One that
blocks refuses what would lead beyond its limit; what was held before, and finished work, is charged all the same.
What is reversed is given back to the periods that counted it, until those are long over and nothing shows them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from django.db import IntegrityError, connection, transaction
from django.db.models import Q, QuerySet

from billing import ledger, live, pricing
from billing.models import Account, ApiKey, Budget, BudgetCounter, BudgetSpend

THRESHOLDS = (50, 80, 100)
MOST_THRESHOLDS = 10
HIGHEST_THRESHOLD = 1000
MOST = 100
# When a period is over wherever its account's clock may be set, with a day to spare for clocks that differ.
OVER_AFTER = {"day": timedelta(days=3), "week": timedelta(days=9), "month": timedelta(days=33)}
# How many counters, and how many spends, a sweep forgets.
MOST_COUNTERS = 200
MOST_SPENDS = 5000
PERIODS = "select id, billing_budget_period(period, %s, %s) from billing_budget where account_id = %s"


class BadBudget(Exception):
    """Raised for a budget that cannot be."""

    code = "validation_error"

    def __init__(self, field: str, sentence: str) -> None:
        self.field = field
        self.extras = {"errors": {field: [sentence]}}
        super().__init__(sentence)


class BudgetExists(Exception):
    """Raised when there is one for the same thing, period and action."""

    code = "conflict"
    extras = {"state": "exists"}

    def __init__(self) -> None:
        super().__init__("There is such a budget already. Change that one.")


class NoSuchBudget(Exception):
    """Raised when a budget was removed meanwhile."""

    code = "not_found"

    def __init__(self) -> None:
        super().__init__("There is no such budget any more.")


class TooManyBudgets(Exception):
    """Raised when an account has as many budgets as it may."""

    code = "resource_limit_exceeded"
    extras = {"limit": MOST}

    def __init__(self) -> None:
        super().__init__(f"An account has at most {MOST} budgets. Remove one first.")


@dataclass(frozen=True)
class Standing:
    """What was spent, and is held, of a budget in its present period."""

    budget: Budget
    period_start: datetime
    spent_ucr: int
    held_ucr: int

    @property
    def share(self) -> float:
        return self.spent_ucr / self.budget.limit_ucr

    @property
    def left_ucr(self) -> int:
        return max(0, self.budget.limit_ucr - self.spent_ucr - self.held_ucr)


@transaction.atomic
def create(
    *,
    account: Account,
    scope: str,
    period: str,
    limit_ucr: int,
    action: str,
    now: datetime,
    target: str = "",
    thresholds: Iterable[int] = THRESHOLDS,
) -> Budget:
    """Raises BadBudget, BudgetExists, TooManyBudgets."""
    wallet = ledger.lock_wallet(account.pk)
    _check_target(account, scope, target)
    if Budget.objects.filter(account=account).count() >= MOST:
        raise TooManyBudgets
    try:
        with transaction.atomic():
            made: Budget = Budget.objects.create(
                account=account,
                scope=scope,
                target=target,
                period=period,
                limit_ucr=limit_ucr,
                action=action,
                thresholds=_thresholds(thresholds),
                created_at=now,
            )
    except IntegrityError as same:
        raise BudgetExists from same
    wallet.has_budgets = True
    wallet.save(update_fields=["has_budgets"])
    live.budgets_changed(account.pk)
    return made


def _check_target(account: Account, scope: str, target: str) -> None:
    if scope == Budget.Scope.ACCOUNT:
        if target:
            raise BadBudget("target", "A budget for all of the account has no target.")
        return
    if not target:
        raise BadBudget("target", "Say for which one.")
    if scope == Budget.Scope.METER and target not in list(pricing.Meter):
        raise BadBudget("target", f"There is no such meter. Use one of {', '.join(pricing.Meter)}.")
    if scope == Budget.Scope.API_KEY and not _is_key(account, target):
        raise BadBudget("target", "This account has no such API key. Name it by its id.")


def _is_key(account: Account, target: str) -> bool:
    try:
        return ApiKey.objects.filter(account=account, pk=UUID(target)).exists() and target == str(UUID(target))
    except ValueError:
        return False


def _thresholds(given: Iterable[int]) -> list[int]:
    found = sorted(set(given))
    if len(found) > MOST_THRESHOLDS or any(not 0 < each <= HIGHEST_THRESHOLD for each in found):
        raise BadBudget("thresholds", f"At most {MOST_THRESHOLDS} percents, each from 1 to {HIGHEST_THRESHOLD}.")
    return found


@transaction.atomic
def change(
    *,
    budget: Budget,
    limit_ucr: int | None = None,
    action: str | None = None,
    thresholds: Iterable[int] | None = None,
) -> Budget:
    """What was spent so far still counts. Raises BadBudget, BudgetExists, NoSuchBudget."""
    ledger.lock_wallet(budget.account_id)
    found = Budget.objects.select_related("account").filter(pk=budget.pk).first()
    if found is None:
        raise NoSuchBudget
    budget = found  # As it is now: somebody may have changed the rest of it.
    if limit_ucr is not None:
        budget.limit_ucr = limit_ucr
    if action is not None:
        budget.action = action
    if thresholds is not None:
        budget.thresholds = _thresholds(thresholds)
    try:
        with transaction.atomic():
            budget.save(update_fields=["limit_ucr", "action", "thresholds"])
    except IntegrityError as same:
        raise BudgetExists from same
    live.budgets_changed(budget.account_id)
    return budget


@transaction.atomic
def remove(*, budget: Budget) -> None:
    """With what it counted and told."""
    wallet = ledger.lock_wallet(budget.account_id)
    budget.delete()
    wallet.has_budgets = Budget.objects.filter(account=budget.account_id).exists()
    wallet.save(update_fields=["has_budgets"])
    live.budgets_changed(budget.account_id)


def standings(account: Account, budgets: Sequence[Budget], *, now: datetime) -> list[Standing]:
    """How these budgets of one account stand, in their order."""
    starts = _starts(account, now)
    rows = BudgetCounter.objects.filter(budget__in=budgets, period_start__in=set(starts.values()))
    counters = {(row.budget_id, row.period_start): row for row in rows}
    found = []
    for budget in budgets:
        start = starts[budget.pk]
        counter = counters.get((budget.pk, start))
        spent, held = (counter.spent_ucr, counter.held_ucr) if counter else (0, 0)
        found.append(Standing(budget, start, spent, held))
    return found


def _starts(account: Account, now: datetime) -> dict[UUID, datetime]:
    with connection.cursor() as cursor:
        cursor.execute(PERIODS, [account.time_zone, now, account.pk])
        return dict(cursor.fetchall())


def forget(*, now: datetime) -> int:
    """Forget which spends counted in periods that are long over; returns how many. A few at a time, the oldest first.

    Whatever the account's time zone becomes, no spend counts on such a counter, no page shows it and no budget refuses
    by it, so a reversal has nothing to give back to it. A hold that still reserves of it keeps it, since its end counts
    there.
    """
    forgotten = 0
    for counter in _over(now)[:MOST_COUNTERS]:
        room = MOST_SPENDS - forgotten
        found = list(BudgetSpend.objects.filter(counter=counter).order_by("pk").values_list("pk", flat=True)[:room])
        BudgetSpend.objects.filter(pk__in=found).delete()
        forgotten += len(found)
        if len(found) == room:
            break
        BudgetCounter.objects.filter(pk=counter, held_ucr=0).update(is_over=True)
    return forgotten


def _over(now: datetime) -> QuerySet[BudgetCounter, int]:
    long_over = Q()
    for period, lasts in OVER_AFTER.items():
        long_over |= Q(budget__period=period, period_start__lt=now - lasts)
    rows = BudgetCounter.objects.filter(long_over, is_over=False, held_ucr=0)
    return rows.order_by("period_start", "pk").values_list("pk", flat=True)
