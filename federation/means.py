"""Whether an account can pay for more of its remote agents' time. What managed agents run is held for when it starts;
remote work is charged when it has ended, so whoever hands it out asks here first.

A task costs at least the time of a lease, and so does each that is under way: a few last credits start no thousand.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from django.db.models import Count

from billing import ledger, rating
from federation import attempts
from federation.assignment import Candidate
from federation.models import Agent, Attempt, Federation
from federation.wages import SECOND

# With means for so many more tasks nobody counts those that are under way.
AMPLE = 1000


@dataclass
class Purse:
    """What there is for the remote agents of an account, looked up once."""

    account_id: UUID
    means: ledger.Means
    lease_ucr: int
    _under_way: dict[UUID, int] | None = field(default=None, init=False)

    def of(self, agent_id: UUID) -> ledger.Means:
        """Less what is under way will cost."""
        if self.means.left_ucr(agent=str(agent_id)) >= AMPLE * self.lease_ucr:
            return self.means
        if self._under_way is None:
            running = Attempt.objects.filter(state=Attempt.State.RUNNING, agent__runtime=Agent.Runtime.REMOTE)
            running = running.filter(task__federation__account=self.account_id).order_by()
            self._under_way = dict(running.values_list("agent").annotate(Count("pk")))
        spent, own = sum(self._under_way.values()), self._under_way.get(agent_id, 0)
        return self.means.less(spent * self.lease_ucr, own_ucr=own * self.lease_ucr)

    def refusal(self, agent_id: UUID) -> Exception | None:
        return self.of(agent_id).refusal(self.lease_ucr, agent=str(agent_id))


def _purse(federation: Federation, now: datetime) -> Purse:
    asked = {"account_id": federation.account_id, "meter": SECOND, "now": now}
    lease_ucr = rating.cost_now_ucr(**asked, quantity=Decimal(federation.lease_seconds))
    return Purse(federation.account_id, ledger.means(**asked), lease_ucr)


def judge(crew: Iterable[Candidate], *, federation: Federation, now: datetime) -> None:
    """Remote agents that cannot be paid are given nothing, and say why."""
    remote = [each for each in crew if each.is_remote]
    purse = _purse(federation, now) if remote else None
    for each in remote:
        refusal = purse.refusal(each.id) if purse else None
        each.why_not = str(refusal) if refusal else ""


def paid(*, agent: Agent, federation: Federation, most: int, now: datetime) -> int:
    """How many of so many tasks it may begin; of none, what waits for it is queued again, with the reason."""
    if agent.runtime != Agent.Runtime.REMOTE:
        return most
    purse = _purse(federation, now)
    refusal = purse.refusal(agent.pk)
    if refusal is None:
        left_ucr = purse.of(agent.pk).left_ucr(agent=str(agent.pk))
        return min(most, left_ucr // purse.lease_ucr) if purse.lease_ucr else most
    waiting = Attempt.objects.filter(agent=agent, state=Attempt.State.ASSIGNED).select_related("task")
    for attempt in waiting.order_by("task"):
        attempts.refuse(attempt=attempt, reason=str(refusal)[:500], now=now)
    return 0
