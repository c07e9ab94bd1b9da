"""What an account can still spend on something, asked without setting anything aside.

For work that begins elsewhere and is charged when it has ended: whoever hands it out asks first. Two that ask at once
hear the same; what is certain needs a hold.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from django.db import connection

from billing.ledger import granting, limiting, refusals

# Only what blocks is looked for; a wallet that no budget watches pays nothing for them.
MEANS = """
select a.status, w.posted_ucr - w.held_ucr - w.floor_ucr, case when w.has_budgets then (
         select jsonb_agg(jsonb_build_array(b.id, case when b.scope = 'agent' then b.target else '' end,
                                            b.limit_ucr - coalesce(c.spent_ucr + c.held_ucr, 0)) order by b.id)
           from billing_budget b
           left join billing_budgetcounter c on c.budget_id = b.id
                and c.period_start = billing_budget_period(b.period, a.time_zone, %(now)s)
          where b.account_id = a.id and b.action = 'block'
            and (b.scope in ('account', 'agent') or (b.scope = 'meter' and b.target = %(meter)s))) end
  from billing_account a join billing_ledgeraccount w on w.account_id = a.id where a.id = %(account)s"""


@dataclass(frozen=True)
class Limit:
    """What a budget that blocks leaves: to one agent, or to all where it names none."""

    budget_id: UUID
    agent: str
    left_ucr: int


@dataclass(frozen=True)
class Means:
    status: str
    available_ucr: int
    limits: tuple[Limit, ...]

    def left_ucr(self, *, agent: str = "") -> int:
        """What can be spent for this agent, at least nothing."""
        if self.status != "active":
            return 0
        return max(0, min([self.available_ucr, *(each.left_ucr for each in self._of(agent))]))

    def refusal(self, amount_ucr: int, *, agent: str = "") -> Exception | None:
        """Why so much cannot be spent now, as a charge would say it: one of CANNOT_SPEND."""
        if self.status != "active":
            return refusals.AccountNotActive(self.status)
        if self.available_ucr < amount_ucr:
            return refusals.InsufficientCredits(amount_ucr, self.available_ucr)
        over = [each for each in self._of(agent) if each.left_ucr < amount_ucr]
        return limiting.refuse(over[0].budget_id, needed_ucr=amount_ucr) if over else None

    def less(self, spent_ucr: int, *, own_ucr: int) -> Means:
        """If so much more is spent by everybody, and of that so much by the agent that is asked about."""
        limits = [
            replace(each, left_ucr=each.left_ucr - (own_ucr if each.agent else spent_ucr)) for each in self.limits
        ]
        return Means(self.status, self.available_ucr - spent_ucr, tuple(limits))

    def _of(self, agent: str) -> list[Limit]:
        return [each for each in self.limits if each.agent in ("", agent)]


def means(*, account_id: UUID, meter: str, now: datetime) -> Means:
    """What there is to spend on a meter in each budget's present period."""
    row = _ask(account_id, meter, now)
    if row is None:
        granting.open_wallet(account_id)
        row = _ask(account_id, meter, now)
    assert row is not None
    status, available, limits = row
    found = json.loads(limits) if isinstance(limits, str) else limits or []
    return Means(status, available, tuple(Limit(UUID(id), agent, left) for id, agent, left in found))


def _ask(account_id: UUID, meter: str, now: datetime) -> tuple[str, int, list[list[object]] | str | None] | None:
    with connection.cursor() as cursor:
        cursor.execute(MEANS, {"account": account_id, "meter": meter, "now": now})
        row: tuple[str, int, list[list[object]] | str | None] | None = cursor.fetchone()
    return row
