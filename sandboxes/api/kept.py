"""Endpoints of long-lived sandboxes. After its end one answers 410, and stays in the list with its state."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.utils import timezone
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import mixins, status, viewsets
from rest_framework.request import Request
from rest_framework.response import Response

from sandboxes import keeping, lifecycle, lifetimes
from sandboxes.api import serializers
from sandboxes.api.viewsets import CREATED, WAIT, acting_account, created_between, one_of, wait_seconds
from sandboxes.models import Sandbox

FILTERS = [OpenApiParameter("state", str, enum=lifecycle.KEPT_STATES), *CREATED]


class SandboxViewSet(mixins.ListModelMixin, viewsets.GenericViewSet[Sandbox]):
    scope_area = "sandboxes"
    serializer_class = serializers.SandboxOut
    _bodies = {"create": serializers.SandboxIn, "partial_update": serializers.SandboxChange}

    def get_serializer_class(self) -> Any:
        return self._bodies.get(self.action, self.serializer_class)

    def get_queryset(self) -> Any:
        if self.action in ("partial_update", "destroy"):
            return Sandbox.objects.editable_by(self.request.user)
        rows = Sandbox.objects.visible_to(self.request.user).select_related("template").with_activity()
        if self.action != "list":
            return rows
        own = rows.filter(account=acting_account(self.request))
        if "state" in self.request.query_params:
            own = own.in_state(one_of(self.request, "state", lifecycle.KEPT_STATES))
        return created_between(own, self.request)

    @extend_schema(parameters=FILTERS)
    def list(self, request: Request) -> Response:
        """Those that ended are in it too."""
        return super().list(request)

    @extend_schema(responses={201: serializers.SandboxOut}, parameters=[WAIT])
    def create(self, request: Request) -> Response:
        """Open a sandbox that keeps its files from one execution to the next, until its time is over.

        The answer comes when it is ready or could not be opened, or after `wait` seconds (5).
        """
        seconds = wait_seconds(request) if "wait" in request.query_params else keeping.WAIT_SECONDS
        asked = self._asked(request)
        now = timezone.now()
        sandbox = keeping.open_sandbox(account=acting_account(request), by=request.user, now=now, **asked)
        keeping.wait_until_open(sandbox, seconds=seconds)
        return self._answer(sandbox, status.HTTP_201_CREATED)

    def retrieve(self, request: Request, pk: UUID) -> Response:
        """After its end this is 410 `gone`."""
        sandbox = self.get_object()
        if not sandbox.is_open or sandbox.expires_at <= timezone.now():
            raise lifetimes.Ended(sandbox)
        return Response(serializers.SandboxOut(sandbox).data)

    @extend_schema(responses=serializers.SandboxOut)
    def partial_update(self, request: Request, pk: UUID) -> Response:
        """Give it more time: at least `ttl_seconds` from now, and a day at most in all. After its end 410 `gone`."""
        sandbox = self.get_object()
        asked = self._asked(request)
        extended = keeping.extend(sandbox=sandbox, by=request.user, now=timezone.now(), **asked)
        return self._answer(extended, status.HTTP_200_OK)

    @extend_schema(request=None, responses={204: None})
    def destroy(self, request: Request, pk: UUID) -> Response:
        """End it; the answer comes when nothing of it runs any more. Ending it again changes nothing."""
        keeping.close(sandbox=self.get_object(), by=request.user, now=timezone.now())
        return Response(status=status.HTTP_204_NO_CONTENT)

    def _asked(self, request: Request) -> dict[str, Any]:
        body = self.get_serializer(data=request.data)
        body.is_valid(raise_exception=True)
        asked: dict[str, Any] = body.validated_data
        return asked

    def _answer(self, sandbox: Sandbox, code: int) -> Response:
        row = Sandbox.objects.select_related("template").with_activity().get(pk=sandbox.pk)
        return Response(serializers.SandboxOut(row).data, status=code)
