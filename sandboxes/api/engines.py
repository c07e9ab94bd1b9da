"""What isolates sandboxes on each node: the operator's."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
from django.utils import timezone
from rest_framework import mixins, serializers, viewsets

from sandboxes import vitals
from scaling.models import Node


class ProbeOut(serializers.Serializer[Any]):
    engine = serializers.CharField()
    ok = serializers.BooleanField()
    reasons = serializers.ListField(child=serializers.CharField())


class EngineOut(serializers.Serializer[Any]):
    """`engine` is null where executions are refused; then `reasons` says why. A silent node has not told for long."""

    node = serializers.UUIDField()
    name = serializers.CharField()
    silent = serializers.BooleanField()
    seen_at = serializers.DateTimeField()
    engine = serializers.CharField(allow_null=True)
    since = serializers.DateTimeField(allow_null=True)
    why = serializers.CharField()
    promises = serializers.ListField(child=serializers.CharField())
    limits = serializers.DictField(child=serializers.CharField())
    languages = serializers.ListField(child=serializers.CharField())
    network = serializers.CharField()
    probes = ProbeOut(many=True)
    reasons = serializers.ListField(child=serializers.CharField())

    def to_representation(self, node: Node) -> dict[str, Any]:
        told = vitals.engine_of(node, now=timezone.now())
        facts = {name: told.said[name] for name in vitals.FACTS}
        about = {"node": node.pk, "name": told.name, "silent": told.is_silent, "seen_at": told.seen}
        return super().to_representation({**about, **facts, "since": told.since})


class EngineViewSet(mixins.ListModelMixin, viewsets.GenericViewSet[Node]):
    scope_area = "scaling"
    serializer_class = EngineOut

    def get_queryset(self) -> QuerySet[Node]:
        """Nodes whose worker has told of its engine."""
        return vitals.having_told(Node.objects.visible_to(self.request.user))
