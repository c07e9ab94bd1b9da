"""Scaling groups over HTTP: kept, paused, evaluated."""

from __future__ import annotations

import re
from typing import Any

from django.conf import settings
from django.db.models import QuerySet
from django.utils import timezone
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import mixins, viewsets
from rest_framework.decorators import action
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

from scaling import autoscaler, targets
from scaling.api import serializers
from scaling.models import Decision, Group
from scaling.policy import Action, Load, Policy

_ACTION = OpenApiParameter("action", enum=list(Action))
_DRY_RUN = OpenApiParameter("dry_run", OpenApiTypes.BOOL, description="Only say what would happen.")


class StaffsMetrics(Exception):
    """Raised when someone who is not staff evaluates with metrics of their own."""

    code = "staff_required"

    def __init__(self) -> None:
        super().__init__("Only staff may evaluate with metrics of their own.")


class GroupViewSet(
    mixins.ListModelMixin, mixins.RetrieveModelMixin, mixins.DestroyModelMixin, viewsets.GenericViewSet[Group]
):
    scope_area = "scaling"
    lookup_value_converter = "uuid"
    queryset = Group.objects.none()

    def get_queryset(self) -> QuerySet[Group]:
        return Group.objects.visible_to(self.request.user)

    def get_serializer_class(self) -> Any:
        return {
            "create": serializers.GroupIn,
            "partial_update": serializers.GroupChange,
            "evaluate": serializers.EvaluateIn,
            "pause": serializers.Empty,
            "resume": serializers.Empty,
        }.get(self.action, serializers.GroupOut)

    @extend_schema(request=serializers.GroupIn, responses={201: serializers.GroupOut})
    def create(self, request: Request) -> Response:
        wanted = self._checked(request)
        target = wanted["target"]
        try:
            targets.check(target["type"], target["id"])
        except targets.UnknownTarget as unknown:
            raise ValidationError({"target": [str(unknown)]}) from unknown
        group = autoscaler.create(
            name=wanted["name"],
            target_type=target["type"],
            target_id=target["id"],
            wanted=Policy(**wanted.get("policy", {})),
            now=timezone.now(),
        )
        return Response(serializers.GroupOut(group).data, status=201)

    @extend_schema(
        request=serializers.GroupChange,
        responses=serializers.GroupOut,
        parameters=[OpenApiParameter("If-Match", location="header", description="The version it must still have.")],
    )
    def partial_update(self, request: Request, pk: str) -> Response:
        group, wanted = self.get_object(), self._checked(request)
        policy = vars(autoscaler.policy_of(group)) | wanted.get("policy", {})
        group = autoscaler.change(
            group=group,
            name=wanted.get("name", group.name),
            wanted=Policy(**policy),
            version=_if_match(request),
        )
        return Response(serializers.GroupOut(group).data)

    def perform_destroy(self, instance: Group) -> None:
        autoscaler.remove(group=instance)

    @extend_schema(request=None, responses=serializers.GroupOut)
    @action(detail=True, methods=["post"])
    def pause(self, request: Request, pk: str) -> Response:
        """Record decisions as held until resumed."""
        return Response(serializers.GroupOut(autoscaler.pause(group=self.get_object())).data)

    @extend_schema(request=None, responses=serializers.GroupOut)
    @action(detail=True, methods=["post"])
    def resume(self, request: Request, pk: str) -> Response:
        return Response(serializers.GroupOut(autoscaler.resume(group=self.get_object())).data)

    @extend_schema(request=serializers.EvaluateIn, responses=serializers.DecisionOut, parameters=[_DRY_RUN])
    @action(detail=True, methods=["post"])
    def evaluate(self, request: Request, pk: str) -> Response:
        """Decide now. Staff may give metrics of their own for a dry run, or under the test clock."""
        group, said, dry_run = self.get_object(), self._checked(request), _dry_run(request)
        decision = autoscaler.evaluate(
            group_id=group.pk,
            by=str(request.user),
            now=timezone.now(),
            load=self._own_load(said.get("metrics"), dry_run),
            dry_run=dry_run,
        )
        return Response(serializers.DecisionOut(decision).data)

    def _own_load(self, metrics: dict[str, Any] | None, dry_run: bool) -> Load | None:
        if metrics is None:
            return None
        if not self.request.user.is_staff:
            raise StaffsMetrics
        if not dry_run and not (settings.NTD_TEST_CLOCK and settings.DEBUG):
            raise ValidationError({"metrics": ["Own metrics are for ?dry_run=true, or for the test clock."]})
        given = {name: float("nan") if value is None else value for name, value in metrics.items()}
        return Load(**{"observed_at": timezone.now()} | given)

    @extend_schema(parameters=[_ACTION], responses=serializers.DecisionOut(many=True))
    @action(detail=True)
    def decisions(self, request: Request, pk: str) -> Response:
        """Every evaluation that acted or was held back, newest first."""
        found = Decision.objects.filter(group=self.get_object())
        wanted = request.query_params.get("action")
        if wanted is not None:
            if wanted not in set(Action):
                raise ValidationError({"action": [f"Must be one of: {', '.join(Action)}."]})
            found = found.filter(action=wanted)
        page = self.paginate_queryset(found)
        return self.get_paginated_response(serializers.DecisionOut(page, many=True).data)

    def _checked(self, request: Request) -> dict[str, Any]:
        serializer = self.get_serializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        found: dict[str, Any] = serializer.validated_data
        return found


def _if_match(request: Request) -> int | None:
    said = request.headers.get("If-Match", "").strip().strip('"')
    if not said:
        return None
    if not re.fullmatch(r"[0-9]{1,9}", said):
        raise ValidationError({"If-Match": ["Must be a version number."]})
    return int(said)


def _dry_run(request: Request) -> bool:
    said = request.query_params.get("dry_run", "false")
    if said not in ("true", "false"):
        raise ValidationError({"dry_run": ["Must be true or false."]})
    return said == "true"
