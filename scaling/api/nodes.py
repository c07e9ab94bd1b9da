"""Nodes over HTTP: seen, registered, drained; and the reports of the remote ones."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

from django.db.models import QuerySet
from django.http import Http404
from django.utils import timezone
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import mixins, viewsets
from rest_framework.decorators import action
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.settings import api_settings

from scaling import health, nodes
from scaling.api import serializers, tokens
from scaling.models import Node

MOST_HISTORY = 1000
CLOCKS_DIFFER_BY = timedelta(minutes=1)
FILTERS = {"status": set(health.Status), "role": None, "region": None, "draining": {"true", "false"}}
_PARAMETERS = [
    OpenApiParameter("status", enum=list(health.Status)),
    OpenApiParameter("role"),
    OpenApiParameter("region"),
    OpenApiParameter("draining", OpenApiTypes.BOOL),
]
_LIMIT = OpenApiParameter("limit", OpenApiTypes.INT, description=f"Most reports, 1 to {MOST_HISTORY}; 200 unless said.")


class NodeViewSet(
    mixins.ListModelMixin, mixins.RetrieveModelMixin, mixins.DestroyModelMixin, viewsets.GenericViewSet[Node]
):
    scope_area = "scaling"
    staff_actions = {"create", "destroy"}
    secret_fields = ("token",)
    lookup_value_converter = "uuid"
    queryset = Node.objects.none()

    def get_queryset(self) -> QuerySet[Node]:
        found = Node.objects.visible_to(self.request.user)
        return found.filter(**self._filters()) if self.action == "list" else found

    def _filters(self) -> dict[str, Any]:
        wanted: dict[str, Any] = {}
        for name, allowed in FILTERS.items():
            value = self.request.query_params.get(name)
            if value is None:
                continue
            if allowed is not None and value not in allowed:
                raise ValidationError({name: [f"Must be one of: {', '.join(sorted(allowed))}."]})
            wanted[name] = value == "true" if name == "draining" else value
        return wanted

    def get_authenticators(self) -> list[Any]:
        known = [method() for method in api_settings.DEFAULT_AUTHENTICATION_CLASSES]
        is_report = self.action_map and "reports" in self.action_map.values()
        return [tokens.NodeTokenAuthentication(), *known] if is_report else known

    def get_serializer_class(self) -> Any:
        return {
            "create": serializers.NodeIn,
            "reports": serializers.ReportIn,
            "drain": serializers.Empty,
            "resume": serializers.Empty,
        }.get(self.action, serializers.NodeOut)

    @extend_schema(parameters=_PARAMETERS, responses=serializers.NodeOut(many=True))
    def list(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        return super().list(request, *args, **kwargs)

    @extend_schema(request=serializers.NodeIn, responses={201: serializers.NodeMade})
    def create(self, request: Request) -> Response:
        """Register a machine that will report from elsewhere; staff's own act."""
        wanted = _checked(self, request)
        node, token = nodes.register(**wanted, now=timezone.now())
        return Response({**serializers.NodeOut(node).data, "token": token}, status=201)

    def perform_destroy(self, instance: Node) -> None:
        nodes.remove(node=instance)

    @extend_schema(request=None, responses=serializers.NodeOut)
    @action(detail=True, methods=["post"])
    def drain(self, request: Request, pk: str) -> Response:
        """No new work for the node."""
        return Response(serializers.NodeOut(nodes.drain(node=self.get_object())).data)

    @extend_schema(request=None, responses=serializers.NodeOut)
    @action(detail=True, methods=["post"])
    def resume(self, request: Request, pk: str) -> Response:
        return Response(serializers.NodeOut(nodes.resume(node=self.get_object())).data)

    @extend_schema(parameters=[_LIMIT], responses=serializers.HealthHistory)
    @action(detail=True, url_path="health-history", filter_backends=[], pagination_class=None)
    def health_history(self, request: Request, pk: str) -> Response:
        """The readings kept and the status changes with their reasons, newest first."""
        node, limit = self.get_object(), _limit(request)
        found = {
            "reports": node.reports.order_by("-at", "-pk")[:limit],
            "changes": node.changes.order_by("-at", "-pk")[:limit],
        }
        return Response(serializers.HealthHistory(found).data)

    @extend_schema(request=serializers.ReportIn, responses=serializers.ReportAnswer)
    @action(detail=True, methods=["post"])
    def reports(self, request: Request, pk: str) -> Response:
        """A remote node's beat, with its own token."""
        node = self._reporting_node()
        said, now = _checked(self, request), timezone.now()
        observed_at = said.pop("observed_at", now)
        if observed_at - now > CLOCKS_DIFFER_BY:
            raise ValidationError({"observed_at": ["Lies more than a minute ahead of the server's clock."]})
        heard = nodes.report(name=node.name, beat_seconds=node.beat_seconds, **said, observed_at=observed_at, now=now)
        return Response(serializers.ReportAnswer(heard).data)

    def _reporting_node(self) -> Node:
        if not isinstance(self.request.user, tokens.NodePrincipal):
            return self.get_object()
        if str(self.request.user.pk) != str(self.kwargs["pk"]):
            raise Http404("A node token is good only for its own node.")
        return self.request.user.node


def _checked(view: viewsets.GenericViewSet[Any], request: Request) -> dict[str, Any]:
    serializer = view.get_serializer(data=request.data)
    serializer.is_valid(raise_exception=True)
    found: dict[str, Any] = serializer.validated_data
    return found


def _limit(request: Request) -> int:
    asked = request.query_params.get("limit", "200")
    if not re.fullmatch(r"[0-9]{1,4}", asked) or not 1 <= int(asked) <= MOST_HISTORY:
        raise ValidationError({"limit": [f"Must be a number from 1 to {MOST_HISTORY}."]})
    return int(asked)
