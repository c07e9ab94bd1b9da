"""Endpoints of the agents' shared memory: by key, by prefix, by nearness. Agents see their own federation's."""

from __future__ import annotations

import math
from typing import Any
from uuid import UUID

from django.utils import timezone
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema, extend_schema_field
from rest_framework import exceptions, serializers, status
from rest_framework.request import Request
from rest_framework.response import Response

from federation import memory, vectors
from federation.api import doors
from federation.api.doors import Door
from federation.api.fields import Json
from federation.models import MemoryEntry, MemoryNamespace, MemoryVersion
from federation.models.memory import METRICS, MOST_DIMENSIONS
from sandboxes.api.fields import Flag, Strict, Text, Whole

LONGEST_TTL_SECONDS = 10 * 366 * 24 * 3600
MOST_NEIGHBOURS = 200
LARGEST = 1e30


# Shapes


@extend_schema_field({"type": "array", "items": {"type": "number"}, "minItems": 1, "maxItems": MOST_DIMENSIONS})
class Embedding(serializers.Field[Any, Any, Any, Any]):
    """So many numbers, none of them infinite."""

    def to_internal_value(self, value: Any) -> list[float]:
        if not isinstance(value, list) or not 1 <= len(value) <= MOST_DIMENSIONS:
            raise serializers.ValidationError(f"Give a list of 1 to {MOST_DIMENSIONS} numbers.")
        if not all(isinstance(each, int | float) and not isinstance(each, bool) for each in value):
            raise serializers.ValidationError("Give a list of numbers.")
        if not all(math.isfinite(each) and abs(each) <= LARGEST for each in value):
            raise serializers.ValidationError("A number of an embedding is at most 1e30.")
        return [float(each) for each in value]

    def to_representation(self, value: Any) -> Any:
        return value


def _about(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise serializers.ValidationError("Give an object.")
    return value


class NamespaceIn(Strict):
    metric = serializers.ChoiceField(METRICS, required=False, help_text="cosine when left out")
    dimension = Whole(required=False, min_value=1, max_value=MOST_DIMENSIONS, help_text="else the first embedding's")


class NamespaceOut(serializers.ModelSerializer[MemoryNamespace]):
    class Meta:
        model = MemoryNamespace
        fields = ("id", "name", "metric", "dimension", "entries", "bytes", "created_at")


class EntryIn(Strict):
    value = Json(most_bytes=memory.MOST_VALUE_BYTES, help_text="text or any other JSON")
    metadata = Json(required=False, allow_null=False, most_bytes=16 * 1024, validators=[_about])
    embedding = Embedding(required=False, allow_null=True)
    ttl_seconds = Whole(required=False, allow_null=True, min_value=1, max_value=LONGEST_TTL_SECONDS)
    version = Whole(
        required=False,
        min_value=0,
        max_value=2_000_000_000,
        help_text="write only over this one; 0: only if there is none",
    )


class EntryRow(serializers.ModelSerializer[MemoryEntry]):
    """An entry in a list or an answer to a search: without its embedding."""

    value = Json(read_only=True)
    metadata = Json(read_only=True)

    class Meta:
        model = MemoryEntry
        fields: tuple[str, ...] = (
            "key", "version", "value", "metadata", "bytes", "written_by", "created_at", "updated_at", "expires_at",
        )  # fmt: skip


class EntryOut(EntryRow):
    embedding = serializers.ListField(child=serializers.FloatField(), allow_null=True)

    class Meta(EntryRow.Meta):
        fields = (*EntryRow.Meta.fields, "embedding")


class VersionOut(serializers.ModelSerializer[MemoryVersion]):
    value = Json(read_only=True)
    metadata = Json(read_only=True)

    class Meta:
        model = MemoryVersion
        fields = ("version", "value", "metadata", "written_by", "written_at")


class VersionsOut(serializers.Serializer[Any]):
    results = VersionOut(many=True)


class SearchIn(Strict):
    embedding = Embedding(required=False)
    key = Text(required=False, max_length=200, help_text="in place of an embedding: near this entry, without it")
    k = Whole(required=False, min_value=1, max_value=MOST_NEIGHBOURS, help_text="10 when left out")
    metadata = Json(required=False, allow_null=False, most_bytes=16 * 1024, validators=[_about])
    exact = Flag(required=False, help_text="look at every entry, also of a large namespace")

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if ("embedding" in attrs) == ("key" in attrs):
            raise serializers.ValidationError({"embedding": ["Give either an embedding or a key."]})
        return attrs


class NeighbourOut(serializers.Serializer[Any]):
    distance = serializers.FloatField(help_text="by the namespace's metric; for inner_product the product, negated")
    entry = EntryRow()


class NeighboursOut(serializers.Serializer[Any]):
    results = NeighbourOut(many=True)


# Doors


class NamespaceViewSet(Door):
    serializer_class = NamespaceOut
    bodies = {"update": NamespaceIn, "search": SearchIn}
    agent_actions = frozenset({"list", "entries", "update", "destroy", "search"})
    read_actions = frozenset({"search"})

    @extend_schema(operation_id="federations_memory_namespaces", responses=NamespaceOut(many=True))
    def list(self, request: Request, pk: UUID) -> Response:
        """The namespaces of the federation's memory."""
        return Response(self.page(MemoryNamespace.objects.filter(federation=self.federation(pk)), NamespaceOut).data)

    @extend_schema(
        parameters=[
            OpenApiParameter("prefix", str, description="How the keys begin."),
            OpenApiParameter("updated_after", OpenApiTypes.DATETIME),
            *doors.CREATED,
        ],
        responses=EntryRow(many=True),
    )
    def entries(self, request: Request, pk: UUID, namespace: str) -> Response:
        """What is remembered, the newest first."""
        space = memory.namespace(federation=self.federation(pk), name=namespace)
        rows = MemoryEntry.objects.present(timezone.now()).filter(namespace=space).defer("embedding")
        if "prefix" in request.query_params:
            rows = rows.filter(key__startswith=doors.text(request, "prefix"))
        if "updated_after" in request.query_params:
            rows = rows.filter(updated_at__gte=doors.moment(request, "updated_after"))
        return Response(self.page(doors.created_between(rows, request), EntryRow).data)

    @extend_schema(operation_id="federations_memory_namespace_update", responses=NamespaceOut)
    def update(self, request: Request, pk: UUID, namespace: str) -> Response:
        """Make it, or settle its metric and dimension before the first embedding does."""
        federation, asked = self.federation(pk), self.body(request)
        space = memory.configure(federation=federation, name=namespace, now=timezone.now(), **asked)
        return Response(NamespaceOut(space).data)

    @extend_schema(operation_id="federations_memory_namespace_destroy", request=None, responses={204: None})
    def destroy(self, request: Request, pk: UUID, namespace: str) -> Response:
        """Forget everything in it."""
        memory.forget_namespace(federation=self.federation(pk), name=namespace)
        return Response(status=status.HTTP_204_NO_CONTENT)

    @extend_schema(responses=NeighboursOut)
    def search(self, request: Request, pk: UUID, namespace: str) -> Response:
        """The entries nearest to an embedding, of those whose metadata has all that is asked for."""
        asked, now = self.body(request), timezone.now()
        space = memory.namespace(federation=self.federation(pk), name=namespace)
        near = memory.read(space=space, key=asked["key"], now=now) if "key" in asked else None
        embedding = asked["embedding"] if near is None else near.embedding
        if embedding is None:
            raise exceptions.ValidationError({"key": ["This entry has no embedding."]})
        found = vectors.nearest(
            space=space,
            embedding=embedding,
            most=asked.get("k", 10),
            having=asked.get("metadata"),
            but=near.pk if near else None,
            exact=asked.get("exact", False),
            now=now,
        )
        return Response(NeighboursOut({"results": found}).data)


class EntryViewSet(Door):
    serializer_class = EntryOut
    bodies = {"update": EntryIn}
    agent_actions = frozenset({"retrieve", "update", "destroy", "versions"})

    @extend_schema(
        parameters=[OpenApiParameter("version", {"type": "integer", "minimum": 1}, description="An older one.")],
        responses=EntryOut,
    )
    def retrieve(self, request: Request, pk: UUID, namespace: str, key: str) -> Response:
        space, now = memory.namespace(federation=self.federation(pk), name=namespace), timezone.now()
        if "version" in request.query_params:
            version = doors.count(request, "version", default=1, most=2_000_000_000)
            entry = memory.read_version(space=space, key=key, version=version, now=now)
        else:
            entry = memory.read(space=space, key=key, now=now)
        return _answer(entry)

    @extend_schema(parameters=[doors.IF_MATCH], responses={200: EntryOut, 201: EntryOut})
    def update(self, request: Request, pk: UUID, namespace: str, key: str) -> Response:
        """Remember it: 201 for a new key. With `If-Match` or `version` only over that version, else 409."""
        asked = self.body(request)
        expected = _expected(request, asked.pop("version", None))
        federation = self.federation(pk)
        entry, is_new = memory.write(
            federation=federation,
            name=namespace,
            key=key,
            item=memory.Item(**asked),
            by=request.user,
            now=timezone.now(),
            expected=expected,
        )
        return _answer(entry, status.HTTP_201_CREATED if is_new else status.HTTP_200_OK)

    @extend_schema(request=None, parameters=[doors.IF_MATCH], responses={204: None})
    def destroy(self, request: Request, pk: UUID, namespace: str, key: str) -> Response:
        federation, expected = self.federation(pk), doors.version(request)
        memory.forget(federation=federation, name=namespace, key=key, now=timezone.now(), expected=expected)
        return Response(status=status.HTTP_204_NO_CONTENT)

    @extend_schema(responses=VersionsOut)
    def versions(self, request: Request, pk: UUID, namespace: str, key: str) -> Response:
        """The last few before the present one, the newest first."""
        space = memory.namespace(federation=self.federation(pk), name=namespace)
        entry = memory.read(space=space, key=key, now=timezone.now())
        return Response(VersionsOut({"results": entry.versions.order_by("-version")}).data)


def _expected(request: Request, said: int | None) -> int | None:
    by_header = doors.version(request)
    if said is not None and by_header is not None and said != by_header:
        raise exceptions.ValidationError({"version": ["It contradicts If-Match."]})
    return by_header if said is None else said


def _answer(entry: MemoryEntry, code: int = status.HTTP_200_OK) -> Response:
    return Response(EntryOut(entry).data, status=code, headers={"ETag": f'"{entry.version}"'})
