"""Balancers over HTTP: kept, picked from, released."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
from django.shortcuts import get_object_or_404
from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework import mixins, viewsets
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from scaling import picks
from scaling.api import serializers
from scaling.models import Balancer, Pick


class BalancerViewSet(
    mixins.ListModelMixin, mixins.RetrieveModelMixin, mixins.DestroyModelMixin, viewsets.GenericViewSet[Balancer]
):
    scope_area = "scaling"
    lookup_value_converter = "uuid"
    queryset = Balancer.objects.none()

    def get_queryset(self) -> QuerySet[Balancer]:
        return Balancer.objects.visible_to(self.request.user)

    def get_serializer_class(self) -> Any:
        return {
            "create": serializers.BalancerIn,
            "partial_update": serializers.BalancerIn,
            "pick": serializers.PickIn,
            "release": serializers.ReleaseIn,
        }.get(self.action, serializers.BalancerOut)

    @extend_schema(request=serializers.BalancerIn, responses={201: serializers.BalancerOut})
    def create(self, request: Request) -> Response:
        made = picks.create(**self._checked(request), now=timezone.now())
        return Response(serializers.BalancerOut(made).data, status=201)

    @extend_schema(request=serializers.BalancerIn, responses=serializers.BalancerOut)
    def partial_update(self, request: Request, pk: str) -> Response:
        changed = picks.change(balancer=self.get_object(), **self._checked(request, partial=True))
        return Response(serializers.BalancerOut(changed).data)

    def perform_destroy(self, instance: Balancer) -> None:
        picks.remove(balancer=instance)

    @extend_schema(request=serializers.PickIn, responses=serializers.PickOut)
    @action(detail=True, methods=["post"])
    def pick(self, request: Request, pk: str) -> Response:
        """One healthy node; in flight until it is released or five minutes have passed."""
        found = picks.pick(balancer=self.get_object(), **self._checked(request), now=timezone.now())
        return self._answer(found)

    @extend_schema(request=serializers.ReleaseIn, responses=serializers.PickOut)
    @action(detail=True, methods=["post"])
    def release(self, request: Request, pk: str) -> Response:
        said = self._checked(request)
        open_pick = get_object_or_404(self.get_object().picks.select_related("node"), pk=said.pop("pick"))
        return self._answer(picks.release(pick=open_pick, **said, now=timezone.now()))

    def _answer(self, pick: Pick) -> Response:
        flying = picks.in_flight(balancer=pick.balancer, now=timezone.now())
        return Response(serializers.PickOut(pick, context={"in_flight": flying}).data)

    def _checked(self, request: Request, *, partial: bool = False) -> dict[str, Any]:
        serializer = self.get_serializer(data=request.data, partial=partial)
        serializer.is_valid(raise_exception=True)
        found: dict[str, Any] = serializer.validated_data
        return found
