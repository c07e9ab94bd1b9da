"""Who a remote agent is: `Authorization: Bearer nta_...`, good only for its own doors."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.db.models import Q
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request

from federation import agents
from federation.models import Agent


class AgentPrincipal:
    """An agent acting. It sees its account's rows through `visible_to`; its doors narrow them to itself."""

    is_authenticated = True
    is_active = True
    is_anonymous = False
    is_staff = False

    def __init__(self, agent: Agent) -> None:
        self.agent = agent
        self.pk = agent.pk

    def __str__(self) -> str:
        return f"agent {self.agent.name}"

    def membership_filter(self, *, roles: Iterable[str] | None = None) -> Q:
        return Q(pk=self.agent.federation.account_id)

    def has_scope(self, scope: str) -> bool:
        return scope in ("federation:read", "federation:write")


class AgentTokenAuthentication(BaseAuthentication):
    def authenticate(self, request: Request) -> tuple[AgentPrincipal, str] | None:
        kind, _, token = request.headers.get("Authorization", "").partition(" ")
        if kind.lower() != "bearer" or not token.startswith(agents.TOKEN_PREFIX):
            return None
        agent = agents.by_token(token.strip())
        if agent is None:
            raise AuthenticationFailed("This agent token is unknown.")
        gone = agent.left_at or agent.availability == Agent.Availability.LOST or agent.federation.deleted_at
        if gone:
            raise agents.Gone
        request._request.account = agent.federation.account
        return AgentPrincipal(agent), token

    def authenticate_header(self, request: Request) -> str:
        return 'Bearer realm="ntd"'


class AgentTokenScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    target_class = AgentTokenAuthentication
    name = "agentToken"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        return {"type": "http", "scheme": "bearer", "description": "An agent's token: `Authorization: Bearer nta_...`"}
