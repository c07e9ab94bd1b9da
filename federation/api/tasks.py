"""Endpoints of tasks."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.shortcuts import get_object_or_404
from django.utils import timezone
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import status
from rest_framework.request import Request
from rest_framework.response import Response

from federation import coordination, remote
from federation.api import doors, serializers, shapes
from federation.api.agents import full
from federation.api.doors import Door
from federation.models import Task

FILTERS = [
    OpenApiParameter("state", str, enum=Task.State.values),
    OpenApiParameter("type", str),
    OpenApiParameter("agent", OpenApiTypes.UUID, description="Whom it is assigned to."),
    *doors.CREATED,
]


class TaskViewSet(Door):
    serializer_class = shapes.TaskOut
    bodies = {
        "create": shapes.TaskIn,
        "batch": shapes.TaskBatchIn,
        "cancel": serializers.Nothing,
        "retry": serializers.Nothing,
        "extend": shapes.ExtendIn,
        "complete": shapes.CompleteIn,
        "fail": shapes.FailIn,
    }
    agent_actions = frozenset({"retrieve", "extend", "complete", "fail"})

    def get_queryset(self) -> Any:
        return Task.objects.visible_to(self.request.user)

    @extend_schema(parameters=FILTERS, responses=shapes.TaskRow(many=True))
    def list(self, request: Request, federation_pk: UUID) -> Response:
        rows = Task.objects.light().filter(federation=self.federation(federation_pk))
        rows = doors.chosen(rows, request, "state", Task.State.values)
        if "type" in request.query_params:
            rows = rows.filter(type=doors.text(request, "type"))
        if "agent" in request.query_params:
            rows = rows.filter(assigned_to=doors.ident(request, "agent"))
        return Response(self.page(doors.created_between(rows, request), shapes.TaskRow).data)

    @extend_schema(responses={201: shapes.TaskOut})
    def create(self, request: Request, federation_pk: UUID) -> Response:
        """Give the federation a task. It starts when an agent with the capabilities has room."""
        order = coordination.Order(**self.body(request))
        task = coordination.submit_task(
            federation=self.federation(federation_pk), order=order, by=request.user, now=timezone.now()
        )
        return self._answer(task, status.HTTP_201_CREATED)

    @extend_schema(responses=serializers.AcceptedBatchOut)
    def batch(self, request: Request, federation_pk: UUID) -> Response:
        """Up to 1,000 tasks; each is accepted or refused by itself."""
        federation = self.federation(federation_pk)
        asked = self.each(self.body(request)["tasks"], shapes.TaskItemIn)
        orders = [coordination.Order(**each) if isinstance(each, dict) else each for each in asked]
        answers = coordination.submit_tasks(federation=federation, orders=orders, by=request.user, now=timezone.now())
        results = [{"id": str(each.pk)} if isinstance(each, Task) else self.problem(each) for each in answers]
        return Response({"results": results})

    @extend_schema(responses=shapes.TaskOut)
    def retrieve(self, request: Request, pk: UUID) -> Response:
        return self._answer(self._task(pk))

    @extend_schema(request=None, responses=shapes.TaskOut)
    def cancel(self, request: Request, pk: UUID) -> Response:
        """End it at once; 409 when it has ended."""
        return self._answer(coordination.cancel_task(task=self._task(pk), now=timezone.now()))

    @extend_schema(request=None, responses=shapes.TaskOut)
    def retry(self, request: Request, pk: UUID) -> Response:
        """Queue a failed, expired, cancelled or dead task afresh; 409 for others."""
        return self._answer(coordination.retry_task(task=self._task(pk), now=timezone.now()))

    @extend_schema(responses=shapes.ExtendOut)
    def extend(self, request: Request, pk: UUID) -> Response:
        asked = self.body(request)
        until = remote.extend(
            task=self._task(pk),
            agent=self.acting_agent(),
            epoch=asked["epoch"],
            progress=asked.get("progress"),
            note=asked.get("note"),
            now=timezone.now(),
        )
        return Response(shapes.ExtendOut({"epoch": asked["epoch"], "lease_expires_at": until}).data)

    @extend_schema(responses=shapes.TaskOut)
    def complete(self, request: Request, pk: UUID) -> Response:
        """The result, once; the same again is answered the same. A stale epoch is 409, and kept without effect."""
        asked = self.body(request)
        task = remote.complete(
            task=self._task(pk),
            agent=self.acting_agent(),
            epoch=asked["epoch"],
            result=asked.get("result"),
            now=timezone.now(),
        )
        return self._answer(task)

    @extend_schema(responses=shapes.TaskOut)
    def fail(self, request: Request, pk: UUID) -> Response:
        """It failed; when `retryable` (the default) it is tried again while attempts are left."""
        asked = self.body(request)
        task = remote.fail(
            task=self._task(pk),
            agent=self.acting_agent(),
            epoch=asked["epoch"],
            error=asked["error"],
            retryable=asked.get("retryable", True),
            now=timezone.now(),
        )
        return self._answer(task)

    def _task(self, pk: UUID) -> Task:
        rows = self._doors(Task.objects).light()
        agent = self.acting_agent()
        if agent is not None:
            rows = rows.filter(federation=agent.federation_id)
        return get_object_or_404(rows, pk=pk)

    def _answer(self, task: Task, code: int = status.HTTP_200_OK) -> Response:
        return Response(shapes.TaskOut(full(task.pk)).data, status=code)
