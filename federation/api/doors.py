"""What the viewsets of this app share: who may act, query parameters, batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from django.db.models import QuerySet
from django.http import Http404
from django.shortcuts import get_object_or_404
from django.utils.dateparse import parse_datetime
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter
from rest_framework import exceptions, viewsets
from rest_framework.request import Request
from rest_framework.settings import api_settings

from billing.models import Account
from federation import agents
from federation.api.authentication import AgentPrincipal, AgentTokenAuthentication
from federation.models import Agent, Federation

LONGEST_WAIT_SECONDS = 60
WAIT = OpenApiParameter(
    "wait",
    {"type": "number", "minimum": 0, "maximum": LONGEST_WAIT_SECONDS},
    description="Seconds to hold the answer until there is something to say.",
)
IF_MATCH = OpenApiParameter("If-Match", str, OpenApiParameter.HEADER, description="The version you read.")
CREATED = [
    OpenApiParameter("created_after", OpenApiTypes.DATETIME),
    OpenApiParameter("created_before", OpenApiTypes.DATETIME),
]


class Door(viewsets.GenericViewSet[Any]):
    """A viewset of this app. `bodies` names the request serializer of each act."""

    scope_area = "federation"
    authentication_classes = [AgentTokenAuthentication, *api_settings.DEFAULT_AUTHENTICATION_CLASSES]
    bodies: dict[str, Any] = {}
    agent_actions: frozenset[str] = frozenset()
    # Posts that only read.
    read_actions: frozenset[str] = frozenset()

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        if isinstance(request.user, AgentPrincipal) and self.action not in self.agent_actions:
            raise exceptions.AuthenticationFailed("An agent token is good only for the agent's own doors.")

    def get_serializer_class(self) -> Any:
        return self.bodies.get(str(self.action), self.serializer_class)

    def body(self, request: Request) -> dict[str, Any]:
        asked = self.get_serializer(data=request.data)
        asked.is_valid(raise_exception=True)
        found: dict[str, Any] = asked.validated_data
        return found

    def federation(self, pk: UUID) -> Federation:
        found: Federation = get_object_or_404(self._doors(Federation.objects), pk=pk)
        agent = self.acting_agent()
        if agent is not None and agent.federation_id != found.pk:
            raise Http404("Not this agent's federation.")
        return found

    def agent(self, pk: UUID) -> Agent:
        """A member; an agent may name only itself."""
        rows = self._doors(Agent.objects).select_related("federation").with_running()
        found: Agent = get_object_or_404(rows, pk=pk)
        acting = self.acting_agent()
        if acting is not None and acting.pk != found.pk:
            raise Http404("Not this agent.")
        if found.left_at is not None:
            raise agents.Gone
        return found

    def acting_agent(self) -> Agent | None:
        user = self.request.user
        return user.agent if isinstance(user, AgentPrincipal) else None

    def _doors(self, rows: Any) -> Any:
        reads = self.request.method in ("GET", "HEAD", "OPTIONS") or self.action in self.read_actions
        return rows.visible_to(self.request.user) if reads else rows.editable_by(self.request.user)

    def page(self, rows: QuerySet[Any], serializer: Any) -> Any:
        found = self.paginate_queryset(rows)
        return self.get_paginated_response(serializer(found, many=True, context=self.get_serializer_context()).data)

    def problem(self, refused: Exception) -> dict[str, Any]:
        """What the same request alone would have been answered with: an item of a batch."""
        if not isinstance(getattr(refused, "code", None), str) and not isinstance(refused, exceptions.APIException):
            raise refused
        return dict(self.get_exception_handler()(refused, self.get_exception_handler_context()).data)

    def each(self, items: Sequence[Any], serializer: Any) -> list[dict[str, Any] | Exception]:
        """Each item of a batch: what it asks for, or why it is refused."""
        found: list[dict[str, Any] | Exception] = []
        # One for all: making a serializer costs several times what it does with an item.
        asked = serializer(context=self.get_serializer_context())
        for item in items:
            try:
                found.append(asked.run_validation(item))
            except Exception as refused:  # noqa: BLE001 - judged by problem(), which raises what is none
                if isinstance(getattr(refused, "detail", None), list):  # of no field
                    refused = exceptions.ValidationError({"non_field_errors": refused.detail})
                self.problem(refused)
                found.append(refused)
        return found


def acting_account(request: Request) -> Account:
    account: Account | None = request._request.account
    if account is None:
        raise exceptions.ValidationError({"account": ["You belong to no account yet."]})
    return account


def created_between(rows: Any, request: Request) -> Any:
    for name, lookup in (("created_after", "created_at__gte"), ("created_before", "created_at__lt")):
        if name in request.query_params:
            rows = rows.filter(**{lookup: moment(request, name)})
    return rows


def chosen(rows: Any, request: Request, name: str, allowed: Sequence[str]) -> Any:
    return rows.filter(**{name: one_of(request, name, allowed)}) if name in request.query_params else rows


def one_of(request: Request, name: str, allowed: Sequence[str]) -> str:
    value = str(request.query_params[name])
    if value not in allowed:
        raise exceptions.ValidationError({name: [f"Give one of {', '.join(allowed)}."]})
    return value


def moment(request: Request, name: str) -> datetime:
    """In UTC: the database takes no offset of 16 hours and more."""
    try:
        found = parse_datetime(request.query_params[name].replace(" ", "+"))
        if found is not None and found.tzinfo is not None:
            return found.astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    raise exceptions.ValidationError({name: ["Give a time such as 2026-01-31T12:00:00Z."]})


def ident(request: Request, name: str) -> UUID:
    try:
        return UUID(request.query_params.get(name, ""))
    except ValueError:
        raise exceptions.ValidationError({name: ["Give an id."]}) from None


def text(request: Request, name: str) -> str:
    value = request.query_params[name]
    if "\x00" in value or len(value) > 200:
        raise exceptions.ValidationError({name: ["Give at most 200 characters of text."]})
    return value


def flag(request: Request, name: str) -> bool:
    value = request.query_params.get(name, "false")
    if value not in ("true", "false"):
        raise exceptions.ValidationError({name: ["Give true or false."]})
    return bool(value == "true")


def seconds(request: Request, name: str = "wait") -> float:
    return _number(request, name, 0.0, LONGEST_WAIT_SECONDS, float)


def count(request: Request, name: str, *, default: int, most: int) -> int:
    return int(_number(request, name, default, most, int, least=1))


def _number(
    request: Request, name: str, default: float, most: float, kind: Callable[[str], float], least: float = 0
) -> float:
    given = request.query_params.get(name)
    if given is None:
        return default
    try:
        value = kind(given)
    except ValueError:
        value = -1
    if not least <= value <= most:
        raise exceptions.ValidationError({name: [f"Give a number from {least:g} to {most:g}."]})
    return value


def version(request: Request) -> int | None:
    """What `If-Match` names; None when anything will do."""
    given = request.headers.get("If-Match", "").strip().strip('"')
    if not given or given == "*":
        return None
    if not (given.isascii() and given.isdecimal() and len(given) < 10):
        raise exceptions.ValidationError({"If-Match": ["Give the version as a number."]})
    return int(given)
