"""How federations stand, in a fixed number of queries however many there are."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from uuid import UUID

from django.db.models import Count

from federation.models import Agent, Attempt, Federation, Task


@dataclass(slots=True)
class Standing:
    agents: int = 0
    lost: int = 0
    busy: int = 0
    tasks: dict[str, int] = field(default_factory=dict)

    @property
    def queued(self) -> int:
        return self.tasks.get(Task.State.QUEUED, 0)

    @property
    def running(self) -> int:
        return sum(self.tasks.get(state, 0) for state in Task.HELD)

    @property
    def succeeded(self) -> int:
        return self.tasks.get(Task.State.SUCCEEDED, 0)

    @property
    def troubled(self) -> int:
        return sum(self.tasks.get(state, 0) for state in (Task.State.FAILED, Task.State.DEAD, Task.State.EXPIRED))

    @property
    def dead(self) -> int:
        return self.tasks.get(Task.State.DEAD, 0)

    @property
    def total(self) -> int:
        return sum(self.tasks.values())

    @property
    def status(self) -> str:
        """One word for a chip."""
        if not self.agents or self.lost == self.agents:
            return "unavailable"
        if self.lost:
            return "degraded"
        return "busy" if self.running else "idle"


def of(federations: Iterable[Federation]) -> dict[UUID, Standing]:
    found = {federation.pk: Standing() for federation in federations}
    members = Agent.objects.members().filter(federation__in=found)
    for pk, availability, count in members.values_list("federation", "availability").annotate(n=Count("pk")):
        found[pk].agents += count
        found[pk].lost += count if availability == Agent.Availability.LOST else 0
    tasks = Task.objects.filter(federation__in=found).values_list("federation", "state").annotate(n=Count("pk"))
    for pk, state, count in tasks:
        found[pk].tasks[state] = count
    live = Attempt.objects.live().filter(agent__federation__in=found)
    busy = live.values_list("agent__federation").annotate(n=Count("agent", distinct=True))
    for pk, count in busy:
        found[pk].busy = count
    return found
