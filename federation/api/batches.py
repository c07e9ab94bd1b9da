"""Endpoints of agents that do many small tasks: claimed and completed by the hundred."""

from __future__ import annotations

from uuid import UUID

from django.db.models import Prefetch
from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from federation import agents, bulk, remote
from federation.api import serializers, shapes
from federation.api.doors import Door
from federation.models import Agent, Attempt, Task

USUAL = 100


class AgentTaskViewSet(Door):
    serializer_class = shapes.ClaimBatchOut
    bodies = {"claim": shapes.ClaimBatchIn, "complete": shapes.CompleteBatchIn}
    agent_actions = frozenset({"claim", "complete"})

    @extend_schema(responses=shapes.ClaimBatchOut)
    def claim(self, request: Request, pk: UUID) -> Response:
        """The agent's next tasks at once, up to `max` and its capacity; none is an empty list."""
        most = self.body(request).get("max", USUAL)
        claimed = remote.claim_many(agent=self._present(pk), most=most, now=timezone.now())
        tasks = _full(claimed)
        results = [
            {"task": tasks[attempt.task_id], "epoch": attempt.epoch, "lease_expires_at": attempt.lease_expires_at}
            for attempt in claimed
        ]
        return Response(shapes.ClaimBatchOut({"results": results}).data)

    @extend_schema(responses=serializers.AcceptedBatchOut)
    def complete(self, request: Request, pk: UUID) -> Response:
        """Up to 1,000 results; each is recorded, or refused as it would be alone."""
        agent = self._present(pk)
        asked = self.each(self.body(request)["tasks"], shapes.CompleteItemIn)
        answers = [bulk.Answer(each["task"], each["epoch"], each.get("result")) for each in asked if _is_good(each)]
        said = iter(remote.complete_many(agent=agent, answers=answers, now=timezone.now()))
        found = [next(said) if _is_good(each) else each for each in asked]
        results = [
            {"id": str(each.task_id)} if isinstance(each, Attempt) else self.problem(each)  # type: ignore[arg-type]
            for each in found
        ]
        return Response({"results": results})

    def _present(self, pk: UUID) -> Agent:
        agent = self.agent(pk)
        if agent.availability == Agent.Availability.LOST:
            raise agents.Gone
        return agent


def _is_good(asked: object) -> bool:
    return isinstance(asked, dict)


def _full(claimed: list[Attempt]) -> dict[UUID, Task]:
    """The tasks with what their answers show, in a fixed number of queries."""
    tried = Prefetch(
        "attempts", Attempt.objects.select_related("execution").defer("execution__code", "execution__files")
    )
    rows = Task.objects.filter(pk__in=[attempt.task_id for attempt in claimed])
    return {task.pk: task for task in rows.prefetch_related(tried, "dependencies")}
