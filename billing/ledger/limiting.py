"""A spend that a budget refused: said in words, and noted so that it can be told of."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from django.core.cache import cache

from billing.ledger import refusals
from billing.models import Budget, BudgetCounter

# A refusal undoes its transaction, and a row with it. A lost note is told at the next refusal.
NOTE_SECONDS = 3600


def refuse(budget_id: UUID, *, needed_ucr: int) -> refusals.BudgetExceeded:
    budget = Budget.objects.get(pk=budget_id)
    counter = BudgetCounter.objects.filter(budget=budget).order_by("-period_start").first()
    spent, held = (counter.spent_ucr, counter.held_ucr) if counter else (0, 0)
    cache.set(_note(budget.pk), True, timeout=NOTE_SECONDS)
    return refusals.BudgetExceeded(budget, needed_ucr, spent, held)


def take_notes(budgets: Sequence[UUID]) -> list[UUID]:
    """Which of these budgets refused something since this was last asked."""
    names = {_note(each): each for each in budgets}
    noted = cache.get_many(list(names))
    cache.delete_many(list(noted))
    return [names[each] for each in noted]


def _note(budget_id: UUID) -> str:
    return f"billing:budget-refused:{budget_id}"
