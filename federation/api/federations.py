"""Endpoints of federations: settings, topology, routes, events."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.utils import timezone
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import status
from rest_framework.request import Request
from rest_framework.response import Response

from federation import coordination, maps, standing
from federation.api import doors, serializers
from federation.api.doors import Door
from federation.assignment import STRATEGIES
from federation.models import Event, Federation, TopologyVersion
from federation.topology import SHAPES, NotAMember

HISTORY = 20


class Unreachable(Exception):
    """Raised when a route is asked to or from someone who is no linked member."""

    code = "not_found"


class FederationViewSet(Door):
    serializer_class = serializers.FederationOut
    bodies = {"create": serializers.FederationIn, "partial_update": serializers.FederationChange}

    def get_queryset(self) -> Any:
        return Federation.objects.visible_to(self.request.user)

    @extend_schema(
        parameters=[
            OpenApiParameter("topology", str, enum=SHAPES),
            OpenApiParameter("strategy", str, enum=STRATEGIES),
            OpenApiParameter("name", str, description="Part of the name."),
            *doors.CREATED,
        ],
        responses=serializers.FederationOut(many=True),
    )
    def list(self, request: Request) -> Response:
        rows = self.get_queryset().filter(account=doors.acting_account(request))
        rows = doors.chosen(rows, request, "topology", SHAPES)
        rows = doors.chosen(rows, request, "strategy", STRATEGIES)
        if "name" in request.query_params:
            rows = rows.filter(name__icontains=doors.text(request, "name"))
        found = self.paginate_queryset(doors.created_between(rows, request))
        return self.get_paginated_response(self._out(found or [], many=True))

    @extend_schema(responses={201: serializers.FederationOut})
    def create(self, request: Request) -> Response:
        federation = coordination.create_federation(
            account=doors.acting_account(request), by=request.user, now=timezone.now(), **self.body(request)
        )
        return Response(self._out(federation), status=status.HTTP_201_CREATED)

    @extend_schema(responses=serializers.FederationOut)
    def retrieve(self, request: Request, pk: UUID) -> Response:
        return Response(self._out(self.federation(pk)))

    @extend_schema(responses=serializers.FederationOut, parameters=[doors.IF_MATCH])
    def partial_update(self, request: Request, pk: UUID) -> Response:
        """Change settings. Another topology re-wires and raises `topology_version`."""
        federation = coordination.change_federation(
            federation=self.federation(pk),
            changes=self.body(request),
            by=request.user,
            now=timezone.now(),
            version=doors.version(request),
        )
        return Response(self._out(federation))

    @extend_schema(request=None, responses={204: None})
    def destroy(self, request: Request, pk: UUID) -> Response:
        """Close it: its live tasks are cancelled, its agents leave."""
        coordination.delete_federation(federation=self.federation(pk), by=request.user, now=timezone.now())
        return Response(status=status.HTTP_204_NO_CONTENT)

    @extend_schema(responses=serializers.TopologyOut)
    def topology(self, request: Request, pk: UUID) -> Response:
        found = maps.of(self.federation(pk))
        federation, shape = found.federation, found.shape
        members = shape.members
        versions = TopologyVersion.objects.filter(federation=federation).order_by("-version")[:HISTORY]
        answer = {
            "topology": federation.topology,
            "effective_topology": shape.shape,
            "topology_version": federation.topology_version,
            "leader": federation.leader_id,
            "epoch": federation.epoch,
            "nodes": [_node(found, agent) for agent in found.agents],
            "links": [[members[a], members[b]] for a, b in shape.links()],
            "metrics": shape.metrics(),
            "history": versions,
        }
        return Response(serializers.TopologyOut(answer).data)

    @extend_schema(
        responses=serializers.RouteOut,
        parameters=[
            OpenApiParameter("from", OpenApiTypes.UUID, required=True),
            OpenApiParameter("to", OpenApiTypes.UUID, required=True),
        ],
    )
    def route(self, request: Request, pk: UUID) -> Response:
        """The way a message takes, both ends included."""
        found = maps.of(self.federation(pk))
        start, end = doors.ident(request, "from"), doors.ident(request, "to")
        try:
            path = found.shape.route(start, end)
        except NotAMember as stranger:
            raise Unreachable(str(stranger)) from stranger
        return Response(serializers.RouteOut({"path": path, "hops": len(path) - 1}).data)

    @extend_schema(
        responses=serializers.EventOut(many=True),
        parameters=[OpenApiParameter("kind", str, enum=Event.Kind.values), *doors.CREATED],
    )
    def events(self, request: Request, pk: UUID) -> Response:
        """What happened, the newest first."""
        rows = Event.objects.filter(federation=self.federation(pk))
        rows = doors.chosen(rows, request, "kind", Event.Kind.values)
        return Response(self.page(doors.created_between(rows, request), serializers.EventOut).data)

    def _out(self, found: Any, *, many: bool = False) -> Any:
        standings = standing.of(found if many else [found])
        return serializers.FederationOut(found, many=many, context={"standings": standings}).data


def _node(found: maps.Map, agent: Any) -> dict[str, Any]:
    return {
        "id": agent.pk,
        "name": agent.name,
        "role": found.role(agent),
        "status": agent.status,
        "load": agent.load,
        "level": found.shape.level(agent.pk),
    }
